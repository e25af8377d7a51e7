"""Change records in the database, each change audited."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Column, Index, Table, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import Field

from auth_gateway.adapters.tables import Base
from auth_gateway.core.change_record import ChangeRecord, ChangeState, check_record
from common.models.clock import Clock
from common.models.errors import SuiteError
from common.models.paging import Page, decode_cursor, encode_cursor
from common.runtime import audit
from common.runtime.authentication import Caller
from common.runtime.columns import JsonText, UtcInstant
from common.runtime.database import Database


class ChangeRecordRow(Base, table=True):
    """One change record."""

    __tablename__ = "change_record"
    __table_args__ = (Index("change_record_by_tenant", "tenant", "id"),)

    id: str = Field(primary_key=True)
    tenant: str
    integration_id: str
    state: str
    version: int
    body: Any = Field(sa_column=Column(JsonText, nullable=False))
    created_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    updated_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))


_TABLE: Final[Table] = ChangeRecordRow.__table__  # type: ignore[attr-defined]


async def require_change(session: AsyncSession, tenant: str, integration_id: str, change_id: str | None) -> None:
    """Raises SuiteError `change.required` when the record does not cover a change of the integration now."""
    row = None
    if change_id is not None:
        statement = select(_TABLE).where(_TABLE.c.tenant == tenant, _TABLE.c.id == change_id).with_for_update()
        row = (await session.execute(statement)).mappings().first()
    check_record(_record(row) if row is not None else None, integration_id)


class SqlChangeStore:
    """`Changes`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def add(self, caller: Caller, record: ChangeRecord) -> None:
        async with self._database.write() as session:
            await session.execute(insert(_TABLE).values(**_values(record)))
            await self._audit(session, caller, record, "change.planned")

    async def get(self, tenant: str, change_id: str) -> ChangeRecord:
        statement = select(_TABLE).where(_TABLE.c.tenant == tenant, _TABLE.c.id == change_id)
        async with self._database.read() as session:
            row = (await session.execute(statement)).mappings().first()
        if row is None:
            raise SuiteError("change.not-found")
        return _record(row)

    async def list(
        self, tenant: str, integration_id: str | None, state: str | None, cursor: str | None, limit: int
    ) -> Page[ChangeRecord]:
        statement = select(_TABLE).where(_TABLE.c.tenant == tenant)
        if integration_id is not None:
            statement = statement.where(_TABLE.c.integration_id == integration_id)
        if state is not None:
            statement = statement.where(_TABLE.c.state == state)
        if cursor is not None:
            statement = statement.where(_TABLE.c.id < decode_cursor(cursor, (str,))[0])
        async with self._database.read() as session:
            rows = (await session.execute(statement.order_by(_TABLE.c.id.desc()).limit(limit + 1))).mappings()
            found = [_record(row) for row in rows]
        following = encode_cursor([found[limit - 1].id]) if len(found) > limit else None
        return Page(found[:limit], following)

    async def save(self, caller: Caller, before: ChangeRecord, after: ChangeRecord, action: str) -> None:
        unchanged = (_TABLE.c.id == before.id, _TABLE.c.version == before.version)
        async with self._database.write() as session:
            statement = update(_TABLE).where(*unchanged).values(**_values(after)).returning(_TABLE.c.id)
            if (await session.execute(statement)).first() is None:
                raise SuiteError("request.version-changed")
            await self._audit(session, caller, after, action)

    async def require(self, tenant: str, integration_id: str, change_id: str | None) -> None:
        async with self._database.write() as session:
            await require_change(session, tenant, integration_id, change_id)

    async def _audit(self, session: Any, caller: Caller, record: ChangeRecord, action: str) -> None:
        detail = {"integration_id": record.integration_id, "state": record.state.value, "version": record.version}
        entry = audit.Audit(action=action, subject=record.id, caller=caller, time=self._clock.now(), detail=detail)
        await audit.record(session, entry)


def _values(record: ChangeRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "tenant": record.tenant,
        "integration_id": record.integration_id,
        "state": record.state.value,
        "version": record.version,
        "body": dict(record.body),
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }


def _record(row: Any) -> ChangeRecord:
    return ChangeRecord(
        row["id"], row["tenant"], row["integration_id"], ChangeState(row["state"]), row["version"], row["created_at"],
        row["updated_at"], row["body"],
    )  # fmt: skip
