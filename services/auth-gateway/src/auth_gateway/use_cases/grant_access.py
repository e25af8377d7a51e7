"""Grant, use, end and review rights for a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from auth_gateway.core.access_for_a_time import Access, Kind
from common.models.access import Role
from common.models.clock import Clock, Ids
from common.models.errors import SuiteError
from common.runtime.authentication import AUDIENCE, Caller


class Accesses(Protocol):
    """Accesses for a time; each change with its audit entry and its events in one transaction."""

    async def add(self, caller: Caller, access: Access) -> None:
        """Open it."""

    async def get(self, kind: Kind, access_id: str) -> Access:
        """Raises SuiteError `access.not-found`."""

    async def list(self, kind: Kind, *, tenant: str | None = None, subject: str | None = None) -> Sequence[Access]:
        """The newest first, at most 500."""

    async def end(self, caller: Caller, access: Access, now: datetime) -> Access:
        """End it before its time; one that has ended stays as it is."""

    async def review(self, caller: Caller, access: Access, now: datetime, outcome: str, comment: str) -> Access:
        """Sign it off, and end it. Raises SuiteError `request.conflict` when somebody did before."""

    async def used(self, caller: Caller, access: Access) -> None:
        """Audit in the practice's log that a token was given."""


@dataclass(frozen=True, slots=True)
class AccessDesk:
    """What granting needs; `issue` signs a token of our issuer."""

    accesses: Accesses
    issue: Callable[[dict[str, Any]], Awaitable[str]]
    issuer: str
    clock: Clock
    ids: Ids


async def open_access(
    desk: AccessDesk, caller: Caller, kind: Kind, subject: str, role: Role, reason: str, life: timedelta
) -> Access:
    """A new access in the caller's practice. Raises SuiteError `auth.forbidden` to whom acts on one himself."""
    _with_own_rights(caller)
    now = desk.clock.now()
    access = Access(desk.ids.new("acc"), caller.tenant, kind, subject, role, reason, caller.subject, now, now + life)
    await desk.accesses.add(caller, access)
    return access


async def token_for(desk: AccessDesk, caller: Caller, access: Access) -> dict[str, Any]:
    """A token that stands on an access. Raises SuiteError `auth.access-ended`."""
    now = desk.clock.now()
    claims = access.claims(now)
    token = await desk.issue({"iss": desk.issuer, "aud": AUDIENCE, "jti": desk.ids.new("jti"), **claims})
    await desk.accesses.used(caller, access)
    return {"access_token": token, "token_type": "Bearer", "expires_in": claims["exp"] - claims["iat"]}


async def support_token(desk: AccessDesk, caller: Caller, access_id: str) -> dict[str, Any]:
    """For the support person that was named. Raises SuiteError `access.not-found` to anybody else."""
    _with_own_rights(caller)
    access = await desk.accesses.get(Kind.SUPPORT, access_id)
    if access.subject != caller.subject:
        raise SuiteError("access.not-found")
    return await token_for(desk, caller, access)


async def of_practice(desk: AccessDesk, caller: Caller, kind: Kind, access_id: str) -> Access:
    """An access of the caller's own practice. Raises SuiteError `access.not-found`, `auth.forbidden`."""
    _with_own_rights(caller)
    access = await desk.accesses.get(kind, access_id)
    if access.tenant != caller.tenant:
        raise SuiteError("access.not-found")
    return access


async def review_access(desk: AccessDesk, caller: Caller, access_id: str, outcome: str, comment: str) -> Access:
    """The sign-off of an emergency. Raises SuiteError `auth.forbidden` to the one who took the rights."""
    access = await of_practice(desk, caller, Kind.BREAK_GLASS, access_id)
    if access.subject == caller.subject:
        raise SuiteError("auth.forbidden", "Somebody else than the one who took the rights reviews their use.")
    return await desk.accesses.review(caller, access, desk.clock.now(), outcome, comment)


def _with_own_rights(caller: Caller) -> None:
    if caller.access:
        raise SuiteError("auth.forbidden", "Rights for a time do not reach to rights for a time.")
