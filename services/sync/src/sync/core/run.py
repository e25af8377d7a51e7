"""A run: what it is to do, how far it came, what became of the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Final

from common.models.clock import instant_text
from common.models.errors import ERRORS
from sync.core.run_state import RunEvent, RunState

INBOUND: Final = "in"


class Resource(StrEnum):
    """What a run synchronises; the value is the record type."""

    PATIENT = "patient"
    APPOINTMENT = "appointment"

    @property
    def fhir(self) -> str:
        """Its FHIR type."""
        return self.value.capitalize()


class Mode(StrEnum):
    """How much of it."""

    FULL = "full"
    INCREMENTAL = "incremental"


@dataclass(frozen=True, slots=True)
class RunCursor:
    """How far a run came: the day its windows are counted from, the window at hand, the `next` link to follow in it
    (None: its first page), and how many pages of the window were committed."""

    anchor: date
    window: int = 0
    next_link: str | None = None
    window_pages: int = 0

    def as_json(self) -> dict[str, Any]:
        """The form that is stored."""
        return {
            "anchor": self.anchor.isoformat(),
            "window": self.window,
            "next_link": self.next_link,
            "window_pages": self.window_pages,
        }


def cursor_of_json(stored: Mapping[str, Any]) -> RunCursor:
    """What `as_json` stored."""
    return RunCursor(
        date.fromisoformat(stored["anchor"]), stored["window"], stored["next_link"], stored["window_pages"]
    )


@dataclass(frozen=True, slots=True)
class Run:
    """One run. `trigger` is api or schedule; `cursor` is None until its first page was planned."""

    id: str
    tenant: str
    integration_id: str
    resource: Resource
    mode: Mode
    trigger: str
    requested_by: str
    state: RunState
    created_at: datetime
    updated_at: datetime
    direction: str = INBOUND
    cursor: RunCursor | None = None
    pages: int = 0
    records_read: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    quarantined: int = 0
    error_code: str | None = None
    cancel_requested: bool = False
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def lease_name(self) -> str:
        """Who holds this lease works on integration × resource × direction."""
        return f"run:{self.integration_id}:{self.resource}:{self.direction}"


EVENT_OF: Final[Mapping[RunEvent, str]] = {
    RunEvent.BEGIN: "ps.sync.run.started",
    RunEvent.PAGE: "ps.sync.run.progressed",
    RunEvent.PAUSE: "ps.sync.run.progressed",
    RunEvent.FINISH: "ps.sync.run.finished",
    RunEvent.FAIL: "ps.sync.run.failed",
    RunEvent.CANCEL: "ps.sync.run.cancelled",
}
_COUNTERS: Final = ("pages", "records_read", "created", "updated", "unchanged", "quarantined")


def event_data(run: Run) -> dict[str, Any]:
    """What events say of a run."""
    fault = ERRORS[run.error_code].fault.value if run.error_code else None
    return {
        "run_id": run.id,
        "integration_id": run.integration_id,
        "resource": run.resource.value,
        "direction": run.direction,
        "mode": run.mode.value,
        "state": run.state.value,
        "trigger": run.trigger,
        **{name: getattr(run, name) for name in _COUNTERS},
        "error_code": run.error_code,
        "fault": fault,
        "duration_ms": _duration_ms(run),
    }


def run_json(run: Run) -> dict[str, Any]:
    """What the API shows of a run; never the cursor's link, which is the PMS's."""
    error = ERRORS[run.error_code] if run.error_code else None
    return {
        "id": run.id,
        "integration_id": run.integration_id,
        "resource": run.resource.value,
        "direction": run.direction,
        "mode": run.mode.value,
        "trigger": run.trigger,
        "state": run.state.value,
        **{name: getattr(run, name) for name in _COUNTERS},
        "error_code": run.error_code,
        "fault": error.fault.value if error else None,
        "next_step": error.next_step if error else None,
        "cancel_requested": run.cancel_requested,
        "created_at": instant_text(run.created_at),
        "started_at": instant_text(run.started_at) if run.started_at else None,
        "finished_at": instant_text(run.finished_at) if run.finished_at else None,
        "duration_ms": _duration_ms(run),
    }


def _duration_ms(run: Run) -> int:
    if run.started_at is None:
        return 0
    return round(((run.finished_at or run.updated_at) - run.started_at).total_seconds() * 1000)
