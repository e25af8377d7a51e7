"""Moving date windows: how a vendor without `_lastUpdated` is read, change being found by content hash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from sync.core.run import Mode


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """Days before and after today, both inclusive, cut into windows of that many days."""

    past_days: int
    future_days: int
    window_days: int


PLANS: Final[Mapping[Mode, WindowPlan]] = {
    Mode.FULL: WindowPlan(past_days=30, future_days=180, window_days=30),
    # Yesterday, because an appointment that went past midnight unfinished is completed today.
    Mode.INCREMENTAL: WindowPlan(past_days=1, future_days=30, window_days=32),
}


@dataclass(frozen=True, slots=True)
class Window:
    """From the first to the last day, both inclusive, in the facility's time zone."""

    first: date
    last: date


def windows_of(mode: Mode, anchor: date) -> Sequence[Window]:
    """The windows of a run, in order, without gap or overlap."""
    plan = PLANS[mode]
    end = anchor + timedelta(days=plan.future_days)
    first = anchor - timedelta(days=plan.past_days)
    found = []
    while first <= end:
        last = min(first + timedelta(days=plan.window_days - 1), end)
        found.append(Window(first, last))
        first = last + timedelta(days=1)
    return found
