"""The synthetic practice: the same from its seed, whole, and with somebody coming every week."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.core.chart import Chart
from simulator.core.practice import Practice, make_practice

DAYS = st.dates(date(2024, 6, 1), date(2035, 12, 31))


def practice(patients: int = 200, seed: int = 7) -> Practice:
    return make_practice("demo", seed, patients=patients)


PRACTICE = practice()


def test_the_same_seed_makes_the_same_practice() -> None:
    other = practice()
    assert other == PRACTICE
    assert practice(seed=8).patients.keys().isdisjoint(PRACTICE.patients)
    assert make_practice("other", 7, patients=200).patients.keys().isdisjoint(PRACTICE.patients)


def test_patients_are_many_kinds_and_unique() -> None:
    patients = list(PRACTICE.patients.values())
    assert len(patients) == 200
    assert len({row.mrn for row in patients}) == 200
    assert all(row.id.startswith("e") and len(row.id) == 24 for row in patients)
    families = "".join(row.family for row in patients)
    assert all(character in families for character in "ñüŁø金김".replace("ø", "Ø").replace("金", "王"))
    assert {"female", "male"} <= {row.sex for row in patients}
    assert any(row.phone is None for row in patients)


@given(DAYS)
def test_every_patient_comes_within_the_window_around_any_day(today: date) -> None:
    seen: set[str] = set()
    for offset in range(-7, 29):
        seen |= {row.patient for row in PRACTICE.appointments_on(today + timedelta(days=offset))}
    assert seen == set(PRACTICE.patients)


@given(DAYS)
def test_appointments_begin_in_local_working_hours_of_working_days(day: date) -> None:
    rows = PRACTICE.appointments_on(day)
    assert not rows or day.weekday() < 5
    for row in rows:
        local = row.start.astimezone(PRACTICE.zone)
        assert local.date() == day
        assert 8 <= local.hour < 17
        assert row.created < row.start < row.end
    assert rows == PRACTICE.appointments_on(day)


def test_appointment_ids_are_unique_over_a_year() -> None:
    chart = Chart(PRACTICE)
    rows = chart.appointments(date(2026, 1, 1), date(2026, 12, 31))
    assert len(rows) > 2000
    assert len({row.id for row in rows}) == len({row.csn for row in rows}) == len(rows)
    assert rows == sorted(rows, key=lambda row: (row.start, row.id))


def test_status_follows_the_clock_and_never_goes_back() -> None:
    rows = Chart(PRACTICE).appointments(date(2026, 3, 2), date(2026, 4, 30))
    before, after = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)
    assert {row.status_at(before) for row in rows} == {"booked", "cancelled"}
    assert {row.status_at(after) for row in rows} == {"fulfilled", "cancelled", "noshow"}
    kept = next(row for row in rows if row.fate > 50)
    assert kept.status_at(kept.start) == "arrived"
    assert Counter(row.status_at(after) for row in rows)["fulfilled"] > len(rows) / 2


def test_a_practice_without_patients_is_refused() -> None:
    with pytest.raises(ValueError, match="one patient"):
        practice(patients=0)


def test_a_chart_keeps_changes_and_refuses_strangers() -> None:
    from dataclasses import replace

    chart = Chart(PRACTICE)
    patient = next(chart.patients())
    chart.put_patient(replace(patient, family="Changed"))
    assert chart.changed(patient.id)
    assert next(chart.patients()).family == "Changed"
    assert Chart(PRACTICE).patient(patient.id) == patient
    with pytest.raises(KeyError):
        chart.put_patient(replace(patient, id="stranger"))
