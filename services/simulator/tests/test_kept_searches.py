"""Searches are made once per session and version, and kept within bounds."""

from datetime import UTC, date, datetime, timedelta

from simulator.core.change import change_patient, new_appointment
from simulator.core.chart import APPOINTMENTS_KEPT_MAX, Chart
from simulator.core.kept_searches import RESULTS_KEPT_MAX, SEARCHES_KEPT_MAX, KeptSearches
from simulator.core.practice import make_practice

NOW = datetime(2026, 3, 4, 15, 0, tzinfo=UTC)


def counted(kept: KeptSearches, made: list[int], *, begun_at: int = 1, version: int = 0, rows: int = 1) -> None:
    def search():
        made.append(begun_at)
        return [dict] * rows

    assert len(kept.take("Patient", {"name": ["x"]}, begun_at, version, search)) == rows


def test_the_pages_of_a_search_are_of_one_result() -> None:
    kept, made = KeptSearches(), []
    for _ in range(3):
        counted(kept, made)
    assert made == [1]
    counted(kept, made, version=1)
    assert made == [1, 1], "the chart has changed"
    counted(kept, made, begun_at=2, version=1)
    assert made == [1, 1, 2], "another session"


def test_the_oldest_goes() -> None:
    kept, made = KeptSearches(), []
    for begun_at in range(SEARCHES_KEPT_MAX + 1):
        counted(kept, made, begun_at=begun_at)
    counted(kept, made, begun_at=SEARCHES_KEPT_MAX)
    counted(kept, made, begun_at=0)
    assert made == [*range(SEARCHES_KEPT_MAX + 1), 0]
    counted(kept, made, begun_at=100, rows=RESULTS_KEPT_MAX)
    counted(kept, made, begun_at=101, rows=RESULTS_KEPT_MAX + 1)
    counted(kept, made, begun_at=100, rows=RESULTS_KEPT_MAX)
    assert made[-2:] == [100, 101], "what is too large is not kept, and drives nothing out"


def test_a_change_makes_another_version() -> None:
    chart = Chart(make_practice("demo", 7, patients=3))
    patient = next(chart.patients())
    versions = [chart.version]
    chart.put_patient(change_patient(patient, {"phone": None}).patient)
    versions.append(chart.version)
    chart.book(new_appointment(chart, patient, start=None, minutes=None, now=NOW))
    versions.append(chart.version)
    assert len(set(versions)) == 3


def test_the_days_of_a_large_practice_are_not_all_kept() -> None:
    chart = Chart(make_practice("big", 7, patients=10_000))
    first = date(2026, 1, 1)
    everyone = chart.appointments(first, first + timedelta(days=34))
    assert len({row.patient for row in everyone}) == 10_000
    again = chart.appointments(first, first)
    chart.appointments(first + timedelta(days=35), first + timedelta(days=400))
    assert chart._days_rows <= APPOINTMENTS_KEPT_MAX
    assert chart._days_rows == sum(map(len, chart._days.values()))
    assert first not in chart._days
    assert chart.appointments(first, first) == again
