"""Messages in the database.

Saving is three multi-row INSERTs in one transaction: what recognises the messages again, the messages, their events.
The first says by its row count whether any is a repetition; only then is anything read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import CursorResult, Select, Table, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from common.models.clock import Clock, Ids, instant_text
from common.models.errors import SuiteError
from common.models.events import Event
from common.models.paging import Page, decode_cursor, encode_cursor
from common.runtime import audit, outbox
from common.runtime.authentication import Caller
from common.runtime.database import Database
from hl7_gateway.adapters.tables import MessageRow, SeenRow
from hl7_gateway.core.message import MessageState, NewMessage, Receipt, StoredMessage
from hl7_gateway.ports import KeySource, MessageFilter

MESSAGE: Final[Table] = MessageRow.__table__  # type: ignore[attr-defined]
SEEN: Final[Table] = SeenRow.__table__  # type: ignore[attr-defined]
BODIES_BYTES_MAX: Final = 32 * 1024 * 1024
PRUNE_ROWS_MAX: Final = 500

_METADATA: Final = [MESSAGE.c[name] for name in StoredMessage.__slots__]


class SqlMessageStore:
    """`MessageStore` and `MessageBook`."""

    def __init__(self, database: Database, keys: KeySource, clock: Clock, ids: Ids, source: str) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock
        self._ids = ids
        self._source = source
        self._insert_seen = database.insert(SEEN).on_conflict_do_nothing(index_elements=["duplicate_key"])

    async def save(self, messages: Sequence[NewMessage]) -> Mapping[str, Receipt]:
        events = {message.id: self._event(message) for message in messages}
        first = {message.duplicate_key: message for message in reversed(messages)}
        async with self._database.write() as session:
            repeated = await self._recognise(session, messages, first)
            fresh = [message for message in messages if message.id not in repeated] if repeated else messages
            if fresh:
                await session.execute(insert(MESSAGE), [_row(message) for message in fresh])
                await outbox.add(session, [events[message.id] for message in fresh])
        return repeated

    async def _recognise(
        self, session: AsyncSession, messages: Sequence[NewMessage], first: Mapping[bytes, NewMessage]
    ) -> dict[str, Receipt]:
        """Remember the messages; receipts of those that were here before."""
        seen = [
            {
                "duplicate_key": key,
                "message_id": message.id,
                "received_at": message.received_at,
                "state": message.state.value,
            }
            for key, message in first.items()
        ]
        # In the order of the key: two replicas that insert the same ones wait for each other instead of deadlocking.
        seen.sort(key=lambda row: row["duplicate_key"])
        result: Any = await session.execute(self._insert_seen, seen)
        if isinstance(result, CursorResult) and result.rowcount == len(messages):
            return {}
        known = select(SEEN).where(SEEN.c.duplicate_key.in_(list(first)))
        receipts = {
            row.duplicate_key: Receipt(row.message_id, row.received_at, MessageState(row.state))
            for row in await session.execute(known)
        }
        return {
            message.id: receipts[message.duplicate_key]
            for message in messages
            if receipts[message.duplicate_key].message_id != message.id
        }

    def _event(self, message: NewMessage) -> Event:
        received = message.state is MessageState.RECEIVED
        data: dict[str, Any] = {
            "message_id": message.id,
            "integration_id": message.integration_id,
            "channel": message.channel,
            "message_type": message.header.message_type,
            "trigger_event": message.header.trigger_event,
            "size_bytes": message.size_bytes,
            "received_at": instant_text(message.received_at),
        }
        if received:
            data |= {"hl7_version": message.header.version, "patient_key": message.patient_key, "duplicate": False}
        else:
            data |= {"acknowledgment_code": message.acknowledgment_code, "error_code": message.findings[-1]}
        return Event(
            id=self._ids.new("evt"),
            type="ps.hl7.received" if received else "ps.hl7.rejected",
            source=self._source,
            subject=message.id,
            time=message.received_at,
            tenant=message.tenant,
            # Without a patient there is no order to keep but the integration's own.
            key=message.patient_key or message.integration_id,
            data=data,
            traceparent=message.traceparent,
        )

    async def search(self, tenant: str, wanted: MessageFilter, cursor: str | None, limit: int) -> Page[StoredMessage]:
        statement = search_statement(tenant, wanted)
        if cursor is not None:
            statement = statement.where(MESSAGE.c.id < decode_cursor(cursor, (str,))[0])
        async with self._database.read() as session:
            rows = (await session.execute(statement.limit(limit + 1))).all()
        items = [_stored(row) for row in rows[:limit]]
        return Page(items, encode_cursor([items[-1].id]) if len(rows) > limit else None)

    async def get(self, tenant: str, message_id: str) -> StoredMessage:
        async with self._database.read() as session:
            row = (await session.execute(_of(tenant, [message_id]))).first()
        if row is None:
            raise SuiteError("message.not-found")
        return _stored(row)

    async def read_body(self, caller: Caller, message_id: str, reason: str) -> tuple[StoredMessage, bytes]:
        keys = await self._keys.tenant(caller.tenant)
        async with self._database.write() as session:
            row = (await session.execute(_of(caller.tenant, [message_id], with_body=True))).first()
            if row is None:
                raise SuiteError("message.not-found")
            body = keys.open(row.sealed_body, record=row.id, field="body")
            entry = audit.Audit(
                action="message.body.read", subject=message_id, caller=caller, time=self._clock.now(), reason=reason
            )
            await audit.record(session, entry)
        return _stored(row), body

    async def read_bodies(self, caller: Caller, message_ids: Sequence[str]) -> Sequence[tuple[StoredMessage, bytes]]:
        keys = await self._keys.tenant(caller.tenant)
        async with self._database.read() as session:
            sizes = select(MESSAGE.c.size_bytes).where(MESSAGE.c.tenant == caller.tenant, MESSAGE.c.id.in_(message_ids))
            found = list((await session.execute(sizes)).scalars())
            if len(found) > 1 and sum(found) > BODIES_BYTES_MAX:
                raise SuiteError("request.too-large", f"Ask for fewer messages: at most {BODIES_BYTES_MAX} bytes.")
            rows = {row.id: row for row in await session.execute(_of(caller.tenant, message_ids, with_body=True))}
        async with self._database.write() as session:
            entry = audit.Audit(
                action="messages.bodies.read",
                subject="messages",
                caller=caller,
                time=self._clock.now(),
                detail={"count": len(rows)},
            )
            await audit.record(session, entry)
        present = [rows[message_id] for message_id in dict.fromkeys(message_ids) if message_id in rows]
        return [(_stored(row), keys.open(row.sealed_body, record=row.id, field="body")) for row in present]

    async def forget_seen(self, window_s: float) -> int:
        """Delete what recognises messages older than the window, in small transactions; returns how many."""
        before, forgotten = self._clock.now() - timedelta(seconds=window_s), 0
        while True:
            old = select(SEEN.c.duplicate_key).where(SEEN.c.received_at < before).limit(PRUNE_ROWS_MAX)
            async with self._database.write() as session:
                result: Any = await session.execute(delete(SEEN).where(SEEN.c.duplicate_key.in_(old)))
            forgotten += int(result.rowcount)
            if result.rowcount < PRUNE_ROWS_MAX:
                return forgotten


def search_statement(tenant: str, wanted: MessageFilter) -> Select[Any]:
    """The messages that fit, newest first, without their bodies."""
    columns = MESSAGE.c
    statement = select(*_METADATA).where(columns.tenant == tenant)
    for name in ("integration_id", "channel", "control_id", "message_type", "trigger_event", "state"):
        value = getattr(wanted, name)
        if value is not None:
            statement = statement.where(columns[name] == value)
    if wanted.patient_keys is not None:
        statement = statement.where(columns.patient_key.in_(wanted.patient_keys))
    if wanted.after is not None:
        statement = statement.where(columns.received_at >= wanted.after)
    if wanted.before is not None:
        statement = statement.where(columns.received_at < wanted.before)
    return statement.order_by(columns.id.desc())


def _of(tenant: str, message_ids: Sequence[str], *, with_body: bool = False) -> Select[Any]:
    columns = [*_METADATA, MESSAGE.c.sealed_body] if with_body else _METADATA
    return select(*columns).where(MESSAGE.c.tenant == tenant, MESSAGE.c.id.in_(message_ids))


def _row(message: NewMessage) -> dict[str, Any]:
    header = message.header
    return {
        "tenant": message.tenant,
        "id": message.id,
        "integration_id": message.integration_id,
        "channel": message.channel,
        "peer": message.peer,
        "application": header.application,
        "facility": header.facility,
        "control_id": header.control_id,
        "message_type": header.message_type,
        "trigger_event": header.trigger_event,
        "version": header.version,
        "patient_key": message.patient_key,
        "received_at": message.received_at,
        "state": message.state.value,
        "acknowledgment_code": message.acknowledgment_code,
        "size_bytes": message.size_bytes,
        "findings": message.findings,
        "sealed_body": message.sealed_body,
    }


def _stored(row: Any) -> StoredMessage:
    values = {name: getattr(row, name) for name in StoredMessage.__slots__}
    return StoredMessage(**{**values, "state": MessageState(row.state), "findings": tuple(row.findings)})
