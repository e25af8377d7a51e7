"""The life of an alert, as examples and as a property over any sequence of signals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.core import life_cycle
from alerts.core.life_cycle import TABLE, Alert, State, Step
from alerts.core.rules import RULES, Signal, Verdict
from common.models.errors import SuiteError
from common.models.events import EVENT_TYPES, AlertEvent

NOW = datetime(2026, 3, 1, tzinfo=UTC)
FIRES = Signal(Verdict.FIRES, "int_1", "channel:fhir", "peer.slow", 3000.0)
CLEARS = Signal(Verdict.CLEARS, "int_1", "channel:fhir")
SLOW = RULES["slow-answers"]


def begun() -> Alert:
    return life_cycle.begin("alr_1", "ten_1", SLOW, FIRES, SLOW.threshold, NOW)


def after(*signals: Signal) -> tuple[Alert, list[AlertEvent]]:
    alert, told = begun(), []
    for number, signal in enumerate(signals):
        alert, kind = life_cycle.apply(alert, SLOW, signal, NOW + timedelta(seconds=number))
        if kind is not None:
            told.append(kind)
        if alert.state is State.RESOLVED:
            break
    return alert, told


def test_one_slow_answer_is_not_yet_an_alert() -> None:
    assert after(FIRES) == (after(FIRES)[0], [])
    assert after(FIRES)[0].state is State.PENDING


def test_two_in_a_row_open_it_and_three_good_ones_resolve_it() -> None:
    assert after(FIRES, FIRES)[1] == [AlertEvent.OPENED]
    assert after(FIRES, CLEARS, FIRES)[1] == []
    alert, told = after(FIRES, FIRES, CLEARS, CLEARS, CLEARS)
    assert (alert.state, told) == (State.RESOLVED, [AlertEvent.OPENED, AlertEvent.RESOLVED])


def test_it_is_told_again_when_the_cause_changes_or_a_minute_went_by() -> None:
    other = Signal(Verdict.FIRES, "int_1", "channel:fhir", "peer.timeout")
    assert after(FIRES, FIRES, FIRES)[1] == [AlertEvent.OPENED]
    assert after(FIRES, FIRES, other)[1] == [AlertEvent.OPENED, AlertEvent.UPDATED]
    alert, _ = after(FIRES, FIRES)
    assert life_cycle.apply(alert, SLOW, FIRES, NOW + timedelta(seconds=90))[1] is AlertEvent.UPDATED


def test_acknowledging_twice_changes_nothing_and_a_resolved_one_refuses() -> None:
    alert, _ = after(FIRES, FIRES)
    taken = life_cycle.acknowledge(alert, "ada", NOW)
    assert (taken.state, taken.acknowledged_by) == (State.ACKNOWLEDGED, "ada")
    assert life_cycle.acknowledge(taken, "bob", NOW) is taken
    resolved, _ = life_cycle.resolve(taken, NOW)
    with pytest.raises(SuiteError) as refused:
        life_cycle.acknowledge(resolved, "ada", NOW)
    assert refused.value.code == "request.conflict"


def test_a_quiet_alert_is_found() -> None:
    rule = RULES["hl7-rejected"]
    alert = life_cycle.begin("alr_1", "ten_1", rule, FIRES, 0.0, NOW)
    assert life_cycle.quiet([alert], rule, NOW + timedelta(seconds=599)) == []
    assert life_cycle.quiet([alert], rule, NOW + timedelta(seconds=600)) == [alert]
    assert life_cycle.quiet([alert], SLOW, NOW + timedelta(days=9)) == []


@given(st.lists(st.sampled_from([FIRES, CLEARS]), max_size=40))
def test_an_alert_opens_at_most_once_and_resolves_only_when_it_was_open(signals: list[Signal]) -> None:
    alert, told = after(*signals)
    assert told in ([], [AlertEvent.OPENED], [AlertEvent.OPENED, AlertEvent.RESOLVED])
    assert (alert.opened_at is not None) == (AlertEvent.OPENED in told)
    if alert.state is State.RESOLVED:
        assert TABLE[State.RESOLVED] == {}


@given(st.sampled_from(list(State)), st.sampled_from(list(Step)))
def test_the_table_is_the_whole_truth(state: State, step: Step) -> None:
    from dataclasses import replace

    alert = replace(begun(), state=state)
    if step in TABLE[state]:
        assert life_cycle.move(alert, step) is TABLE[state][step]
    else:
        with pytest.raises(SuiteError):
            life_cycle.move(alert, step)


def test_an_alerts_event_holds_only_what_its_contract_lists() -> None:
    assert set(life_cycle.event_data(begun())) <= set(EVENT_TYPES[AlertEvent.OPENED].fields)
