"""HL7 v2.5.1 messages about the same synthetic patients: ADT A01, A04, A08 and SIU S12, and the reading of their
acknowledgements.

Written without the suite's own HL7 library on purpose: a peer that shared its code would share its mistakes.
Chapters of HL7 v2.5.1: 2 (control), 3 (ADT), 10 (scheduling).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from simulator.core.practice import Address, Appointment, Location, Patient, Practice, Practitioner

ASSIGNING_AUTHORITY: Final = "EPIC"
SENDING_APPLICATION: Final = "EPIC"
VERSION: Final = "2.5.1"
CHARACTER_SET: Final = "UNICODE UTF-8"
START_BLOCK: Final = b"\x0b"
END_BLOCK: Final = b"\x1c\r"
USUAL_DELIMITERS: Final = "|^~\\&"
NULL: Final = '""'
_CSN_OID: Final = "1.2.840.114350.1.13.0.1.7.3.698084.8"
_ESCAPES: Final = str.maketrans(
    {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\r": "\\X0D\\", "\n": "\\X0A\\"}
)
_SEX: Final = {"female": "F", "male": "M", "other": "O", "unknown": "U"}


class MessageKind(StrEnum):
    """What can be sent."""

    ADMIT = "ADT^A01"
    REGISTER = "ADT^A04"
    UPDATE = "ADT^A08"
    BOOK = "SIU^S12"


_STRUCTURES: Final = {
    MessageKind.ADMIT: "ADT_A01",
    MessageKind.REGISTER: "ADT_A01",
    MessageKind.UPDATE: "ADT_A01",
    MessageKind.BOOK: "SIU_S12",
}


def escape(text: str) -> str:
    """Text as it may stand in a component (chapter 2, §2.7)."""
    return text.translate(_ESCAPES)


def timestamp(instant: datetime, practice: Practice) -> str:
    """Local time with its offset, to the second (data type DTM)."""
    return instant.astimezone(practice.zone).strftime("%Y%m%d%H%M%S%z")


def compose(
    kind: MessageKind,
    practice: Practice,
    patient: Patient,
    *,
    now: datetime,
    control_id: str,
    cleared: frozenset[str] = frozenset(),
    appointment: Appointment | None = None,
) -> bytes:
    """One message in UTF-8. A field named in `cleared` is sent as null (`""`): the receiver should delete it.

    Raises ValueError for a booking without an appointment.
    """
    if kind is MessageKind.BOOK and appointment is None:
        raise ValueError("SIU S12 needs an appointment")
    sent = timestamp(now, practice)
    segments = [msh_of(f"{kind.value}^{_STRUCTURES[kind]}", practice, sent, control_id)]
    doctor = practice.practitioners[patient.practitioner]
    place = next(iter(practice.locations.values()))
    if appointment is None:
        segments.append(segment_of("EVN", {1: kind.value[-3:], 2: sent}))
        segments.append(pid_of(patient, cleared))
        segments.append(pv1_of("I" if kind is MessageKind.ADMIT else "O", doctor, place, sent))
    else:
        doctor, place = practice.practitioners[appointment.practitioner], practice.locations[appointment.location]
        segments += booking_of(practice, patient, appointment, doctor, place, cleared, sent)
    return "".join(f"{segment}\r" for segment in segments).encode()


def frame(message: bytes) -> bytes:
    """The message in MLLP's blocks."""
    return START_BLOCK + message + END_BLOCK


def with_delimiters(message: bytes, delimiters: str) -> bytes:
    """The message in five other delimiters (MSH-1 and MSH-2); where one of them was text, a hyphen stands now."""
    usual, wanted = USUAL_DELIMITERS.encode(), delimiters.encode()
    foreign = bytes(set(wanted) - set(usual))
    return message.translate(bytes.maketrans(foreign + usual, b"-" * len(foreign) + wanted))


def segment_of(name: str, fields: dict[int, str]) -> str:
    """A segment from its fields by number; trailing empty ones are left out."""
    last = max((number for number, value in fields.items() if value), default=0)
    return "|".join([name, *(fields.get(number, "") for number in range(1, last + 1))])


def components(*parts: str) -> str:
    """Components, escaped; trailing empty ones are left out."""
    return "^".join(map(escape, parts)).rstrip("^")


def msh_of(message_type: str, practice: Practice, sent: str, control_id: str) -> str:
    """The header; `message_type` is MSH-9 whole."""
    # MSH-1 is the separator itself, so the fields after the name begin with MSH-2.
    fields = {
        1: "^~\\&",
        2: SENDING_APPLICATION,
        3: escape(practice.name.upper()),
        4: "PRACTICE_STUDIO",
        5: "INTEGRATIONS",
        6: sent,
        8: message_type,
        9: escape(control_id),
        10: "P",
        11: VERSION,
        16: "USA",
        17: CHARACTER_SET,
    }
    return segment_of("MSH", fields)


def pid_of(patient: Patient, cleared: frozenset[str]) -> str:
    """The patient; a field of `cleared` without a value is null."""
    name = components(patient.family, patient.given[0] if patient.given else "", " ".join(patient.given[1:]))
    homes = [_home_of(patient.address, "H")] if patient.address else []
    if patient.former_address:
        # A former address has the type "bad address" (HL7 table 0190); XAD-14 is the day it ended.
        ended = f"{patient.moved_on:%Y%m%d}" if patient.moved_on else ""
        homes.append(f"{_home_of(patient.former_address, 'BA')}{'^' * 7}{ended}".rstrip("^"))
    phones = [components(patient.phone, "PRN", "PH")] if patient.phone else []
    if patient.email:
        phones.append(components("", "NET", "Internet", patient.email))
    fields = {
        1: "1",
        3: components(patient.mrn, "", "", ASSIGNING_AUTHORITY, "MR"),
        5: f"{name}{'^' * (6 - name.count('^'))}L",
        7: patient.birth_date.strftime("%Y%m%d") if patient.birth_date else "",
        8: _SEX.get(patient.sex, "U"),
        11: "~".join(homes),
        13: "~".join(phones),
    }
    for number, named in ((7, {"birth_date"}), (11, {"address"}), (13, {"phone", "email"})):
        if not fields[number] and cleared & named:
            fields[number] = NULL
    return segment_of("PID", fields)


def _home_of(address: Address, kind: str) -> str:
    return components(address.line, "", address.city, address.state, address.postal_code, "USA", kind)


def doctor_of(doctor: Practitioner) -> str:
    """A member of the staff (data type XCN)."""
    return components(doctor.npi, doctor.family, doctor.given, "", "", "", doctor.suffix, "", "NPI")


def pv1_of(patient_class: str, doctor: Practitioner, place: Location, sent: str) -> str:
    """The visit; `patient_class` of HL7 table 0004."""
    return segment_of("PV1", {1: "1", 2: patient_class, 3: components(place.code), 7: doctor_of(doctor), 44: sent})


def booking_of(
    practice: Practice,
    patient: Patient,
    row: Appointment,
    doctor: Practitioner,
    place: Location,
    cleared: frozenset[str],
    sent: str,
    status: str = "Booked",
) -> list[str]:
    """The segments of a scheduling message behind MSH; `status` of HL7 table 0278."""
    code, display = row.visit_type
    start, end = timestamp(row.start, practice), timestamp(row.end, practice)
    number = components(row.csn, "EPC", _CSN_OID, "ISO")
    minutes = str(row.minutes)
    visit_type = components(code, display)
    scheduling = {
        1: number,
        2: number,
        6: components(status.upper(), status),
        7: components("", row.reason) if row.reason else "",
        8: visit_type,
        9: minutes,
        10: "min^minutes",
        11: f"^^{minutes}^{start}^{end}",
        16: doctor_of(doctor),
        20: doctor_of(doctor),
        25: status,
    }
    return [
        segment_of("SCH", scheduling),
        pid_of(patient, cleared),
        pv1_of("O", doctor, place, sent),
        segment_of("RGS", {1: "1", 2: "A"}),
        segment_of("AIS", {1: "1", 2: "A", 3: visit_type, 4: start, 7: minutes, 8: "min^minutes"}),
        segment_of("AIL", {1: "1", 2: "A", 3: components(place.code), 6: start, 9: minutes, 10: "min^minutes"}),
        segment_of("AIP", {1: "1", 2: "A", 3: doctor_of(doctor), 6: start, 9: minutes, 10: "min^minutes"}),
    ]


@dataclass(frozen=True, slots=True)
class Acknowledgment:
    """MSA-1, MSA-2, and the error codes of ERR-3 where there are some."""

    code: str
    control_id: str
    errors: tuple[str, ...] = ()


def read_acknowledgment(message: bytes) -> Acknowledgment | None:
    """The acknowledgement that a message holds; None when it is none."""
    if not message.startswith(b"MSH") or len(message) < 8:
        return None
    separator, component = chr(message[3]), chr(message[4])
    rows = [line.split(separator) for line in message.decode("utf-8", "replace").replace("\n", "\r").split("\r")]
    msa = next((row for row in rows if row[0] == "MSA"), None)
    if msa is None or not _field(msa, 1):
        return None
    errors = tuple(_field(row, 3).split(component)[0] for row in rows if row[0] == "ERR" and _field(row, 3))
    return Acknowledgment(_field(msa, 1), _field(msa, 2), errors)


def _field(row: Sequence[str], number: int) -> str:
    return row[number] if number < len(row) else ""
