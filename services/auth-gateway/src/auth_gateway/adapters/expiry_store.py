"""What ends, in the database: read beside the credentials, which stay as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, Table, and_, delete, insert, select, tuple_, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from auth_gateway.adapters.expiry_tables import ExpiryNoticeRow, StatedExpiryRow
from auth_gateway.adapters.tables import CredentialRow, IntegrationRow
from auth_gateway.core.expiry import Notice, Statement, Watched, WatchedCredential
from common.models.clock import Clock, Ids
from common.models.errors import SuiteError
from common.models.events import Event
from common.runtime import audit, outbox
from common.runtime.authentication import Caller
from common.runtime.database import Database
from common.runtime.telemetry import current_traceparent

_CREDENTIAL: Final[Table] = CredentialRow.__table__  # type: ignore[attr-defined]
_INTEGRATION: Final[Table] = IntegrationRow.__table__  # type: ignore[attr-defined]
_STATED: Final[Table] = StatedExpiryRow.__table__  # type: ignore[attr-defined]
_NOTICE: Final[Table] = ExpiryNoticeRow.__table__  # type: ignore[attr-defined]


class SqlExpiryStore:
    """`Expiries`."""

    def __init__(self, database: Database, clock: Clock, ids: Ids, source: str) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._source = source

    async def page(self, after: tuple[str, str], limit: int) -> Sequence[WatchedCredential]:
        async with self._database.read() as session:
            place = tuple_(_CREDENTIAL.c.integration_id, _CREDENTIAL.c.name)
            return await _with_notices(session, _credentials().where(place.__gt__(after)).limit(limit))

    async def of_tenant(self, tenant: str) -> Sequence[WatchedCredential]:
        async with self._database.read() as session:
            return await _with_notices(session, _credentials().where(_CREDENTIAL.c.tenant == tenant))

    async def notice(
        self, watched: Watched, kind: str, before: Notice | None, after: Notice | None, event_type: str, data: Any
    ) -> bool:
        async with self._database.write() as session:
            try:
                if not await _swap(session, watched, kind, before, after):
                    return False
            except IntegrityError:  # another replica was first to insert
                await session.rollback()
                return False
            await outbox.add(session, [self._event(watched, event_type, data)])
        return True

    async def state(
        self, caller: Caller, integration_id: str, name: str, kind: str, statement: Statement | None
    ) -> WatchedCredential:
        mine = and_(
            _CREDENTIAL.c.tenant == caller.tenant,
            _CREDENTIAL.c.integration_id == integration_id,
            _CREDENTIAL.c.name == name,
        )
        async with self._database.write() as session:
            if not await _with_notices(session, _credentials().where(mine)):
                raise SuiteError("credential.not-found")
            await session.execute(delete(_STATED).where(*_at(_STATED, integration_id, name, kind)))
            if statement is not None:
                values = {"expires_at": statement.expires_at, "life_days": statement.life_days}
                place = {"tenant": caller.tenant, "integration_id": integration_id, "name": name, "kind": kind}
                await session.execute(insert(_STATED).values(**place, **values))
            detail = {"integration_id": integration_id, "credential": name, "kind": kind}
            await audit.record(
                session,
                audit.Audit(
                    "expiry.changed" if statement else "expiry.removed",
                    integration_id,
                    caller,
                    self._clock.now(),
                    detail=detail,
                ),
            )
            (found,) = await _with_notices(session, _credentials().where(mine))
        return found

    def _event(self, watched: Watched, event_type: str, data: Mapping[str, Any]) -> Event:
        return Event(
            id=self._ids.new("evt"),
            type=event_type,
            source=self._source,
            subject=watched.integration_id,
            time=self._clock.now(),
            tenant=watched.tenant,
            key=watched.integration_id,
            data=data,
            traceparent=current_traceparent(),
        )


def _credentials() -> Select[Any]:
    return (
        select(_CREDENTIAL, _INTEGRATION.c.body.label("integration_body"))
        .join(_INTEGRATION, _INTEGRATION.c.id == _CREDENTIAL.c.integration_id)
        .order_by(_CREDENTIAL.c.integration_id, _CREDENTIAL.c.name)
    )


async def _with_notices(session: AsyncSession, statement: Select[Any]) -> list[WatchedCredential]:
    rows = [_watched(dict(row)) for row in (await session.execute(statement)).mappings()]
    integrations = {row.integration_id for row in rows}
    stated: dict[tuple[str, str], dict[str, Statement]] = {}
    for row in await session.execute(select(_STATED).where(_STATED.c.integration_id.in_(integrations))):
        stated.setdefault((row.integration_id, row.name), {})[row.kind] = Statement(row.expires_at, row.life_days)
    notices: dict[tuple[str, str], dict[str, Notice]] = {}
    for row in await session.execute(select(_NOTICE).where(_NOTICE.c.integration_id.in_(integrations))):
        notices.setdefault((row.integration_id, row.name), {})[row.kind] = Notice(row.expires_at, row.days)
    return [
        WatchedCredential(row, stated.get(place, {}), notices.get(place, {}))
        for row in rows
        for place in [(row.integration_id, row.name)]
    ]


async def _swap(
    session: AsyncSession, watched: Watched, kind: str, before: Notice | None, after: Notice | None
) -> bool:
    """Compare and set: the notice `before` becomes `after`; False when it is not the one that stands."""
    place = {"integration_id": watched.integration_id, "name": watched.name, "kind": kind}
    if before is None:
        if after is not None:
            values = {"expires_at": after.expires_at, "days": after.days}
            await session.execute(insert(_NOTICE).values(**place, tenant=watched.tenant, **values))
        return True
    same = (*_at(_NOTICE, *place.values()), _NOTICE.c.expires_at == before.expires_at, _NOTICE.c.days == before.days)
    change = (
        update(_NOTICE).where(*same).values(expires_at=after.expires_at, days=after.days)
        if after is not None
        else delete(_NOTICE).where(*same)
    )
    return (await session.execute(change.returning(_NOTICE.c.name))).first() is not None


def _at(table: Table, integration_id: str, name: str, kind: str) -> tuple[ColumnElement[bool], ...]:
    return (table.c.integration_id == integration_id, table.c.name == name, table.c.kind == kind)


def _watched(row: Mapping[str, Any]) -> Watched:
    return Watched(
        tenant=row["tenant"],
        integration_id=row["integration_id"],
        name=row["name"],
        method=row["method"],
        vendor=str(row["integration_body"].get("vendor") or ""),
        secret_expires_at=row["secret_expires_at"],
        secret_changed_at=row["secret_changed_at"],
        token_obtained_at=row["obtained_at"],
        grant=str(row.get("grant") or ""),
        options=row.get("options") or {},
    )
