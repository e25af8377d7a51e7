"""Accesses for a time in the database, each change with its audit entry and its events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Table, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from auth_gateway.adapters.access_tables import AccessRow
from auth_gateway.core.access_for_a_time import Access, Kind
from common.models.access import Role
from common.models.clock import Clock, Ids, instant_text
from common.models.errors import SuiteError
from common.models.events import Event
from common.runtime import audit, outbox
from common.runtime.authentication import Caller
from common.runtime.database import Database
from common.runtime.telemetry import current_traceparent
from common.runtime.tenant_states import ACCESS_ENDED

_TABLE: Final[Table] = AccessRow.__table__  # type: ignore[attr-defined]
_LISTED_MAX: Final = 500
OPENED: Final = "ps.access.break-glass-opened"
REVIEWED: Final = "ps.access.break-glass-reviewed"


class SqlAccessStore:
    """`Accesses`."""

    def __init__(self, database: Database, clock: Clock, ids: Ids, source: str) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._source = source

    async def add(self, caller: Caller, access: Access) -> None:
        async with self._database.write() as session:
            await session.execute(insert(_TABLE).values(**_values(access)))
            await self._audit(session, caller, access, f"{access.kind}.opened", access.reason)
            if access.kind is Kind.BREAK_GLASS:
                await outbox.add(session, [self._event(access, OPENED, access.tenant, _data(access))])

    async def get(self, kind: Kind, access_id: str) -> Access:
        async with self._database.read() as session:
            return await _read(session, kind, access_id)

    async def list(self, kind: Kind, *, tenant: str | None = None, subject: str | None = None) -> Sequence[Access]:
        statement = select(_TABLE).where(_TABLE.c.kind == kind)
        if tenant is not None:
            statement = statement.where(_TABLE.c.tenant == tenant)
        if subject is not None:
            statement = statement.where(_TABLE.c.subject == subject)
        statement = statement.order_by(_TABLE.c.opened_at.desc(), _TABLE.c.id.desc()).limit(_LISTED_MAX)
        async with self._database.read() as session:
            return [_access(row) for row in (await session.execute(statement)).mappings()]

    async def end(self, caller: Caller, access: Access, now: datetime) -> Access:
        async with self._database.write() as session:
            present = await _read(session, access.kind, access.id)
            if not present.open_at(now):
                return present
            await self._end(session, present, now)
            await self._audit(session, caller, access, f"{access.kind}.revoked", None)
        return replace(present, ended_at=now)

    async def review(self, caller: Caller, access: Access, now: datetime, outcome: str, comment: str) -> Access:
        values: dict[str, Any] = {
            "reviewed_by": caller.subject, "reviewed_at": now, "outcome": outcome, "comment": comment,
        }  # fmt: skip
        async with self._database.write() as session:
            present = await _read(session, access.kind, access.id)
            if present.reviewed_at is not None:
                raise SuiteError("request.conflict", "It was reviewed before.")
            if present.open_at(now):
                await self._end(session, present, now)
                values["ended_at"] = now
            await session.execute(update(_TABLE).where(_TABLE.c.id == access.id).values(**values))
            reviewed = replace(present, **values)
            await self._audit(session, caller, access, f"{access.kind}.reviewed", comment)
            await outbox.add(session, [self._event(access, REVIEWED, access.tenant, _data(reviewed))])
        return reviewed

    async def used(self, caller: Caller, access: Access) -> None:
        async with self._database.write() as session:
            await self._audit(
                session, replace(caller, tenant=access.tenant), access, f"{access.kind}.token-issued", None
            )

    async def _end(self, session: AsyncSession, access: Access, now: datetime) -> None:
        await session.execute(update(_TABLE).where(_TABLE.c.id == access.id).values(ended_at=now))
        data = {"expires_at": instant_text(access.expires_at)}
        await outbox.add(session, [self._event(access, ACCESS_ENDED, access.id, data)])

    async def _audit(
        self, session: AsyncSession, caller: Caller, access: Access, action: str, reason: str | None
    ) -> None:
        await audit.record(session, audit.Audit(action, access.id, caller, self._clock.now(), reason=reason))

    def _event(self, access: Access, event_type: str, key: str, data: dict[str, Any]) -> Event:
        return Event(
            id=self._ids.new("evt"),
            type=event_type,
            source=self._source,
            subject=access.id,
            time=self._clock.now(),
            tenant=access.tenant,
            key=key,
            data=data,
            traceparent=current_traceparent(),
        )


async def _read(session: AsyncSession, kind: Kind, access_id: str) -> Access:
    statement = select(_TABLE).where(_TABLE.c.id == access_id, _TABLE.c.kind == kind)
    row = (await session.execute(statement)).mappings().first()
    if row is None:
        raise SuiteError("access.not-found")
    return _access(row)


def _values(access: Access) -> dict[str, Any]:
    return {**asdict(access), "kind": access.kind.value, "role": access.role.value}


def _access(row: Any) -> Access:
    return Access(**{**row, "kind": Kind(row["kind"]), "role": Role(row["role"])})


def _data(access: Access) -> dict[str, Any]:
    return {
        "access_id": access.id,
        "role": access.role.value,
        "opened_at": instant_text(access.opened_at),
        "expires_at": instant_text(access.expires_at),
        "outcome": access.outcome,
    }
