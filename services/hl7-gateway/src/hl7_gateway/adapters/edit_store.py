"""Edits of messages in the database: record, audit entry and effect are one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Table, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from common.runtime import audit
from common.runtime.authentication import Caller
from common.runtime.database import Database
from hl7_gateway.adapters.outbound_store import SqlOutboundStore
from hl7_gateway.adapters.replay_tables import MessageEditRow
from hl7_gateway.core.connection_configuration import Connection
from hl7_gateway.core.edit import EditRecord
from hl7_gateway.core.outbound_message import NewOutbound, Outbound

EDIT: Final[Table] = MessageEditRow.__table__  # type: ignore[attr-defined]
SHOWN_EDITS_MAX: Final = 100


class SqlEditStore:
    """`EditBook`."""

    def __init__(self, database: Database, outbound: SqlOutboundStore) -> None:
        self._database = database
        self._outbound = outbound

    async def read_outbound(self, caller: Caller, message_id: str, reason: str) -> tuple[Outbound, bytes]:
        return await self._outbound.read_body(caller, message_id, reason)

    async def note(self, caller: Caller, record: EditRecord) -> None:
        async with self._database.write() as session:
            await self._record(session, caller, "message.edited", record)

    async def enqueue(self, caller: Caller, record: EditRecord, connection: Connection, message: NewOutbound) -> None:
        async with self._database.write() as session:
            await self._outbound.put(session, connection, [message])
            await self._record(session, caller, "message.edited", record)

    async def replace_parked(
        self, caller: Caller, record: EditRecord, connection: Connection, message: NewOutbound
    ) -> None:
        async with self._database.write() as session:
            await self._outbound.replace_parked(session, connection, record.edited_from, message)
            await self._record(session, caller, "outbound.edited", record)

    async def of(self, tenant: str, message_id: str) -> tuple[EditRecord | None, Sequence[EditRecord]]:
        made = select(EDIT).where(EDIT.c.tenant == tenant, EDIT.c.id == message_id)
        from_it = select(EDIT).where(EDIT.c.tenant == tenant, EDIT.c.edited_from == message_id).order_by(EDIT.c.id)
        async with self._database.read() as session:
            origin = (await session.execute(made)).first()
            rows = (await session.execute(from_it.limit(SHOWN_EDITS_MAX))).all()
        return (None if origin is None else _edit(origin)), [_edit(row) for row in rows]

    async def _record(self, session: AsyncSession, caller: Caller, action: str, record: EditRecord) -> None:
        row = {name: getattr(record, name) for name in EditRecord.__slots__}
        await session.execute(insert(EDIT).values(**row))
        detail = {
            "message_id": record.id,
            "connection_id": record.connection_id or None,
            "count": len(record.changed),
        }
        entry = audit.Audit(
            action=action,
            subject=record.edited_from,
            caller=caller,
            time=record.edited_at,
            reason=record.reason,
            detail=detail,
        )
        await audit.record(session, entry)


def _edit(row: Any) -> EditRecord:
    values = {name: getattr(row, name) for name in EditRecord.__slots__}
    return EditRecord(**{**values, "changed": tuple(row.changed)})
