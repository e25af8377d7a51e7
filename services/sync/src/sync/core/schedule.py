"""Schedules: a run every so many seconds; what was missed is not made up for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from common.models.clock import instant_text
from sync.core.run import Mode, Resource

EVERY_S_MIN: Final = 2
EVERY_S_MAX: Final = 7 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Schedule:
    """One schedule; `version` is its ETag."""

    id: str
    tenant: str
    integration_id: str
    resource: Resource
    mode: Mode
    every_s: int
    enabled: bool
    version: int
    due_at: datetime
    created_at: datetime
    last_run_id: str | None = None
    last_tick_at: datetime | None = None


def next_due(due_at: datetime, every_s: int, now: datetime) -> datetime:
    """The first tick after `now`, in step with the ticks before it."""
    late_s = (now - due_at).total_seconds()
    ticks = max(1, math.floor(late_s / every_s) + 1)
    return due_at + timedelta(seconds=ticks * every_s)


def schedule_json(schedule: Schedule) -> dict[str, Any]:
    """What the API shows."""
    return {
        "id": schedule.id,
        "integration_id": schedule.integration_id,
        "resource": schedule.resource.value,
        "mode": schedule.mode.value,
        "every_s": schedule.every_s,
        "enabled": schedule.enabled,
        "version": schedule.version,
        "due_at": instant_text(schedule.due_at),
        "created_at": instant_text(schedule.created_at),
        "last_run_id": schedule.last_run_id,
        "last_tick_at": instant_text(schedule.last_tick_at) if schedule.last_tick_at else None,
    }
