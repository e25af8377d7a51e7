"""The HL7 feed, read by a foreign parser (python-hl7)."""

from dataclasses import replace
from datetime import UTC, date, datetime

import hl7
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.core.change import change_patient, new_appointment
from simulator.core.chart import Chart
from simulator.core.hl7_feed import MessageKind, compose, escape, frame, read_acknowledgment
from simulator.core.practice import make_practice

NOW = datetime(2026, 3, 6, 15, 0, 1, tzinfo=UTC)  # a Friday
PRACTICE = make_practice("demo", 7, patients=40)
PATIENT = next(iter(PRACTICE.patients.values()))


def parse(message: bytes) -> hl7.Message:
    return hl7.parse(message.decode())


@pytest.mark.parametrize("kind", [MessageKind.ADMIT, MessageKind.REGISTER, MessageKind.UPDATE])
def test_adt(kind: MessageKind) -> None:
    message = parse(compose(kind, PRACTICE, PATIENT, now=NOW, control_id="c1"))
    assert [str(segment[0]) for segment in message] == ["MSH", "EVN", "PID", "PV1"]
    msh = message.segment("MSH")
    assert [str(msh[number]) for number in (3, 4, 9, 10, 11, 12, 18)] == [
        "EPIC", "DEMO", f"{kind.value}^ADT_A01", "c1", "P", "2.5.1", "UNICODE UTF-8",
    ]  # fmt: skip
    assert str(msh[7]) == "20260306090001-0600"
    pid = message.segment("PID")
    assert str(pid[3]) == f"{PATIENT.mrn}^^^EPIC^MR"
    assert message["PID.F5.R1.C1"] == PATIENT.family
    assert message["PID.F5.R1.C2"] == PATIENT.given[0]
    assert message["PID.F5.R1.C7"] == "L"
    assert str(pid[7]) == PATIENT.birth_date.strftime("%Y%m%d")
    assert str(message.segment("EVN")[1]) == kind.value[-3:]
    assert str(message.segment("PV1")[2]) == ("I" if kind is MessageKind.ADMIT else "O")


def test_siu() -> None:
    chart = Chart(PRACTICE)
    row = new_appointment(chart, PATIENT, start=None, minutes=30, now=NOW)
    assert row.start == datetime(2026, 3, 9, 15, 0, tzinfo=UTC), (
        "ten o'clock in Chicago on Monday, after the change of the clocks"
    )
    message = parse(compose(MessageKind.BOOK, PRACTICE, PATIENT, now=NOW, control_id="c2", appointment=row))
    assert [str(segment[0]) for segment in message] == ["MSH", "SCH", "PID", "PV1", "RGS", "AIS", "AIL", "AIP"]
    sch = message.segment("SCH")
    assert str(sch[2]) == f"{row.csn}^EPC^1.2.840.114350.1.13.0.1.7.3.698084.8^ISO"
    assert str(sch[11]) == "^^30^20260309100000-0500^20260309103000-0500"
    assert str(message.segment("MSH")[9]) == "SIU^S12^SIU_S12"
    chart.book(row)
    assert row in chart.appointments(date(2026, 3, 9), date(2026, 3, 9))


def test_a_booking_needs_an_appointment() -> None:
    with pytest.raises(ValueError, match="appointment"):
        compose(MessageKind.BOOK, PRACTICE, PATIENT, now=NOW, control_id="c")


def test_a_value_that_was_taken_away_is_sent_as_null() -> None:
    with_phone = replace(PATIENT, phone="312-555-0100", email=None)
    changed = change_patient(with_phone, {"phone": None, "birth_date": None, "family": "Łęcki"})
    assert changed.cleared == {"phone", "birth_date"}
    message = parse(
        compose(MessageKind.UPDATE, PRACTICE, changed.patient, now=NOW, control_id="c", cleared=changed.cleared)
    )
    pid = message.segment("PID")
    assert (str(pid[7]), str(pid[13])) == ('""', '""')
    assert message["PID.F5.R1.C1"] == "Łęcki"


@pytest.mark.parametrize("changes", [{"mrn": "1"}, {"family": None}, {"given": None}, {"sex": None}])
def test_changes_that_cannot_be(changes: dict) -> None:
    with pytest.raises(ValueError, match="a patient"):
        change_patient(PATIENT, changes)


def test_parts_of_an_address_change() -> None:
    changed = change_patient(PATIENT, {"address": {"city": "Evanston"}}).patient
    assert changed.address.city == "Evanston"
    assert changed.address.line == PATIENT.address.line


@given(st.text(st.characters(codec="utf-8", exclude_characters="\x0b\x1c"), min_size=1, max_size=30))
def test_no_text_breaks_out_of_its_component(text: str) -> None:
    message = compose(MessageKind.UPDATE, PRACTICE, replace(PATIENT, family=text), now=NOW, control_id="c")
    rows = message.decode().rstrip("\r").split("\r")
    assert [row[:3] for row in rows] == ["MSH", "EVN", "PID", "PV1"]
    name = rows[2].split("|")[5]
    assert name.count("^") == 6
    assert name.split("^")[0] == escape(text)


def test_every_patient_can_be_sent() -> None:
    for patient in PRACTICE.patients.values():
        message = parse(compose(MessageKind.UPDATE, PRACTICE, patient, now=NOW, control_id="c"))
        assert message["PID.F5.R1.C1"] == patient.family


def test_acknowledgments() -> None:
    message = (
        b"MSH|^~\\&|A|B|EPIC|DEMO|20260306||ACK^A08^ACK|9|P|2.5.1\rMSA|AE|c1\rERR||PID^1^3|101^Required^HL70357|E\r"
    )
    found = read_acknowledgment(message)
    assert found is not None
    assert (found.code, found.control_id, found.errors) == ("AE", "c1", ("101",))
    assert read_acknowledgment(message.replace(b"\r", b"\n")) == found
    assert read_acknowledgment(b"HELLO") is None
    assert read_acknowledgment(b"MSH|^~\\&|A\rPID|1\r") is None
    assert frame(b"x") == b"\x0bx\x1c\r"


@given(st.binary(max_size=60))
def test_any_bytes_are_an_acknowledgment_or_not(body: bytes) -> None:
    found = read_acknowledgment(b"MSH" + body)
    assert found is None or found.code
