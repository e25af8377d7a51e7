"""ADT and SIU → what they carry, by example and with any bytes."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.models.identifier_systems import IdentifierSystem
from sync.core.hl7_mapping import MappedMessage, map_message, supported
from sync.core.hl7_message import parse, time_reader
from sync.core.rejection import Rejection

CHICAGO = ZoneInfo("America/Chicago")
MRN = "urn:oid:1.2.3"
SYSTEMS = (IdentifierSystem("EPIC", MRN), IdentifierSystem("", MRN))
NPI = {"value": "123", "assigner": "NPI"}
PID = (
    "PID|1||4711^^^EPIC^MR~99^^^OTHER^AN||Núñez^Ana^María Luz^^Dr^^L||19700517|F|||1 Elm^^Chicago^IL^60601^USA^H"
    "||555-0100^PRN^PH~^NET^Internet^ana@example.org|555-0200^WPN^PH"
)
SCH = (
    "SCH|77^EPC^1.2.4^ISO|77^EPC^1.2.4^ISO||||BOOKED^Booked|^cough|OV^Office visit|15|min^minutes"
    "|^^15^20260308090000^20260308091500|||||||||||||||Booked"
)


def mapped(trigger: str, *segments: str, systems: tuple[IdentifierSystem, ...] = SYSTEMS) -> MappedMessage:
    kind = "SIU" if trigger.startswith("S") else "ADT"
    msh = f"MSH|^~\\&|EPIC|DEMO|PS|HERE|20260301093000-0500||{kind}^{trigger}|1|P|2.5.1|||||||UNICODE UTF-8"
    body = "\r".join((msh, *segments, "")).encode()
    return map_message(parse(body), kind, trigger, systems, time_reader(CHICAGO))


def test_an_adt_carries_the_patient() -> None:
    found = mapped("A08", "EVN|A08|20260301093000", PID)
    assert found.rejection is None
    assert found.written_at == datetime(2026, 3, 1, 14, 30, tzinfo=UTC)
    (update,) = found.updates
    assert update.partial
    assert update.record.document() == {
        "identifiers": [
            {"type": "MR", "system": MRN, "value": "4711"},
            {"type": "AN", "value": "99", "assigner": "OTHER"},
        ],
        "names": [{"use": "official", "family": "Núñez", "given": ["Ana", "María", "Luz"], "prefix": ["Dr"]}],
        "telecom": [
            {"system": "phone", "value": "555-0100", "use": "home"},
            {"system": "email", "value": "ana@example.org"},
            {"system": "phone", "value": "555-0200", "use": "work"},
        ],
        "gender": "female",
        "birth_date": "1970-05-17",
        "addresses": [
            {
                "use": "home",
                "line": ["1 Elm"],
                "city": "Chicago",
                "state": "IL",
                "postal_code": "60601",
                "country": "USA",
            }
        ],
    }
    assert update.carried == {"identifiers", "names", "telecom", "gender", "birth_date", "addresses"}
    assert update.groups == {"identifiers": {MRN, ""}, "telecom": {"personal", "work"}}


def test_absent_carries_nothing_and_null_clears() -> None:
    (update,) = mapped("A31", 'PID|1||4711^^^EPIC^MR||""||""||||""||""').updates
    assert update.carried == {"identifiers", "telecom"}
    assert update.cleared == {"names", "birth_date", "addresses"}
    assert update.groups["telecom"] == {"personal"}


@pytest.mark.parametrize(
    ("segments", "rejection"),
    [
        ((), Rejection("hl7.field-missing", "PID", "absent")),
        (("PID|1||||X",), Rejection("hl7.field-missing", "PID-3", "absent")),
        (("PID|1||4711^^^UNKNOWN^MR||X",), Rejection("hl7.authority-unmapped", "PID-3.4", "text")),
        (("PID|1||4711^^^EPIC||X||17051970x",), Rejection("record.invalid", "PID-7", "text")),
        (("PID|1||4711^^^EPIC||X||19701350",), Rejection("record.invalid", "birth_date", "text")),
        (("PID|1||4711^^^EPIC||X|||Q",), Rejection("record.invalid", "PID-8", "text")),
    ],
)
def test_what_can_not_be_mapped_is_named(segments: tuple[str, ...], rejection: Rejection) -> None:
    found = mapped("A08", *segments)
    assert found.updates == ()
    assert found.rejection == rejection


def test_a_universal_id_needs_no_row() -> None:
    (update,) = mapped("A04", "PID|1||4711^^^&1.9.9&ISO^MR||X").updates
    assert update.record.document()["identifiers"] == [{"type": "MR", "system": "urn:oid:1.9.9", "value": "4711"}]


def test_an_siu_carries_patient_and_appointment() -> None:
    resources = (
        "RGS|1|A",
        "AIS|1|A|OV^Office visit|20260308090000",
        "AIL|1|A|ROOM1^^^CLINIC",
        "AIP|1|A|123^Whitfield^Eleanor^^^^MD^^NPI",
        "AIP|2|D|124^Gone^Away",
    )
    found = mapped("S12", SCH, PID, *resources)
    assert found.rejection is None
    patient, appointment = found.updates
    assert patient.record.TYPE == "patient"
    assert appointment.record.document() == {
        "identifiers": [{"system": "urn:oid:1.2.4", "value": "77"}],
        "status": "booked",
        "appointment_type": {"coding": [{"code": "OV", "display": "Office visit"}]},
        "reason_codes": [{"text": "cough"}],
        # The clocks of Chicago went forward at two that morning.
        "start": "2026-03-08T14:00:00.000Z",
        "start_offset": "-05:00",
        "end": "2026-03-08T14:15:00.000Z",
        "end_offset": "-05:00",
        "minutes_duration": 15,
        "participants": [
            {"actor": {"type": "Patient", "identifier": {"type": "MR", "system": MRN, "value": "4711"}}},
            {"actor": {"type": "Practitioner", "identifier": NPI, "display": "Eleanor Whitfield"}},
            {"actor": {"type": "Location", "identifier": {"value": "ROOM1", "assigner": "CLINIC"}}},
        ],
    }  # fmt: skip
    assert appointment.groups["participants"] == {"Patient", "Practitioner", "Location"}


@pytest.mark.parametrize(
    ("trigger", "filler_status", "status"),
    [
        ("S12", "", "booked"),
        ("S13", "", "booked"),
        ("S14", "", None),
        ("S15", "", "cancelled"),
        ("S14", "Noshow", "noshow"),
        ("S16", "", "cancelled"),
        ("S17", "", "entered-in-error"),
        ("S26", "", "noshow"),
    ],
)
def test_the_status_comes_from_sch_25_or_the_trigger(trigger: str, filler_status: str, status: str | None) -> None:
    sch = f"SCH|77^EPC^1.2.4^ISO|||||PATIENT^Patient asked|||||||||||||||||||{filler_status}"
    (update,) = mapped(trigger, sch).updates
    assert update.record.document().get("status") == status
    assert ("cancelation_reason" in update.carried) is (trigger in {"S15", "S16", "S17"})


def test_the_end_follows_from_a_duration_with_a_unit_only() -> None:
    (with_unit,) = mapped("S12", "SCH|77^EPC^1.2.4^ISO||||||||30|MIN|^^^20260601090000-0500").updates
    assert with_unit.record.document()["end"] == "2026-06-01T14:30:00.000Z"
    (without,) = mapped("S12", "SCH|77^EPC^1.2.4^ISO||||||||30||^^^20260601090000-0500").updates
    assert "end" not in without.carried


@pytest.mark.parametrize(
    ("sch", "rejection"),
    [
        ("SCH||", Rejection("hl7.field-missing", "SCH-2", "absent")),
        # A number without any authority is not a patient's: the row for those does not count here.
        ("SCH|77", Rejection("hl7.authority-unmapped", "SCH-2.2", "text")),
        ("SCH|77^EPC^1.2.4^ISO||||||||||^^^tomorrow", Rejection("record.invalid", "SCH-11.4", "text")),
        # Half past two was skipped that night.
        ("SCH|77^EPC^1.2.4^ISO||||||||||^^^20260308023000", Rejection("record.invalid", "SCH-11.4", "text")),
    ],
)
def test_an_appointment_that_can_not_be_mapped_leaves_the_patient(sch: str, rejection: Rejection) -> None:
    found = mapped("S12", sch, PID)
    assert [update.record.TYPE for update in found.updates] == ["patient"]
    assert found.rejection == rejection


def test_what_is_applied_is_a_table() -> None:
    assert supported("ADT", "A08")
    assert supported("SIU", "S15")
    assert supported("ADT", "A13")
    assert supported("SIU", "S26")
    assert supported("ADT", "A40")
    assert supported("DFT", "P03")
    assert not supported("ADT", "A37")
    assert not supported("ORU", "R01")


@given(st.sampled_from(["A01", "S12"]), st.lists(st.text(max_size=40), max_size=3))
def test_whatever_stands_in_a_message_is_mapped_or_rejected(trigger: str, texts: list[str]) -> None:
    segments = [name + text.replace("\r", "|") for name, text in zip(("PID|", "SCH|", "AIP|"), texts, strict=False)]
    found = mapped(trigger, *segments)
    assert found.rejection is not None or found.updates
