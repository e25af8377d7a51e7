"""The life of a run, as a literal table.

A run is asked for (queued), taken by a replica (running), and ends once. While it is paused, or its process is gone, it
keeps its cursor and goes on from there: `begin` is what whoever takes it does, the first time and every time after.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from common.models.errors import SuiteError


class RunState(StrEnum):
    """Where a run stands."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RunEvent(StrEnum):
    """What happens to a run."""

    BEGIN = "begin"
    PAGE = "page"
    PAUSE = "pause"
    FINISH = "finish"
    FAIL = "fail"
    CANCEL = "cancel"


TRANSITIONS: Final[Mapping[RunState, Mapping[RunEvent, RunState]]] = {
    RunState.QUEUED: {
        RunEvent.BEGIN: RunState.RUNNING,
        RunEvent.PAUSE: RunState.PAUSED,
        RunEvent.FAIL: RunState.FAILED,
        RunEvent.CANCEL: RunState.CANCELLED,
    },
    RunState.RUNNING: {
        RunEvent.BEGIN: RunState.RUNNING,
        RunEvent.PAGE: RunState.RUNNING,
        RunEvent.PAUSE: RunState.PAUSED,
        RunEvent.FINISH: RunState.FINISHED,
        RunEvent.FAIL: RunState.FAILED,
        RunEvent.CANCEL: RunState.CANCELLED,
    },
    RunState.PAUSED: {
        RunEvent.BEGIN: RunState.RUNNING,
        RunEvent.PAUSE: RunState.PAUSED,
        RunEvent.FAIL: RunState.FAILED,
        RunEvent.CANCEL: RunState.CANCELLED,
    },
    RunState.FINISHED: {},
    RunState.FAILED: {},
    RunState.CANCELLED: {},
}

LIVE: Final = frozenset(state for state, events in TRANSITIONS.items() if events)
"""States that a run leaves again; there is one such run per integration, resource and direction."""


def after(state: RunState, event: RunEvent) -> RunState:
    """The next state; raises SuiteError `request.conflict` naming event and state when there is none."""
    following = TRANSITIONS[state].get(event)
    if following is None:
        raise SuiteError("request.conflict", f"A run that is {state} can not {event}.")
    return following
