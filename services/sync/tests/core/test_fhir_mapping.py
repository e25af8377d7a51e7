"""FHIR R4 → canonical records, by example; any JSON is mapped or rejected, never raised."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.models.records import Appointment, Patient
from sync.core.fhir_mapping import Mapped, map_resource
from sync.core.rejection import Rejection

PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "eAbc.1-2",
    "identifier": [
        {
            "use": "usual",
            "type": {"coding": [{"code": "MR"}], "text": "MRN"},
            "system": "urn:oid:1.2",
            "value": " 4711 ",
        },
        {"system": "urn:oid:9", "value": ""},
    ],
    "active": True,
    "name": [{"use": "official", "text": "Ana María Núñez", "family": "Núñez", "given": ["Ana", None, "María"]}],
    "telecom": [{"system": "phone", "value": "(312) 555-0100", "use": "home"}, {"system": "email"}],
    "gender": "female",
    "birthDate": "1970-05",
    "address": [{"use": "home", "line": ["1 Elm St"], "city": "Chicago", "postalCode": "60601"}],
    "maritalStatus": {"coding": [{"system": "s", "code": "M"}]},
    "communication": [{"language": {"coding": [{"code": "es"}]}, "preferred": True}, {"language": {"text": "English"}}],
    "generalPractitioner": [{"reference": "https://host/R4/Practitioner/p1", "display": "A Doctor"}],
    "deceasedDateTime": "2020-01-01",
}
APPOINTMENT: dict[str, Any] = {
    "resourceType": "Appointment",
    "id": "a1",
    "identifier": [{"system": "urn:oid:3", "value": "77"}],
    "status": "booked",
    "start": "2026-03-08T09:00:00-06:00",
    "end": "2026-03-08T15:15:00Z",
    "minutesDuration": 15,
    "created": "2026-01-01",
    "reasonCode": [{"text": "cough"}],
    "participant": [
        {"actor": {"reference": "Patient/eAbc.1-2", "display": "Ana"}, "required": "required", "status": "accepted"},
        {"actor": {"display": "somebody"}},
        {},
    ],
}


def mapped(resource: dict[str, Any], expected: str) -> Mapped:
    found = map_resource(resource, expected)
    assert isinstance(found, Mapped), found
    return found


def test_a_patient_is_mapped_field_by_field() -> None:
    found = mapped(PATIENT, "Patient")
    assert found.external_id == "eAbc.1-2"
    assert found.record.document() == {
        "identifiers": [{"use": "usual", "type": "MR", "system": "urn:oid:1.2", "value": "4711"}],
        "active": True,
        # The text only repeats the parts, so it is left out.
        "names": [{"use": "official", "family": "Núñez", "given": ["Ana", "María"]}],
        "telecom": [{"system": "phone", "value": "(312) 555-0100", "use": "home"}],
        "gender": "female",
        "birth_date": "1970-05",
        "deceased": True,
        "addresses": [{"use": "home", "line": ["1 Elm St"], "city": "Chicago", "postal_code": "60601"}],
        "marital_status": {"coding": [{"system": "s", "code": "M"}]},
        "language": "es",
        "general_practitioners": [{"type": "Practitioner", "external_id": "p1", "display": "A Doctor"}],
    }


def test_an_appointment_keeps_instants_in_utc_and_their_offsets_beside() -> None:
    record = mapped(APPOINTMENT, "Appointment").record
    assert isinstance(record, Appointment)
    document = record.document()
    assert (document["start"], document["start_offset"]) == ("2026-03-08T15:00:00.000Z", "-06:00")
    assert (document["end"], document["end_offset"]) == ("2026-03-08T15:15:00.000Z", "+00:00")
    assert "created" not in document  # a mere date is no instant
    assert document["participants"] == [
        {
            "actor": {"type": "Patient", "external_id": "eAbc.1-2", "display": "Ana"},
            "required": "required",
            "status": "accepted",
        }
    ]


@pytest.mark.parametrize(
    ("resource", "expected", "rule", "value_class"),
    [
        ({**PATIENT, "resourceType": "Person"}, "Patient", "resourceType", "text"),
        ({**PATIENT, "id": None}, "Patient", "id", "absent"),
        ({**PATIENT, "id": "../x"}, "Patient", "id", "text"),
        ({**PATIENT, "birthDate": "17.05.1970"}, "Patient", "birth_date", "text"),
        ({**PATIENT, "birthDate": "1970-02-30"}, "Patient", "birth_date", "text"),
        ({**PATIENT, "gender": "F"}, "Patient", "gender", "text"),
        ({**PATIENT, "active": "yes"}, "Patient", "active", "text"),
        ({**PATIENT, "name": {"family": "X"}}, "Patient", "name", "object"),
        ({**PATIENT, "name": [{"given": "X"}]}, "Patient", "given", "text"),
        ({**APPOINTMENT, "status": None}, "Appointment", "status", "absent"),
        ({**APPOINTMENT, "status": "maybe"}, "Appointment", "status", "text"),
        ({**APPOINTMENT, "start": None}, "Appointment", "start", "absent"),
        ({**APPOINTMENT, "start": "2026-03-08T09:00:00"}, "Appointment", "start", "text"),
        ({**APPOINTMENT, "start": 12}, "Appointment", "start", "number"),
        ({**APPOINTMENT, "end": "2026-03-08T14:00:00Z"}, "Appointment", "end", "text"),
        ({**APPOINTMENT, "minutesDuration": "15"}, "Appointment", "minutes_duration", "digits"),
        ({**APPOINTMENT, "participant": [{"actor": "Patient/1"}]}, "Appointment", "participant.actor", "text"),
    ],
)
def test_a_broken_rule_is_named_without_its_value(
    resource: dict[str, Any], expected: str, rule: str, value_class: str
) -> None:
    assert map_resource(resource, expected) == Rejection("record.invalid", rule, value_class)


def test_a_cancelled_appointment_needs_no_start() -> None:
    without = {key: value for key, value in APPOINTMENT.items() if key not in {"start", "end"}}
    assert mapped({**without, "status": "cancelled"}, "Appointment").record.document()["status"] == "cancelled"


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(sorted(PATIENT)), ANY_JSON),
    st.dictionaries(st.sampled_from(sorted(APPOINTMENT)), ANY_JSON),
)
def test_whatever_a_server_sends_is_mapped_or_rejected(patient: dict[str, Any], appointment: dict[str, Any]) -> None:
    one = map_resource({**PATIENT, **patient}, "Patient")
    other = map_resource({**APPOINTMENT, **appointment}, "Appointment")
    assert isinstance(one, Rejection) or isinstance(one.record, Patient)
    assert isinstance(other, Rejection) or isinstance(other.record, Appointment)
