"""Canonical records: what is absent stays absent, instants and dates are checked, changes are named."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from common.models.records import RECORD_TYPES, Appointment, Patient, changed_fields, record_of

PATIENT = {
    "identifiers": [{"system": "urn:oid:1.2", "value": "4711"}],
    "names": [{"family": "Núñez", "given": ["Ana", "María"]}],
    "birth_date": "1970-05",
    "active": False,
}


def test_a_document_holds_what_is_there_and_comes_back() -> None:
    record = Patient.model_validate(PATIENT)
    assert record.document() == PATIENT
    assert record_of("patient", record.document()) == record
    assert Patient().document() == {}
    assert set(RECORD_TYPES) == {"patient", "appointment", "charge"}


def test_instants_are_utc_to_the_millisecond() -> None:
    record = Appointment.model_validate({"start": "2026-03-01T09:30:00.123456-06:00", "start_offset": "-06:00"})
    assert record.document() == {"start": "2026-03-01T15:30:00.123Z", "start_offset": "-06:00"}
    assert record_of("appointment", record.document()) == record


@pytest.mark.parametrize("start", ["2026-03-01T09:30:00", "tomorrow", 1_772_000_000, None, ""])
def test_what_is_no_instant_is_refused_or_absent(start: Any) -> None:
    if start is None:
        assert Appointment.model_validate({"start": start}).document() == {}
        return
    with pytest.raises(ValidationError):
        Appointment.model_validate({"start": start})


@pytest.mark.parametrize("text", ["1970-5", "70", "1970-02-30", "1970-05-17T00:00:00", "0000"])
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        Patient.model_validate({"birth_date": text})


def test_nothing_unnamed_gets_in() -> None:
    with pytest.raises(ValidationError):
        Patient.model_validate({"surname": "X"})


def test_an_old_identifier_or_one_without_system_identifies_nobody() -> None:
    rows = [{"system": "s", "value": "1"}, {"value": "2"}, {"system": "s", "value": "3", "use": "old"}]
    record = Patient.model_validate({"identifiers": rows})
    assert [identifier.key for identifier in record.identifiers] == [("s", "1"), None, None]


def test_changed_fields_are_named_in_order() -> None:
    old = Patient.model_validate(PATIENT)
    new = old.model_copy(update={"gender": "female", "birth_date": None})
    assert changed_fields(old, new) == ("gender", "birth_date")
    assert changed_fields(None, old) == ("identifiers", "active", "names", "birth_date")
    assert changed_fields(old, old) == ()


@given(st.dates().map(str) | st.from_regex(r"[0-9]{4}(-[0-9]{2})?", fullmatch=True))
def test_a_date_is_kept_as_it_was_written_or_refused(text: str) -> None:
    try:
        record = Patient.model_validate({"birth_date": text})
    except ValidationError:
        assert text.startswith("0000") or not "01" <= text[5:7] <= "12"
    else:
        assert record.document()["birth_date"] == text
