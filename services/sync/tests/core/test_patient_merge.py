"""Two patients become one: what leads where afterwards, in whatever order the messages come."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from common.models.records import Appointment, Charge, Identifier, Patient
from sync.core.incoming import Incoming, Origin, Update
from sync.core.reconcile import reconcile
from sync.core.register import Register, survivor
from sync.core.rejection import Rejection

AT = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)


def run(register: Register, *incoming: Incoming) -> Register:
    numbers = count(len(register.versions) + 1)
    reconcile(register, incoming, lambda prefix: f"{prefix}_{next(numbers)}")
    return register


def said(number: str, minutes: int, name: str = "", retired: Sequence[str] = ()) -> Incoming:
    """An A08, or an A40 when it retires numbers."""
    values = {"identifiers": [{"system": "mrn", "value": number}]} | ({"names": [{"family": name}]} if name else {})
    record = Patient.model_validate(values)
    old = tuple(Identifier(system="mrn", value=one) for one in retired)
    update = Update(record, frozenset(values), groups={"identifiers": frozenset({"mrn"})}, partial=True, retired=old)
    at = AT + timedelta(minutes=minutes)
    return Incoming(0, Origin.HL7V2, "int_1", f"msg_{minutes}", record, update=update, event_time=at)


def resource(external_id: str, number: str, name: str) -> Incoming:
    record = Patient.model_validate({"identifiers": [{"system": "mrn", "value": number}], "names": [{"family": name}]})
    return Incoming(0, Origin.FHIR, "int_1", "run_1", record, external_id)


def visit(external_id: str, patient: str) -> Incoming:
    actor = {"type": "Patient", "external_id": patient}
    record = Appointment.model_validate({"status": "booked", "participants": [{"actor": actor}]})
    return Incoming(0, Origin.FHIR, "int_1", "run_1", record, external_id)


def charge(external_id: str, number: str) -> Incoming:
    subject = {"type": "Patient", "identifier": {"system": "mrn", "value": number}}
    record = Charge.model_validate({"kind": "charge", "code": {"text": "visit"}, "subject": subject})
    return Incoming(0, Origin.HL7V2, "int_1", "msg_9", record, external_id, event_time=AT)


def owner(register: Register, number: str) -> str:
    return survivor(register, register.owners["patient", "mrn", number])


def patient(register: Register, number: str) -> Patient:
    record = register.records[owner(register, number)].record
    assert isinstance(record, Patient)
    return record


def identifiers(record: Patient) -> set[tuple[str, str | None]]:
    return {(one.value, one.use) for one in record.identifiers}


def test_the_retired_record_stays_linked_and_everything_goes_to_the_survivor() -> None:
    register = run(Register(), resource("pA", "A", "Kept"), resource("pB", "B", "Gone"), visit("v1", "pB"))
    run(register, charge("c1", "B"), said("A", 10, retired=["B"]))
    kept, gone = register.links["int_1", "patient", "pA"].record_id, register.links["int_1", "patient", "pB"].record_id
    retired = register.records[gone].record
    assert isinstance(retired, Patient)
    assert (retired.active, retired.replaced_by) == (False, kept)
    assert owner(register, "B") == kept
    assert identifiers(patient(register, "A")) == {("A", None), ("B", "old")}
    (booked,) = [one.record for one in register.records.values() if isinstance(one.record, Appointment)]
    assert [one.actor.record_id for one in booked.participants] == [kept]
    (charged,) = [one.record for one in register.records.values() if isinstance(one.record, Charge)]
    assert charged.subject is not None
    assert charged.subject.record_id == kept


def test_what_comes_under_the_retired_identifier_is_the_survivors() -> None:
    register = run(Register(), said("A", 0, "First"), said("B", 1, "Other"), said("A", 2, retired=["B"]))
    run(register, said("B", 3, "Married"), said("B", 1, "Late"))
    assert patient(register, "A").names[0].family == "Married"
    assert identifiers(patient(register, "A")) == {("A", None), ("B", "old")}
    assert register.counts.stale == 1


def test_a_resource_of_the_retired_patient_changes_nothing_and_is_no_conflict() -> None:
    register = run(Register(), resource("pA", "A", "Kept"), resource("pB", "B", "Gone"), said("A", 10, retired=["B"]))
    versions = len(register.versions)
    run(register, resource("pB", "B", "Gone again"), resource("pA", "A", "Kept"), visit("v2", "pB"))
    assert register.rejected == []
    assert len(register.versions) == versions + 1  # the visit
    assert patient(register, "A").names[0].family == "Kept"
    (booked,) = [one.record for one in register.records.values() if isinstance(one.record, Appointment)]
    assert booked.participants[0].actor.record_id == owner(register, "A")


def test_a_merge_of_unknown_patients_is_remembered() -> None:
    register = run(Register(), said("A", 5, "New", retired=["B"]), resource("pB", "B", "Gone"))
    assert identifiers(patient(register, "A")) == {("A", None), ("B", "old")}
    assert len([one for one in register.records.values() if isinstance(one.record, Patient)]) == 1
    assert patient(register, "A").names[0].family == "New"


def test_a_merge_again_changes_nothing() -> None:
    register = run(Register(), said("A", 0, "First"), said("B", 1, "Other"), said("A", 2, retired=["B"]))
    versions = len(register.versions)
    run(register, said("A", 2, retired=["B"]), said("A", 2, retired=["B"]))
    assert len(register.versions) == versions
    assert register.rejected == []


def test_the_reverse_of_a_merge_is_for_a_person() -> None:
    register = run(Register(), said("A", 0), said("B", 1), said("A", 2, retired=["B"]), said("B", 3, retired=["A"]))
    assert [why for _, why in register.rejected] == [Rejection("record.merge-cycle", "MRG-1", "text")]
    assert identifiers(patient(register, "A")) == {("A", None), ("B", "old")}


def test_merges_in_a_row_lead_to_the_last() -> None:
    register = run(Register(), *(said(number, 0, number) for number in "ABC"))
    run(register, said("B", 1, retired=["C"]), said("A", 2, retired=["B"]))
    assert owner(register, "C") == owner(register, "B") == owner(register, "A")
    assert identifiers(patient(register, "A")) == {("A", None), ("B", "old"), ("C", "old")}


def test_two_identifiers_of_one_patient_where_one_goes_out_of_use() -> None:
    both = Patient.model_validate({"identifiers": [{"system": "mrn", "value": one} for one in "AB"]})
    register = run(Register(), Incoming(0, Origin.FHIR, "int_1", "run_1", both, "pA"), said("A", 2, retired=["B"]))
    assert identifiers(patient(register, "A")) == {("A", None), ("B", "old")}
    assert owner(register, "B") == owner(register, "A")


MESSAGES = (
    said("A", 0, "A0"),
    said("B", 1, "B1"),
    said("C", 2, "C2"),
    said("A", 3, "A3", retired=["B"]),
    said("B", 4, "B4"),
    said("C", 5, "C5"),
    said("A", 6, "A6", retired=["C"]),
    said("A", 7, "A7"),
)


@given(st.permutations(MESSAGES), st.lists(st.sampled_from(MESSAGES), max_size=4))
def test_any_order_and_any_repetition_end_alike(order: Sequence[Incoming], again: Sequence[Incoming]) -> None:
    register = run(Register(), *order, *again)
    assert register.rejected == []
    assert owner(register, "A") == owner(register, "B") == owner(register, "C")
    in_use = patient(register, "A")
    assert identifiers(in_use) == {("A", None), ("B", "old"), ("C", "old")}
    assert [name.family for name in in_use.names] == ["A7"]
    retired = [one.record for one in register.records.values() if one.id != owner(register, "A")]
    assert all(isinstance(one, Patient) and one.active is False and one.replaced_by for one in retired)
