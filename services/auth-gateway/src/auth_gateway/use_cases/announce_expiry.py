"""Say ahead of time that something of a credential ends, so that it is replaced before the practice stands still."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Protocol

from auth_gateway.core.expiry import (
    KINDS,
    End,
    Notice,
    Statement,
    Watched,
    WatchedCredential,
    ends_of,
    notice_due,
)
from common.models.clock import Clock, instant_text
from common.models.errors import FieldError, SuiteError
from common.runtime.authentication import Caller

EXPIRING: Final = "ps.credential.expiring"
RENEWED: Final = "ps.credential.renewed"


class Expiries(Protocol):
    """What ends, and which notices were given."""

    async def page(self, after: tuple[str, str], limit: int) -> Sequence[WatchedCredential]:
        """Credentials of all tenants by (integration, name)."""

    async def of_tenant(self, tenant: str) -> Sequence[WatchedCredential]:
        """All credentials of a tenant."""

    async def notice(
        self, watched: Watched, kind: str, before: Notice | None, after: Notice | None, event_type: str, data: Any
    ) -> bool:
        """Note it and announce it in one transaction; False when another replica did."""

    async def state(
        self, caller: Caller, integration_id: str, name: str, kind: str, statement: Statement | None
    ) -> WatchedCredential:
        """Record, or forget, what a person states. Raises SuiteError `credential.not-found`."""


PAGE_CREDENTIALS_MAX: Final = 500


async def announce_expiry(expiries: Expiries, clock: Clock) -> int:
    """Announce every end whose next mark has come; the number announced. Safe to run on several replicas."""
    now, announced, after = clock.now(), 0, ("", "")
    while True:
        page = await expiries.page(after, PAGE_CREDENTIALS_MAX)
        for row in page:
            announced += await _announce(expiries, row, now)
        if len(page) < PAGE_CREDENTIALS_MAX:
            return announced
        after = (page[-1].watched.integration_id, page[-1].watched.name)


async def _announce(expiries: Expiries, row: WatchedCredential, now: datetime) -> int:
    announced = 0
    ends = {end.kind.name: end for end in ends_of(row.watched, row.stated)}
    for kind, end in ends.items():
        given = row.notices.get(kind)
        same = given is not None and given.expires_at == end.expires_at
        days = notice_due(end.expires_at, given.days if given is not None and same else None, now)
        if days is not None and end.expires_at is not None:
            after = Notice(end.expires_at, days)
            announced += await expiries.notice(row.watched, kind, given, after, EXPIRING, _data(row.watched, end, days))
        elif given is not None and not same:
            await expiries.notice(row.watched, kind, given, None, RENEWED, _data(row.watched, end, None))
    return announced


def _data(watched: Watched, end: End, days: int | None) -> dict[str, Any]:
    return {
        "integration_id": watched.integration_id,
        "credential": watched.name,
        "method": watched.method,
        "stage": end.kind.name,
        "expires_at": instant_text(end.expires_at) if end.expires_at else None,
        "trigger": "watch",
        "notice_days": days,
    }


async def list_expiries(expiries: Expiries, clock: Clock, tenant: str) -> list[dict[str, Any]]:
    """Everything of a practice that ends, the nearest first; what has no date last."""
    now = clock.now()
    found = [
        (end, _json(row, end, now))
        for row in await expiries.of_tenant(tenant)
        for end in ends_of(row.watched, row.stated)
    ]
    found.sort(key=lambda pair: (pair[0].expires_at is None, pair[0].expires_at or now))
    return [body for _, body in found]


async def state_expiry(
    expiries: Expiries, caller: Caller, place: tuple[str, str, str], statement: Statement | None
) -> None:
    """Record what a person states of one kind (`place`: integration, credential, kind), None forgets it.

    Raises SuiteError `credential.not-found`, `request.invalid`.
    """
    if place[2] not in KINDS:
        raise SuiteError("request.invalid", fields=[FieldError("/kind", "unknown", f"Expected: {', '.join(KINDS)}.")])
    await expiries.state(caller, *place, statement)


def _json(row: WatchedCredential, end: End, now: datetime) -> dict[str, Any]:
    given = row.notices.get(end.kind.name)
    return {
        "integration_id": row.watched.integration_id,
        "credential": row.watched.name,
        "method": row.watched.method,
        "kind": end.kind.name,
        "title": end.kind.title,
        "expires_at": instant_text(end.expires_at) if end.expires_at else None,
        "days_left": end.days_left(now),
        "source": end.source.value,
        "noticed_days": given.days if given is not None and given.expires_at == end.expires_at else None,
        "next_step": end.kind.next_step if end.expires_at else "Record when it ends; nobody is warned until then.",
    }
