"""Run states, windows, cursors, retries, schedules, strategies, names: the small decisions."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.models.errors import SuiteError
from common.models.integration import Vendor
from common.models.records import Patient
from pms.offers import offers_of
from sync.core.page import advanced, page_request
from sync.core.retry import Attempts, pause_before_retry
from sync.core.run import Mode, Resource, Run, RunCursor, cursor_of_json, event_data
from sync.core.run_state import LIVE, TRANSITIONS, RunEvent, RunState, after
from sync.core.schedule import next_due
from sync.core.search_key import name_keys, search_key
from sync.core.strategy import Strategy, fetches_patients, strategy_of
from sync.core.windows import PLANS, windows_of

AT = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
TODAY = date(2026, 3, 1)


def new_run(mode: Mode = Mode.FULL) -> Run:
    return Run("run_1", "ten_1", "int_1", Resource.PATIENT, mode, "api", "me", RunState.QUEUED, AT, AT)


def test_every_state_has_a_row_and_ended_runs_stay_ended() -> None:
    assert set(TRANSITIONS) == set(RunState)
    assert {RunState.QUEUED, RunState.RUNNING, RunState.PAUSED} == LIVE
    with pytest.raises(SuiteError, match="finished can not cancel"):
        after(RunState.FINISHED, RunEvent.CANCEL)


@given(st.sampled_from(list(Mode)), st.dates(date(2000, 1, 1), date(2090, 1, 1)))
def test_windows_cover_every_day_once(mode: Mode, today: date) -> None:
    plan, windows = PLANS[mode], windows_of(mode, today)
    days = [
        window.first + timedelta(days=number)
        for window in windows
        for number in range((window.last - window.first).days + 1)
    ]
    assert days[0] == today - timedelta(days=plan.past_days)
    assert days[-1] == today + timedelta(days=plan.future_days)
    assert len(days) == plan.past_days + plan.future_days + 1 == len(set(days))
    assert len(windows_of(Mode.INCREMENTAL, today)) == 1


def test_the_cursor_goes_through_links_and_windows_to_the_end() -> None:
    run, cursor = new_run(), RunCursor(TODAY)
    assert page_request(run, cursor, page_records=100).request.query[0] == ("date", "ge2026-01-30")
    linked = advanced(run, cursor, "https://pms/next")
    assert linked == RunCursor(TODAY, 0, "https://pms/next", 1)
    assert page_request(run, linked, page_records=100).link == "https://pms/next"
    assert advanced(run, linked, None) == RunCursor(TODAY, 1)
    last = RunCursor(TODAY, len(windows_of(Mode.FULL, TODAY)) - 1)
    assert advanced(run, last, None) is None
    assert cursor_of_json(linked.as_json()) == linked


def test_events_of_a_run_hold_only_listed_fields() -> None:
    data = event_data(new_run())
    assert data["state"] == "queued"
    assert data["fault"] is None


@pytest.mark.parametrize(
    ("code", "transient", "retry_after_s", "attempts", "expected"),
    [
        ("peer.unavailable", True, None, Attempts(1), 0.25),
        ("peer.unavailable", True, None, Attempts(2), 1.0),
        ("peer.unavailable", True, None, Attempts(3), None),
        ("peer.unavailable", True, 600.0, Attempts(1), None),
        ("peer.forbidden", False, None, Attempts(1), None),
        ("peer.rate-limited", True, 1.0, Attempts(9, 9.0), 1.0),
        ("peer.rate-limited", True, 1.0, Attempts(10, 10.0), None),
        ("peer.rate-limited", True, 30.0, Attempts(1), None),
        ("peer.rate-limited", True, None, Attempts(3), None),
        ("peer.rate-limited", True, 0.0, Attempts(3), None),
    ],
)
def test_retries_are_bounded(
    code: str, transient: bool, retry_after_s: float | None, attempts: Attempts, expected: float | None
) -> None:
    found = pause_before_retry(
        code, transient=transient, retry_after_s=retry_after_s, attempts=attempts, wait_s_max=10.0, jitter=0.5
    )
    assert found == expected


@given(st.integers(2, 1000), st.integers(0, 10**6))
def test_missed_ticks_are_not_piled_up(every_s: int, late_s: int) -> None:
    now = AT + timedelta(seconds=late_s)
    due = next_due(AT, every_s, now)
    assert now < due <= now + timedelta(seconds=every_s)
    assert (due - AT).total_seconds() % every_s == 0


EPIC = offers_of(Vendor.EPIC)


def test_the_capability_row_decides_the_strategy() -> None:
    assert strategy_of(EPIC, Resource.PATIENT) is Strategy.REFERENCED
    assert strategy_of(EPIC, Resource.APPOINTMENT) is Strategy.WINDOW
    assert fetches_patients(EPIC)
    with pytest.raises(SuiteError) as refused:
        strategy_of(offers_of(Vendor.UNITY), Resource.PATIENT)
    assert refused.value.code == "run.resource-unsupported"


def test_an_installation_without_an_api_has_no_strategy_for_it() -> None:
    narrowed = offers_of(Vendor.EPIC, [{"resource": "Patient", "offered": False}])
    assert not fetches_patients(narrowed)
    with pytest.raises(SuiteError) as refused:
        strategy_of(narrowed, Resource.PATIENT)
    assert refused.value.detail == "Offered: appointment."


def test_names_are_found_without_case_diacritics_and_order() -> None:
    patient = Patient.model_validate({"names": [{"family": "Núñez-Łaś", "given": ["Ana", "María"]}]})
    assert name_keys(patient) == {"nunez las ana maria", "ana maria nunez las", "maria nunez las"}
    assert search_key("  ØSTERGÅRD ") == "ostergard"
    assert search_key("Straße") == "strasse"
    assert search_key("Иванов") == "иванов"
    assert search_key("李 小龙") == "李 小龙"
    assert search_key("...") == ""


@given(st.text(max_size=300))
def test_a_search_key_of_a_key_is_itself(text: str) -> None:
    assert search_key(search_key(text)) == search_key(text)
