"""A day in the practice: its events, what they do to the chart, and the messages that tell them."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import hl7
import pytest

import hl7v2
from simulator.core.chart import Chart
from simulator.core.day import Happening, due
from simulator.core.day_run import begin, compose_told, happen
from simulator.core.population import Shares
from simulator.core.practice import Practice, make_practice

DAY = date(2026, 3, 4)
NOW = datetime(2026, 11, 1, 9, 0, tzinfo=UTC)


def practice(patients: int = 2_000) -> Practice:
    return make_practice("demo", 7, patients=patients, shares=Shares())


def lived(seed: int = 3):
    chart = Chart(practice())
    events = begin(chart, DAY, seed)
    told = [(event, one) for event in events for one in happen(chart, event, NOW)]
    return chart, events, told


def test_the_same_seed_makes_the_same_day() -> None:
    first, again, other = lived(), lived(), lived(4)
    assert first[1:] == again[1:]
    assert first[1] != other[1]
    assert {event.kind for event in first[1]} == set(Happening)
    assert list(first[1]) == sorted(first[1], key=lambda event: event.at)


def test_events_are_due_when_their_instant_has_come() -> None:
    events = begin(Chart(practice(200)), DAY, 3)
    half = events[len(events) // 2].at
    first = due(events, 0, half)
    assert all(event.at <= half for event in first)
    assert [*first, *due(events, len(first), half + timedelta(days=1))] == list(events)
    assert due(events, len(first), half) == ()
    assert due(events, 0, events[0].at - timedelta(seconds=1)) == ()


def test_a_day_ends_every_appointment() -> None:
    chart, events, _ = lived()
    states = Counter(row.state for row in chart.appointments(DAY, DAY) if row.state)
    assert states.keys() == {"fulfilled", "cancelled", "noshow"}
    assert states["fulfilled"] > 4 * (states["cancelled"] + states["noshow"])
    kinds = Counter(event.kind for event in events)
    assert states["noshow"] == kinds[Happening.NO_SHOW]
    for event in events:
        if event.kind is Happening.MOVE:
            moved = chart.appointment(event.appointment)
            assert chart.local_day(moved.start) > DAY
            assert moved in chart.appointments(chart.local_day(moved.start), chart.local_day(moved.start))
    assert chart.practice.made == 2_000
    assert len(list(chart.patients())) == 2_000 + kinds[Happening.REGISTER]


def test_versions_follow_the_events() -> None:
    chart, _, told = lived()
    for event, one in told:
        if event.kind is Happening.CHECK_OUT:
            assert chart.touched("Appointment", event.appointment) == (3, NOW)
            assert chart.touched("Encounter", f"{event.appointment}.e") == (2, NOW)
            assert chart.touched("ChargeItem", f"{event.appointment}.c1") == (1, NOW)
        if event.kind is Happening.REGISTER:
            assert chart.touched("Patient", one.patient.id) == (1, NOW)


def test_a_merge_ends_a_record_and_its_visits_go_over() -> None:
    chart, _, told = lived()
    merged = next(one for _, one in told if one.trigger == "A40")
    assert merged.ended is not None
    ended, lives = chart.patient(merged.ended.id), chart.patient(merged.patient.id)
    assert (ended.active, ended.replaced_by) == (False, lives.id)
    assert lives.replaces == (ended.id,)
    following = DAY + timedelta(days=1)
    rows = [
        row for row in chart.appointments(following, DAY + timedelta(days=80)) if row.patient in {ended.id, lives.id}
    ]
    assert len(rows) > 3
    assert {row.patient for row in rows if row.status_at(NOW.replace(month=3, day=5)) == "booked"} == {lives.id}
    untouched = Chart(practice())
    assert {row.id for row in untouched.appointments_of(ended.id, following, 60)} == {
        row.id for row in untouched.appointments(following, DAY + timedelta(days=60)) if row.patient == ended.id
    }


def test_an_event_happens_once() -> None:
    chart = Chart(practice())
    for event in begin(chart, DAY, 3):
        first = happen(chart, event, NOW)
        if first and event.kind in {Happening.CHECK_IN, Happening.CHECK_OUT, Happening.NO_SHOW, Happening.CANCEL}:
            assert happen(chart, event, NOW) == ()
    again = begin(chart, DAY, 3)
    assert not {Happening.CHECK_IN, Happening.NO_SHOW} & {event.kind for event in again}, "nobody is booked any more"
    stranger = replace(again[0], appointment="nothing", kind=Happening.CHECK_IN)
    assert happen(chart, stranger, NOW) == ()


@pytest.mark.parametrize("trigger", ["A04", "A08", "A40", "S12", "S13", "S15", "S26", "P03"])
def test_messages_follow_the_standard_and_agree_with_the_chart(trigger: str) -> None:
    chart, _, told = lived()
    rows = [(event, one) for event, one in told if one.trigger == trigger]
    assert rows
    for event, one in rows[:20]:
        body = compose_told(chart, one, event.at, "c1")
        assert [each for each in hl7v2.validate(hl7v2.parse(body)) if each.severity == "error"] == []
        message = hl7.parse(body.decode())
        assert str(message.segment("MSH")[9]).startswith(one.kind)
        assert str(message.segment("PID")[3]).split("^")[0] == one.patient.mrn
        if trigger in {"S12", "S13", "S15", "S26"}:
            assert str(message.segment("SCH")[2]).split("^")[0] == one.appointment.csn
        if trigger == "A40":
            assert str(message.segment("MRG")[1]).split("^")[0] == one.ended.mrn
        if trigger == "P03":
            assert str(message.segment("FT1")[7]).startswith("PS-")
