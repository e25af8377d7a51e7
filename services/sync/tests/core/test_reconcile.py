"""Matching, order and links of a batch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from common.models.records import Appointment, Patient
from sync.core.incoming import Incoming, Origin, Update
from sync.core.matching import MatchKind, decide
from sync.core.reconcile import Register, reconcile, wanted_of
from sync.core.rejection import Rejection

AT = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
CONFLICT = Rejection("record.conflict", "identifiers", "list")


def run(register: Register, *incoming: Incoming) -> Register:
    numbers = count(len(register.versions) + 1)
    reconcile(register, incoming, lambda prefix: f"{prefix}_{next(numbers)}")
    return register


def resource(external_id: str, *numbers: str, integration_id: str = "int_1", **fields: Any) -> Incoming:
    identifiers = [{"system": "mrn", "value": number} for number in numbers]
    record = Patient.model_validate({"identifiers": identifiers, **fields})
    return Incoming(0, Origin.FHIR, integration_id, "run_1", record, external_id)


def message(number: str, minutes: int, **fields: Any) -> Incoming:
    record = Patient.model_validate({"identifiers": [{"system": "mrn", "value": number}], **fields})
    update = Update(record, frozenset(record.document()), groups={"identifiers": frozenset({"mrn"})}, partial=True)
    at = AT + timedelta(minutes=minutes)
    return Incoming(0, Origin.HL7V2, "int_1", f"msg_{minutes}", record, update=update, event_time=at)


def visit(external_id: str, patient: str, **fields: Any) -> Incoming:
    participants = [{"actor": {"type": "Patient", "external_id": patient}}]
    record = Appointment.model_validate({"status": "booked", "participants": participants, **fields})
    return Incoming(0, Origin.FHIR, "int_1", "run_1", record, external_id)


def the_patient(register: Register) -> Patient:
    (stored,) = register.records.values()
    assert isinstance(stored.record, Patient)
    return stored.record


def test_the_decision_is_a_table() -> None:
    assert decide(None, (), ()).kind is MatchKind.NEW
    assert decide("r1", (), ()).kind is MatchKind.LINKED
    assert decide("r1", {"r1"}, {"r1"}).kind is MatchKind.LINKED
    assert decide(None, {"r1"}, ()).kind is MatchKind.MATCHED
    assert decide(None, {"r1"}, {"r1"}).kind is MatchKind.CONFLICT
    assert decide(None, {"r1", "r2"}, ()).kind is MatchKind.CONFLICT
    assert decide("r1", {"r2"}, ()).kind is MatchKind.CONFLICT


def test_both_roads_lead_to_one_record() -> None:
    register = run(Register(), message("1", 0, gender="female"), resource("e1", "1", birth_date="1970"))
    assert len(register.records) == 1
    assert the_patient(register).document()["gender"] == "female"
    assert [version.origin for version in register.versions] == [Origin.HL7V2, Origin.FHIR]
    assert (register.counts.created, register.counts.updated) == (1, 1)


def test_a_poll_does_not_revert_a_newer_message_until_the_pms_changes() -> None:
    register = run(Register(), resource("e1", "1", birth_date="1970"), message("1", 1, birth_date="1971"))
    run(register, resource("e1", "1", birth_date="1970"))
    assert the_patient(register).birth_date == "1971"
    assert register.counts.unchanged == 1
    run(register, resource("e1", "1", birth_date="1972"))
    assert the_patient(register).birth_date == "1972"


def test_an_older_message_is_not_applied_over_a_newer_one() -> None:
    register = run(Register(), message("1", 5, gender="male"), message("1", 4, gender="female"))
    assert the_patient(register).gender == "male"
    assert register.counts.stale == 1
    run(register, message("1", 5, gender="other"))  # the same instant: in the order they came
    assert the_patient(register).gender == "other"


def test_identifiers_of_two_records_are_a_conflict() -> None:
    register = run(Register(), resource("e1", "1"), resource("e2", "2"), resource("e3", "1", "2"))
    assert [why for _, why in register.rejected] == [CONFLICT]
    assert len(register.records) == 2


def test_another_resource_of_the_same_source_with_the_same_number_is_a_conflict() -> None:
    register = run(Register(), resource("e1", "1"), resource("e2", "1"))
    assert [why for _, why in register.rejected] == [CONFLICT]
    joined = run(Register(), resource("e1", "1"), resource("x9", "1", integration_id="int_2"))
    assert joined.rejected == []
    assert len(joined.records) == 1


def test_a_number_that_was_corrected_is_free_again() -> None:
    register = run(Register(), resource("e1", "1"), resource("e1", "3"), resource("e2", "1"))
    assert register.rejected == []
    assert {key[2]: owner for key, owner in register.owners.items()} == {
        "3": "rec_1",
        "1": register.links["int_1", "patient", "e2"].record_id,
    }


def test_what_belongs_to_a_rejected_row_is_not_taken() -> None:
    appointment = Appointment.model_validate({"identifiers": [{"system": "csn", "value": "7"}], "status": "booked"})
    update = Update(appointment, frozenset({"identifiers", "status"}), partial=True)
    bound = Incoming(1, Origin.HL7V2, "int_1", "msg_2", appointment, update=update, event_time=AT, with_previous=True)
    two = Patient.model_validate({"identifiers": [{"system": "mrn", "value": "1"}, {"system": "mrn", "value": "2"}]})
    both = Incoming(
        0, Origin.HL7V2, "int_1", "msg_2", two, update=Update(two, frozenset({"identifiers"})), event_time=AT
    )
    register = run(Register(), resource("e1", "1"), resource("e2", "2"), both, bound)
    assert [item for item, _ in register.rejected] == [both]
    assert {stored.record.TYPE for stored in register.records.values()} == {"patient"}


def test_an_appointment_finds_its_patient_also_later() -> None:
    register = run(Register(), visit("a1", "e1"))
    assert _actor(register)["external_id"] == "e1"
    assert "record_id" not in _actor(register)
    run(register, resource("e1", "1"), visit("a1", "e1"))
    patient_id = register.links["int_1", "patient", "e1"].record_id
    assert _actor(register)["record_id"] == patient_id
    versions = len(register.versions)
    run(register, visit("a1", "e1"))
    assert len(register.versions) == versions


def _actor(register: Register) -> dict[str, Any]:
    (appointment,) = (row.record for row in register.records.values() if isinstance(row.record, Appointment))
    actor: dict[str, Any] = appointment.document()["participants"][0]["actor"]
    return actor


def test_a_message_about_a_known_appointment_keeps_the_known_patient() -> None:
    known = visit("a1", "e1", identifiers=[{"system": "csn", "value": "7"}])
    register = run(Register(), resource("e1", "1"), known)
    by_number = {"type": "Patient", "identifier": {"system": "mrn", "value": "1"}}
    record = Appointment.model_validate(
        {"identifiers": [{"system": "csn", "value": "7"}], "participants": [{"actor": by_number}]}
    )
    groups = {"identifiers": frozenset({"csn"}), "participants": frozenset({"Patient"})}
    update = Update(record, frozenset({"identifiers", "participants"}), groups=groups, partial=True)
    run(register, Incoming(0, Origin.HL7V2, "int_1", "msg_1", record, update=update, event_time=AT))
    assert register.counts.unchanged == 1


def test_what_is_wanted_names_patients_of_appointments_too() -> None:
    wanted = wanted_of([visit("a1", "e1"), resource("e2", "2")])
    assert wanted.links == {("int_1", "appointment", "a1"), ("int_1", "patient", "e1"), ("int_1", "patient", "e2")}
    assert wanted.owners == {("patient", "mrn", "2")}


pages = st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(["1970", "1971"])), unique_by=lambda row: row[0])


@given(pages, st.randoms(use_true_random=False))
def test_the_order_of_a_page_does_not_matter(rows: list[tuple[str, str]], chance: Any) -> None:
    def outcome(ordered: list[tuple[str, str]]) -> dict[str, Any]:
        register = run(Register(), *(resource(name, f"n{name}", birth_date=born) for name, born in ordered))
        return {key[2]: register.records[link.record_id].record for key, link in register.links.items()}

    shuffled = list(rows)
    chance.shuffle(shuffled)
    assert outcome(rows) == outcome(shuffled)


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["male", "female", "other"])), min_size=1, max_size=6))
def test_the_newest_event_wins_whatever_the_order(events: list[tuple[int, str]]) -> None:
    register = run(Register(), *(message("1", minute, gender=gender) for minute, gender in events))
    newest = max(minute for minute, _ in events)
    assert the_patient(register).gender == [gender for minute, gender in events if minute == newest][-1]
