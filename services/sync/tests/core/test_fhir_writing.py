"""What is written is read again as the same record; what the PMS holds besides stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from common.models.records import Charge, Patient
from simulator.core.practice import make_practice
from simulator.core.resources import appointment_resource, patient_resource
from sync.core.fhir_mapping import Mapped, map_resource
from sync.core.fhir_writing import UnwritableError, over, write_resource

NOW = datetime(2026, 3, 6, 15, 0, 1, tzinfo=UTC)
PRACTICE = make_practice("demo", 7, patients=60)


def nowhere(_type: str, _record_id: str) -> str | None:
    return None


def mapped(resource: dict[str, Any]) -> Mapped:
    found = map_resource(resource, resource["resourceType"])
    assert isinstance(found, Mapped), found
    return found


def resources() -> list[dict[str, Any]]:
    found = [patient_resource(PRACTICE, patient) for patient in PRACTICE.patients.values()]
    for day in range(10):
        rows = PRACTICE.appointments_on((NOW + timedelta(days=day)).date())
        found += [appointment_resource(PRACTICE, row, PRACTICE.patients[row.patient], NOW) for row in rows]
    return found


def test_what_is_written_is_read_as_the_same_record() -> None:
    kinds = set()
    for resource in resources():
        one = mapped(resource)
        again = write_resource(one.record, nowhere, one.external_id)
        assert mapped(again) == one
        kinds.add(again["resourceType"])
    assert kinds == {"Patient", "Appointment"}


def test_a_patient_with_everything_is_read_again_as_it_was() -> None:
    resource = {
        "resourceType": "Patient",
        "id": "e1",
        "identifier": [{"use": "usual", "type": {"text": "Old"}, "value": "5", "assigner": {"display": "Elsewhere"}}],
        "active": False,
        "name": [{"text": "Anita", "given": ["Ana"], "prefix": ["Dr"], "suffix": ["PhD"]}],
        "telecom": [{"system": "phone", "value": "(312) 555-0100", "use": "home", "rank": 1}],
        "birthDate": "1970-05",
        "address": [{"use": "home", "line": ["1 Elm St"], "city": "Chicago", "postalCode": "60601"}],
        "maritalStatus": {"coding": [{"system": "s", "code": "M"}], "text": "Married"},
        "communication": [{"language": {"coding": [{"code": "es"}]}, "preferred": True}],
        "generalPractitioner": [
            {"reference": "Practitioner/p1", "display": "A Doctor"},
            {"type": "Practitioner", "identifier": {"system": "npi", "value": "1"}},
        ],
        "deceasedBoolean": False,
    }
    one = mapped(resource)
    assert mapped(write_resource(one.record, nowhere, "e1")) == one


def test_a_time_is_written_with_the_offset_that_it_came_with() -> None:
    resource = {"resourceType": "Appointment", "id": "a", "status": "booked", "start": "2026-03-08T09:30:00-06:00"}
    assert write_resource(mapped(resource).record, nowhere)["start"] == "2026-03-08T09:30:00-06:00"
    resource["start"] = "2026-03-08T15:30:00Z"
    assert mapped(write_resource(mapped(resource).record, nowhere, "a")) == mapped(resource)


def test_a_reference_to_a_record_becomes_the_id_of_the_pms_or_is_refused() -> None:
    record = Patient.model_validate({"general_practitioners": [{"type": "Practitioner", "record_id": "rec_1"}]})
    written = write_resource(record, lambda kind, one: f"{kind[:2]}-{one}")
    assert written["generalPractitioner"] == [{"reference": "Practitioner/Pr-rec_1"}]
    with pytest.raises(UnwritableError) as refused:
        write_resource(record, nowhere)
    assert refused.value.field == "general_practitioners"
    with pytest.raises(UnwritableError):
        write_resource(Charge.model_validate({}), nowhere)


def test_what_we_do_not_map_stays_as_the_pms_has_it() -> None:
    held = {
        "resourceType": "Patient", "id": "e1", "meta": {"versionId": "3"}, "photo": [{"url": "x"}], "gender": "male",
        "name": [{"family": "Nunez", "given": ["Ana"], "period": {"start": "2001"}}],
        "telecom": [{"value": "1", "extension": [{"url": "u"}]}, {"value": "2"}],
        "communication": [
            {"language": {"coding": [{"code": "es"}]}, "preferred": True}, {"language": {"text": "Catalan"}},
        ],
        "deceasedDateTime": "2020-01-01",
    }  # fmt: skip
    same = mapped(held).record
    assert over(held, write_resource(same, nowhere, "e1"), same) == held
    record = Patient.model_validate(
        {**same.document(), "telecom": [{"value": "1"}, {"value": "3"}], "gender": None, "language": "fr"}
    )
    written = over(held, write_resource(record, nowhere, "e1"), record)
    assert written["telecom"] == [{"value": "1", "extension": [{"url": "u"}]}, {"value": "3"}]
    assert written["communication"] == [
        {"language": {"coding": [{"code": "fr"}]}, "preferred": True},
        {"language": {"coding": [{"code": "es"}]}},
        {"language": {"text": "Catalan"}},
    ]
    assert "gender" not in written
    for name in ("meta", "photo", "name", "deceasedDateTime"):
        assert written[name] == held[name]
    assert mapped(written).record == record


def test_a_part_that_we_drop_is_dropped() -> None:
    held = {
        "resourceType": "Patient", "id": "e1", "name": [{"family": "Nunez", "given": ["Ana"], "suffix": ["Jr"]}],
        "telecom": [{"system": "phone", "value": "1", "use": "old"}],
    }  # fmt: skip
    record = Patient.model_validate({"names": [{"family": "Nunez", "given": ["Ana"]}], "telecom": [{"value": "1"}]})
    written = over(held, write_resource(record, nowhere, "e1"), record)
    assert (written["name"], written["telecom"]) == ([{"family": "Nunez", "given": ["Ana"]}], [{"value": "1"}])


def test_appointments_laid_over_one_another_are_read_as_they_are() -> None:
    every = [resource for resource in resources() if resource["resourceType"] == "Appointment"]
    for held, wanted in pairwise(every):
        record = mapped(wanted).record
        assert mapped(over(held, write_resource(record, nowhere, held["id"]), record)).record == record


def test_the_choice_of_deceased_is_made_once() -> None:
    held = {"resourceType": "Patient", "id": "e1", "deceasedDateTime": "2020-01-01"}
    alive = Patient.model_validate({"deceased": False})
    written = over(held, write_resource(alive, nowhere, "e1"), alive)
    assert (written.get("deceasedDateTime"), written.get("deceasedBoolean")) == (None, False)


def test_any_record_laid_over_any_resource_of_its_type_is_read_again_as_it_is() -> None:
    every = [resource for resource in resources() if resource["resourceType"] == "Patient"]
    for held, wanted in pairwise(every):
        record = mapped(wanted).record
        assert mapped(over(held, write_resource(record, nowhere, held["id"]), record)).record == record
