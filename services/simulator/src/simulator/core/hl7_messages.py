"""The messages that a practice's systems send: one row per kind, with its segments and how often it comes.

Composed from the same synthetic patients and appointments as the FHIR server answers with, so identifiers agree. Sizes
are as in the field: registration messages of 1 to 3 KB with insurance and allergies, results of several KB, documents
of tens of KB. HL7 v2.5.1: chapters 3 (ADT), 4 (ORM, VXU in 4A), 6 (DFT), 7 (ORU), 9 (MDM), 10 (SIU).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from simulator.core.chance import below, choice, number, percent
from simulator.core.hl7_feed import booking_of, components, doctor_of, msh_of, pid_of, pv1_of, segment_of, timestamp
from simulator.core.practice import Appointment, Patient, Practice

DOCUMENT_BYTES_MAX: Final = 60_000
_ALLERGIES: Final = (("70618", "Penicillin"), ("1191", "Aspirin"), ("2670", "Codeine"), ("4053", "Erythromycin"))
_DIAGNOSES: Final = (("E11.9", "Type 2 diabetes"), ("I10", "Hypertension"), ("J06.9", "Upper respiratory infection"))
_PAYERS: Final = (("1001", "Prairie Health Plan"), ("1002", "Lakes Mutual"), ("1003", "Union Benefit Fund"))
_VACCINES: Final = (("140", "Influenza, preservative free"), ("115", "Tdap"), ("133", "PCV 13"), ("03", "MMR"))
_TESTS: Final = (
    ("2345-7", "Glucose", "mg/dL", 70, 110), ("2160-0", "Creatinine", "mg/dL", 1, 2),
    ("2951-2", "Sodium", "mmol/L", 135, 145),
    ("2823-3", "Potassium", "mmol/L", 3, 5), ("718-7", "Hemoglobin", "g/dL", 12, 17),
    ("6690-2", "Leukocytes", "10*3/uL", 4, 11),
    ("777-3", "Platelets", "10*3/uL", 150, 400),
    ("17861-6", "Calcium", "mg/dL", 8, 10), ("2085-9", "HDL", "mg/dL", 40, 60),
)  # fmt: skip
_SENTENCE: Final = "Seen today in the synthetic practice, no acute distress, plan discussed and follow-up agreed. "


@dataclass(frozen=True, slots=True)
class Scene:
    """What one message is about. `seed` decides everything that is left to chance."""

    practice: Practice
    patient: Patient
    appointment: Appointment
    seed: int
    now: datetime
    control_id: str

    @property
    def at(self) -> str:
        """When it happened, as a DTM."""
        return timestamp(self.now, self.practice)

    def doctor(self) -> str:
        """The patient's doctor, as an XCN."""
        return doctor_of(self.practice.practitioners[self.patient.practitioner])

    def order_number(self) -> str:
        """A placer's order number."""
        return components(f"{number(self.seed, 'order') % 10**9}", "EPC")


Part = Callable[[Scene], Sequence[str]]


def _pid(scene: Scene) -> Sequence[str]:
    return (pid_of(scene.patient, frozenset()),)


def _visit(patient_class: str) -> Part:
    def visit(scene: Scene) -> Sequence[str]:
        doctor = scene.practice.practitioners[scene.patient.practitioner]
        place = scene.practice.locations[scene.appointment.location]
        return (pv1_of(patient_class, doctor, place, scene.at),)

    return visit


def _next_of_kin(scene: Scene) -> Sequence[str]:
    count = below(3, scene.seed, "kin")
    return [
        segment_of("NK1", {
            1: str(place),
            2: components(scene.patient.family, choice(("Alex", "Robin", "Kim"), scene.seed, "kin", place)),
            3: choice(("SPO^Spouse", "MTH^Mother", "FTH^Father"), scene.seed, "kinship", place),
            5: components(f"312-555-01{below(100, scene.seed, 'kin-phone', place):02d}", "PRN", "PH"),
        })
        for place in range(1, count + 1)
    ]  # fmt: skip


def _allergies(scene: Scene) -> Sequence[str]:
    count = below(4, scene.seed, "allergies")
    return [
        segment_of("AL1", {1: str(place), 2: "DA", 3: components(*_ALLERGIES[place], "RXNORM"), 4: "MO"})
        for place in range(1, count + 1)
        if place < len(_ALLERGIES)
    ]


def _diagnoses(scene: Scene) -> Sequence[str]:
    count = 1 + below(len(_DIAGNOSES), scene.seed, "diagnoses")
    return [
        segment_of("DG1", {1: str(place), 3: components(*row, "I10"), 5: scene.at, 6: "W"})
        for place, row in enumerate(_DIAGNOSES[:count], 1)
    ]


def _insurance(scene: Scene) -> Sequence[str]:
    address = scene.patient.address
    home = components(address.line, "", address.city, address.state, address.postal_code, "USA", "H") if address else ""
    name = components(scene.patient.family, scene.patient.given[0])
    payer_id = scene.patient.guarantor or scene.patient.id
    paying = scene.patient if payer_id == scene.patient.id else scene.practice.patients[payer_id]
    kinship = "SEL^Self" if paying is scene.patient else "SIB^Sibling"
    who = components(paying.family, paying.given[0])
    guarantor = segment_of("GT1", {1: "1", 3: who, 5: home, 10: "P", 11: kinship})
    plans = 1 + percent(25, scene.seed, "second-plan")
    rows = [guarantor]
    for place in range(1, plans + 1):
        code, payer = choice(_PAYERS, scene.seed, "payer", place)
        rows.append(segment_of("IN1", {
            1: str(place), 2: components(code, payer), 3: code, 4: payer,
            8: f"G{number(scene.seed, 'group', place) % 10**6:06d}", 12: "20260101", 16: name, 17: "SEL^Self", 19: home,
            36: f"M{number(scene.seed, 'member', scene.patient.id, place) % 10**9:09d}",
        }))  # fmt: skip
    return rows


def _merge(scene: Scene) -> Sequence[str]:
    """The record that ends: one that ended in this patient's, else a number which the practice gave to nobody."""
    ended = [scene.practice.patients[one].mrn for one in scene.patient.replaces if one in scene.practice.patients]
    retired = ended[-1] if ended else f"9{number(scene.seed, 'retired') % 10**6:06d}"
    return (segment_of("MRG", {1: components(retired, "", "", "EPIC", "MR")}),)


def _charge(scene: Scene) -> Sequence[str]:
    code, display = scene.appointment.visit_type
    fee = f"{80 + below(220, scene.seed, 'fee')}.00"
    fields = {
        1: "1", 4: timestamp(scene.appointment.start, scene.practice), 5: scene.at, 6: "CG",
        7: components(code, display), 10: "1", 11: fee, 19: components(*_DIAGNOSES[0], "I10"), 20: scene.doctor(),
        25: components(choice(("99213", "99214", "99203"), scene.seed, "cpt"), "Office visit", "C4"),
    }  # fmt: skip
    return (segment_of("FT1", fields),)


def _order(control: str) -> Part:
    def order(scene: Scene) -> Sequence[str]:
        return (segment_of("ORC", {1: control, 2: scene.order_number(), 9: scene.at, 12: scene.doctor()}),)

    return order


def _requested(scene: Scene) -> Sequence[str]:
    test = components("24323-8", "Comprehensive metabolic panel", "LN")
    fields = {1: "1", 2: scene.order_number(), 4: test, 6: scene.at, 16: scene.doctor()}
    return (segment_of("OBR", fields),)


def _results(scene: Scene) -> Sequence[str]:
    drawn = timestamp(scene.now - timedelta(hours=3), scene.practice)
    panel = components("24323-8", "Comprehensive metabolic panel", "LN")
    fields = {
        1: "1", 2: scene.order_number(), 3: components(f"L{number(scene.seed, 'filler') % 10**8}", "LAB"), 4: panel,
        7: drawn, 16: scene.doctor(), 22: scene.at, 25: "F",
    }  # fmt: skip
    rows = [segment_of("OBR", fields)]
    for place in range(1, 6 + below(25, scene.seed, "results")):
        code, name, unit, low, high = _TESTS[place % len(_TESTS)]
        value = low + below((high - low) * 13 // 10 + 1, scene.seed, "value", place)
        rows.append(segment_of("OBX", {
            1: str(place), 2: "NM", 3: components(code, name, "LN"), 5: str(value), 6: unit, 7: f"{low}-{high}",
            8: "H" if value > high else "", 11: "F", 14: drawn,
        }))  # fmt: skip
        if percent(20, scene.seed, "note", place):
            rows.append(segment_of("NTE", {1: "1", 2: "L", 3: _SENTENCE.strip()}))
    return rows


def _document(scene: Scene) -> Sequence[str]:
    size = 2_000 + below(DOCUMENT_BYTES_MAX - 2_000, scene.seed, "document")
    text = (_SENTENCE * (size // len(_SENTENCE) + 1))[:size].encode()
    about = {
        1: "1", 2: "PN", 3: "AP", 4: scene.at, 6: scene.at, 9: scene.doctor(),
        12: components(f"D{number(scene.seed, 'document-id') % 10**9}"), 17: "AU", 19: "AV",
    }  # fmt: skip
    held = {
        1: "1", 2: "ED", 3: components("11506-3", "Progress note", "LN"),
        5: components("", "TEXT", "plain", "Base64", base64.b64encode(text).decode()), 11: "F",
    }  # fmt: skip
    return segment_of("TXA", about), segment_of("OBX", held)


def _vaccinations(scene: Scene) -> Sequence[str]:
    rows: list[str] = []
    for place in range(1 + below(5, scene.seed, "vaccinations")):
        code, name = choice(_VACCINES, scene.seed, "vaccine", place)
        rows.append(segment_of("ORC", {1: "RE", 3: components(f"V{number(scene.seed, 'dose', place) % 10**8}", "EPC")}))
        rows.append(segment_of("RXA", {
            1: "0", 2: "1", 3: scene.at, 4: scene.at, 5: components(code, name, "CVX"), 6: "0.5",
            7: "mL", 10: scene.doctor(),
            15: f"L{below(10_000, scene.seed, 'lot', place)}", 17: components("PMC", "Sanofi Pasteur", "MVX"), 20: "CP",
        }))  # fmt: skip
        rows.append(segment_of("RXR", {1: "IM^Intramuscular^HL70162", 2: "LD^Left Deltoid^HL70163"}))
    return rows


def _booked(status: str) -> Part:
    def booked(scene: Scene) -> Sequence[str]:
        row = scene.appointment
        doctor, place = scene.practice.practitioners[row.practitioner], scene.practice.locations[row.location]
        return booking_of(scene.practice, scene.patient, row, doctor, place, frozenset(), scene.at, status)

    return booked


@dataclass(frozen=True, slots=True)
class FeedKind:
    """A kind of message: MSH-9 in parts, what stands behind MSH (and EVN), and its weight in an ordinary feed."""

    name: str
    structure: str
    parts: tuple[Part, ...]
    weight: int
    evn: bool = False


_PERSON: Final[tuple[Part, ...]] = (_pid, _next_of_kin)
_COVER: Final[tuple[Part, ...]] = (_allergies, _diagnoses, _insurance)


def _adt(event: str, structure: str, weight: int, patient_class: str, *rest: Part) -> FeedKind:
    parts = (*(_PERSON if rest else (_pid,)), _visit(patient_class), *rest)
    return FeedKind(f"ADT^{event}", structure, parts, weight, evn=True)


FEED_KINDS: Final[dict[str, FeedKind]] = {
    row.name: row
    for row in (
        _adt("A01", "ADT_A01", 20, "I", *_COVER),
        _adt("A02", "ADT_A02", 10, "I"),
        _adt("A03", "ADT_A03", 20, "I"),
        _adt("A04", "ADT_A01", 120, "O", *_COVER),
        _adt("A05", "ADT_A05", 20, "P", *_COVER),
        _adt("A06", "ADT_A06", 3, "I"),
        _adt("A07", "ADT_A06", 3, "O"),
        _adt("A08", "ADT_A01", 300, "O", *_COVER),
        _adt("A11", "ADT_A09", 6, "O"),
        _adt("A12", "ADT_A09", 2, "I"),
        _adt("A13", "ADT_A01", 2, "I", *_COVER),
        _adt("A28", "ADT_A05", 25, "N", *_COVER),
        _adt("A31", "ADT_A05", 90, "N", *_COVER),
        FeedKind("ADT^A34", "ADT_A30", (_pid, _merge), 1, evn=True),
        FeedKind("ADT^A40", "ADT_A39", (_pid, _merge), 3, evn=True),
        FeedKind("SIU^S12", "SIU_S12", (_booked("Booked"),), 90),
        FeedKind("SIU^S13", "SIU_S12", (_booked("Booked"),), 20),
        FeedKind("SIU^S14", "SIU_S12", (_booked("Booked"),), 45),
        FeedKind("SIU^S15", "SIU_S12", (_booked("Cancelled"),), 20),
        FeedKind("SIU^S16", "SIU_S12", (_booked("Discontinued"),), 2),
        FeedKind("SIU^S17", "SIU_S12", (_booked("Deleted"),), 2),
        FeedKind("SIU^S26", "SIU_S12", (_booked("Noshow"),), 8),
        FeedKind("DFT^P03", "DFT_P03", (_pid, _visit("O"), _charge, _insurance), 60, evn=True),
        FeedKind("ORU^R01", "ORU_R01", (_pid, _visit("O"), _order("RE"), _results), 80),
        FeedKind("ORM^O01", "ORM_O01", (_pid, _visit("O"), _order("NW"), _requested), 30),
        FeedKind("MDM^T02", "MDM_T02", (_pid, _visit("O"), _document), 15, evn=True),
        FeedKind("VXU^V04", "VXU_V04", (_pid, _vaccinations), 10),
    )
}


def compose_kind(kind: FeedKind, scene: Scene) -> bytes:
    """One message in UTF-8."""
    rows = [msh_of(f"{kind.name}^{kind.structure}", scene.practice, scene.at, scene.control_id)]
    if kind.evn:
        rows.append(segment_of("EVN", {1: kind.name[-3:], 2: scene.at}))
    for part in kind.parts:
        rows += part(scene)
    return "".join(f"{row}\r" for row in rows).encode()
