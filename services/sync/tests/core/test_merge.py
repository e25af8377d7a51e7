"""Merging by example and by property: idempotent, and order-insensitive where updates are disjoint."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from common.models.records import Appointment, Patient
from sync.core.fingerprint import seen_of
from sync.core.incoming import Update
from sync.core.merge import merge, whole_update


def patient(**fields: Any) -> Patient:
    return Patient.model_validate(fields)


def carried(record: Patient, *cleared: str, **groups: set[str]) -> Update:
    return Update(
        record,
        frozenset(record.document()),
        frozenset(cleared),
        {name: frozenset(names) for name, names in groups.items()},
        partial=True,
    )


def whole(record: Patient, last: Patient) -> Update:
    return whole_update(record, seen_of(record), seen_of(last))


STORED = patient(
    identifiers=[{"system": "s1", "value": "1", "use": "usual"}, {"system": "s2", "value": "2"}],
    names=[{"use": "official", "text": "Dr. Ana", "family": "Núñez", "given": ["Ana"]}],
    telecom=[{"system": "phone", "value": "1", "use": "home"}, {"system": "phone", "value": "2", "use": "work"}],
    birth_date="1970",
    gender="female",
)


def test_absent_fields_stay_and_null_ones_go() -> None:
    merged = merge(STORED, carried(patient(birth_date="1971"), "gender"))
    assert merged.changed == ("gender", "birth_date")
    assert merged.record == STORED.model_copy(update={"birth_date": "1971", "gender": None})


def test_a_source_speaks_for_its_own_identifier_systems() -> None:
    update = carried(patient(identifiers=[{"system": "s1", "value": "9"}]), identifiers={"s1"})
    merged = merge(STORED, update)
    assert [row["value"] for row in merged.record.document()["identifiers"]] == ["2", "9"]


def test_home_numbers_do_not_touch_those_at_work() -> None:
    merged = merge(STORED, Update(patient(), frozenset({"telecom"}), groups={"telecom": frozenset({"personal"})}))
    assert merged.record.document()["telecom"] == [{"system": "phone", "value": "2", "use": "work"}]


def test_a_message_that_says_less_than_we_know_changes_nothing() -> None:
    update = carried(patient(names=[{"use": "official", "family": "Núñez", "given": ["Ana"]}]))
    assert merge(STORED, update).changed == ()
    shorter = carried(patient(names=[{"family": "Núñez", "given": ["Ana", "B"]}]))
    assert merge(STORED, shorter).changed == ("names",)


def test_the_same_instant_with_another_offset_is_no_change() -> None:
    stored = Appointment.model_validate({"start": "2026-03-01T15:00:00Z", "start_offset": "+00:00"})
    same = Appointment.model_validate({"start": "2026-03-01T09:00:00-06:00", "start_offset": "-06:00"})
    assert merge(stored, Update(same, frozenset({"start", "start_offset"}))).changed == ()
    later = Appointment.model_validate({"start": "2026-03-01T10:00:00-06:00", "start_offset": "-06:00"})
    assert merge(stored, Update(later, frozenset({"start", "start_offset"}))).changed == ("start", "start_offset")


def test_a_resource_that_did_not_change_reverts_nothing() -> None:
    at_pms = patient(birth_date="1970", gender="female", identifiers=[{"system": "s1", "value": "1"}])
    stored = at_pms.model_copy(update={"birth_date": "1971"})  # an HL7 message was quicker
    assert merge(stored, whole(at_pms, at_pms)).changed == ()
    moved = at_pms.model_copy(update={"gender": "other"})
    merged = merge(stored, whole(moved, at_pms))
    assert merged.changed == ("gender",)
    assert merged.record.document()["birth_date"] == "1971"


def test_what_a_resource_no_longer_says_is_taken_away() -> None:
    before = patient(birth_date="1970", identifiers=[{"system": "s1", "value": "1"}, {"system": "ssn", "value": "3"}])
    stored = before.model_copy(
        update={
            "identifiers": (*before.identifiers, *patient(identifiers=[{"system": "other", "value": "7"}]).identifiers)
        }
    )
    after = patient(identifiers=[{"system": "s1", "value": "1"}])
    merged = merge(stored, whole(after, before))
    # The identifier of a system that this source never named is another's to remove.
    assert [row["value"] for row in merged.record.document()["identifiers"]] == ["7", "1"]
    assert merged.changed == ("identifiers", "birth_date")


identifiers = st.lists(
    st.fixed_dictionaries({"system": st.sampled_from(["s1", "s2"]), "value": st.sampled_from(["1", "2"])}), max_size=2
)
telecoms = st.lists(
    st.fixed_dictionaries({"value": st.sampled_from(["1", "2"]), "use": st.sampled_from(["home", "work"])}), max_size=2
)
patients = st.fixed_dictionaries(
    {},
    optional={
        "identifiers": identifiers,
        "telecom": telecoms,
        "gender": st.sampled_from(["male", "female"]),
        "birth_date": st.sampled_from(["1970", "1971-01"]),
        "active": st.booleans(),
    },
).map(Patient.model_validate)
FIELDS = ("identifiers", "telecom", "gender", "birth_date", "active")


@st.composite
def updates(draw: st.DrawFn, names: tuple[str, ...] = FIELDS) -> Update:
    record = draw(patients)
    present = frozenset(record.document()) & frozenset(names)
    cleared = draw(st.sets(st.sampled_from(names))) if names else set()
    groups = {}
    if "telecom" in present and draw(st.booleans()):
        groups["telecom"] = frozenset(draw(st.sets(st.sampled_from(["personal", "work"]))))
    if "identifiers" in present:
        groups["identifiers"] = frozenset({"s1"})
    return Update(record, present, frozenset(cleared) - present, groups, partial=draw(st.booleans()))


@given(patients, updates())
def test_merging_twice_is_merging_once(stored: Patient, update: Update) -> None:
    once = merge(stored, update).record
    assert merge(once, update).changed == ()


@given(patients, updates(("gender", "birth_date")), updates(("telecom", "active")))
def test_disjoint_updates_commute(stored: Patient, one: Update, other: Update) -> None:
    assert merge(merge(stored, one).record, other).record == merge(merge(stored, other).record, one).record


@given(patients, patients, patients)
def test_a_whole_resource_seen_again_changes_nothing(stored: Patient, before: Patient, after: Patient) -> None:
    once = merge(stored, whole(after, before)).record
    assert merge(once, whole(after, after)).changed == ()
