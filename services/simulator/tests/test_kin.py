"""People who are easily taken for one another: twins, duplicates, merged records, former addresses."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.core.chart import Chart
from simulator.core.feed import FeedPlan, message_of
from simulator.core.kin import USUAL, Kinship, Shares
from simulator.core.practice import Practice, make_practice
from simulator.core.resources import patient_resource

MANY = Shares(twins=100, duplicates=100, merged=100, moved=100)
PRACTICE = make_practice("kin", 3, patients=400, shares=MANY)


def pairs(practice: Practice, kind: Kinship) -> list[tuple[str, str]]:
    return [(one, other) for what, one, other in practice.kin() if what is kind]


def test_the_usual_shares_are_met() -> None:
    practice = make_practice("usual", 5, patients=20_000, shares=USUAL)
    for kind in Kinship:
        assert 150 <= len(pairs(practice, kind)) <= 250
    moved = sum(patient.moved_on is not None for patient in practice.patients.values())
    assert 450 <= moved <= 750


def test_without_shares_everybody_is_a_stranger() -> None:
    assert list(make_practice("kin", 3, patients=400).kin()) == []


def test_twins_are_two_people_of_one_household() -> None:
    found = pairs(PRACTICE, Kinship.TWIN)
    assert found
    for one, other in found:
        twin, first = PRACTICE.patients[one], PRACTICE.patients[other]
        assert (twin.birth_date, twin.family, twin.phone) == (first.birth_date, first.family, first.phone)
        assert twin.given[0] != first.given[0]
        assert twin.mrn != first.mrn
        assert twin.active


def test_a_duplicate_is_one_person_with_a_slip() -> None:
    found = pairs(PRACTICE, Kinship.DUPLICATE)
    assert found
    slips = 0
    for one, other in found:
        second, first = PRACTICE.patients[one], PRACTICE.patients[other]
        assert second.mrn != first.mrn
        assert second.given[0] == first.given[0]
        assert sorted(second.family) == sorted(first.family)
        slips += (second.family, second.birth_date) != (first.family, first.birth_date)
    assert slips >= 0.8 * len(found)


def test_a_merged_record_points_to_its_survivor_and_has_no_appointments() -> None:
    found = pairs(PRACTICE, Kinship.MERGED)
    assert found
    start = date(2026, 3, 2)
    visited = {row.patient for offset in range(35) for row in PRACTICE.appointments_on(start + timedelta(days=offset))}
    for one, other in found:
        retired = patient_resource(PRACTICE, PRACTICE.patients[one])
        survivor = patient_resource(PRACTICE, PRACTICE.patients[other])
        assert retired["active"] is False
        link = {"other": {"reference": f"Patient/{other}", "type": "Patient"}, "type": "replaced-by"}
        assert retired["link"] == [link]
        assert survivor["link"][0]["type"] == "replaces"
        assert survivor["link"][0]["other"]["reference"] == f"Patient/{one}"
        assert one not in visited
        assert other in visited


def test_who_moved_shows_both_addresses() -> None:
    moved = [patient for patient in PRACTICE.patients.values() if patient.moved_on is not None]
    assert moved
    now, former = patient_resource(PRACTICE, moved[0])["address"]
    assert (now["use"], former["use"]) == ("home", "old")
    assert now["period"]["start"] == former["period"]["end"]
    assert now["line"] != former["line"]


def test_a_feed_speaks_of_survivors_only() -> None:
    chart = Chart(make_practice("kin", 3, patients=40, shares=Shares(merged=100)))
    retired = {chart.practice.patients[one].mrn for one, _ in pairs(chart.practice, Kinship.MERGED)}
    assert retired
    plan = FeedPlan(
        name="f", practice="kin", host="127.0.0.1", port=1, rate_per_minute=60, curve="constant", connections=1, seed=1,
        timeout_s=5.0,
    )  # fmt: skip
    now = datetime(2026, 3, 2, 15, tzinfo=UTC)
    bodies = [message_of(plan, chart, sequence, now).body.decode() for sequence in range(200)]
    assert not any(f"|{mrn}^" in body for mrn in retired for body in bodies)


@given(st.integers(0, 2**32), st.integers(1, 40), *[st.integers(0, 100)] * 4)
def test_any_practice_holds_together(seed: int, patients: int, twins: int, twice: int, merged: int, moved: int) -> None:
    practice = make_practice("any", seed, patients=patients, shares=Shares(twins, twice, merged, moved))
    assert len(practice.patients) == patients
    assert len({patient.mrn for patient in practice.patients.values()}) == patients
    for patient in practice.patients.values():
        if patient.replaced_by is not None:
            assert practice.patients[patient.replaced_by].replaces == (patient.id,)
            assert practice.patients[patient.replaced_by].active


@pytest.mark.parametrize("patients", [1, 2])
def test_the_last_patient_is_nobodys_base(patients: int) -> None:
    practice = make_practice("small", 1, patients=patients, shares=MANY)
    assert all(one in practice.patients and other in practice.patients for _, one, other in practice.kin())
