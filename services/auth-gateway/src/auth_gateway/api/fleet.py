"""The platform operator's view of all practices: figures and codes, no patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from fastapi import APIRouter

from common.models.clock import Clock, instant_text
from common.runtime.http import page_body

PRACTICES_MAX: Final = 2000
_MEASURED_WITHIN: Final = timedelta(minutes=2)
_INSTANTS: Final = ("next_expiry", "undelivered_since", "last_run_at")
_FIGURES: Final = ("integrations", "active", "failing_credentials", "expiring", "undelivered", "failing_runs")


class Fleet(Protocol):
    """What is known of all practices."""

    async def practices(self, limit: int) -> Sequence[Mapping[str, Any]]:
        """One row per practice, by name."""

    async def outboxes(self, since: datetime) -> Mapping[str, float]:
        """Age in seconds of the oldest unpublished event by module, as measured since then."""


def router(fleet: Fleet, clock: Clock) -> APIRouter:
    """The routes; paths begin after /auth/v1."""
    api = APIRouter(tags=["auth-gateway: platform"])

    @api.get("/fleet", summary="Fleet view")
    async def read() -> dict[str, Any]:
        """State, versions, expiries, backlog, failing credentials and last run of every practice, in one call."""
        ages = await fleet.outboxes(clock.now() - _MEASURED_WITHIN)
        items = [_json(row) for row in await fleet.practices(PRACTICES_MAX)]
        return {**page_body(items, None), "outbox_age_s": dict(ages)}

    return api


def _json(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "tenant": row["id"],
        "name": row["name"],
        "state": row["state"],
        "configuration_version": row["configuration_version"],
        "key_version": row["key_version"],
        **{name: int(row[name] or 0) for name in _FIGURES},
        **{name: instant_text(row[name]) if row[name] else None for name in _INSTANTS},
    }
