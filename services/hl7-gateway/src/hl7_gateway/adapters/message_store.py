"""The catalogue of messages in the database; their bodies lie in the intake."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, Table, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from common.models.clock import Clock, Ids, instant_text
from common.models.errors import SuiteError
from common.models.events import Event
from common.models.identifiers import time_part
from common.models.paging import Page, decode_cursor, encode_cursor
from common.runtime import audit, outbox
from common.runtime.authentication import Caller
from common.runtime.database import Database
from hl7_gateway.adapters.tables import MessageKeyRow, MessageRow
from hl7_gateway.core.message import MessageState, NewMessage, StoredMessage, milliseconds_of
from hl7_gateway.core.message_keys import CONTROL_ID_REUSED, KeyKind, finding_codes
from hl7_gateway.ports import Intake, KeySource, MessageFilter

MESSAGE: Final[Table] = MessageRow.__table__  # type: ignore[attr-defined]
MESSAGE_KEY: Final[Table] = MessageKeyRow.__table__  # type: ignore[attr-defined]
FORGOTTEN_MAX: Final = 500
BODIES_BYTES_MAX: Final = 32 * 1024 * 1024

ID_LATE_MAX: Final = timedelta(seconds=10)
"""How long after it was received a message has its id at the latest."""

_EXACTLY: Final = (
    "integration_id", "channel", "connection_id", "application", "facility", "control_id", "message_type",
    "trigger_event", "state",
)  # fmt: skip
_METADATA: Final = [MESSAGE.c[name] for name in StoredMessage.__slots__]


class SqlMessageStore:
    """`Catalogue` and `MessageBook`."""

    def __init__(
        self, database: Database, intake: Intake, keys: KeySource, clock: Clock, ids: Ids, source: str
    ) -> None:
        self._database = database
        self._intake = intake
        self._keys = keys
        self._clock = clock
        self._ids = ids
        self._source = source

    async def add(self, messages: Sequence[NewMessage]) -> None:
        async with self._database.write() as session:
            present = set((await session.execute(_ids_of(messages))).scalars())
            fresh = [message for message in messages if message.id not in present]
            if fresh:
                fresh = await self._flagged(session, fresh)
                await session.execute(insert(MESSAGE), [message_row(message) for message in fresh])
                keys = [key for message in fresh for key in key_rows(message)]
                if keys:
                    await session.execute(insert(MESSAGE_KEY), keys)
                await outbox.add(session, [self._event(message) for message in fresh])

    async def forget(self, kept_s: float) -> int:
        before = _first_id(self._clock.now() - timedelta(seconds=kept_s))
        async with self._database.write() as session:
            # The first tenant behind the one before, by the index: not all rows are looked at for their tenants.
            tenant = (await session.execute(select(func.min(MESSAGE.c.tenant)))).scalar()
            while tenant is not None:
                old = select(MESSAGE.c.id).where(MESSAGE.c.tenant == tenant, MESSAGE.c.id < before)
                ids = list((await session.execute(old.order_by(MESSAGE.c.id).limit(FORGOTTEN_MAX))).scalars())
                if ids:
                    for table, column in ((MESSAGE_KEY, MESSAGE_KEY.c.message_id), (MESSAGE, MESSAGE.c.id)):
                        await session.execute(delete(table).where(table.c.tenant == tenant, column.in_(ids)))
                    return len(ids)
                following = select(func.min(MESSAGE.c.tenant)).where(MESSAGE.c.tenant > tenant)
                tenant = (await session.execute(following)).scalar()
        return 0

    async def _flagged(self, session: AsyncSession, messages: Sequence[NewMessage]) -> list[NewMessage]:
        """The messages; those whose sender used their control id before, for another body, with a finding of it."""
        columns = MESSAGE.c
        names = {_named(message) for message in messages if message.header.control_id}
        used = select(columns.tenant, columns.application, columns.facility, columns.control_id).where(
            columns.tenant.in_({name[0] for name in names}), columns.control_id.in_({name[3] for name in names})
        )
        seen = {tuple(row) for row in await session.execute(used)} if names else set()
        flagged = []
        for message in messages:
            name = _named(message)
            if name in seen:
                message = replace(message, findings=(*message.findings, CONTROL_ID_REUSED))  # noqa: PLW2901
            if message.header.control_id:
                seen.add(name)
            flagged.append(message)
        return flagged

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
            data |= {"acknowledgment_code": message.acknowledgment_code, "error_code": message.rejection}
        return Event(
            id=self._ids.new("evt"),
            type="ps.hl7.received" if received else "ps.hl7.rejected",
            source=self._source,
            subject=message.id,
            time=message.received_at,
            tenant=message.tenant,
            key=message.order_key or message.patient_key or message.integration_id,
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
            sealed = (await self._sealed([row])).get(message_id) if row is not None else None
            if row is None:
                raise SuiteError("message.not-found")
            if sealed is None:
                raise SuiteError("message.body-deleted")
            body = keys.open(sealed, record=row.id, field="body")
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
        sealed = await self._sealed(rows.values())
        async with self._database.write() as session:
            entry = audit.Audit(
                action="messages.bodies.read",
                subject="messages",
                caller=caller,
                time=self._clock.now(),
                detail={"count": len(sealed)},
            )
            await audit.record(session, entry)
        present = [rows[message_id] for message_id in dict.fromkeys(message_ids) if message_id in sealed]
        return [(_stored(row), keys.open(sealed[row.id], record=row.id, field="body")) for row in present]

    async def kept_bodies(self, rows: Collection[Any]) -> Mapping[str, bytes]:
        """The sealed bodies, by id, of rows with `id`, `sequence` and `sealed_body`; deleted ones are left out."""
        return await self._sealed(rows)

    async def _sealed(self, rows: Collection[Any]) -> Mapping[str, bytes]:
        """The sealed bodies that are still kept, by message id."""
        here = {row.id: row.sealed_body for row in rows if row.sequence is None}
        sequences = {row.sequence: row.id for row in rows if row.sequence is not None}
        kept = await self._intake.bodies(list(sequences)) if sequences else {}
        return here | {sequences[sequence]: sealed for sequence, sealed in kept.items()}


def search_statement(tenant: str, wanted: MessageFilter) -> Select[Any]:
    """The messages that fit, newest first, without their bodies."""
    columns = MESSAGE.c
    statement = select(*_METADATA).where(columns.tenant == tenant)
    for name in _EXACTLY:
        value = getattr(wanted, name)
        if value is not None:
            statement = statement.where(columns[name] == value)
    if wanted.patient_keys is not None:
        statement = statement.where(columns.patient_key.in_(wanted.patient_keys))
    keys = [
        (kind, key)
        for kind, key in (
            (KeyKind.VISIT, wanted.visit_key),
            (KeyKind.ORDER, wanted.order_key),
            (KeyKind.FINDING, wanted.finding_code),
        )
        if key is not None
    ]
    for kind, key in keys[1:]:
        also = select(MESSAGE_KEY.c.message_id).where(*_named_by(tenant, kind, key))
        statement = statement.where(columns.id.in_(also))
    place = columns.id
    if keys:  # the order is the key's: of a key that many messages have, only a page is read
        place = MESSAGE_KEY.c.message_id
        statement = statement.where(*_named_by(tenant, *keys[0]), columns.id == place)
    # An id begins with the millisecond it was made in, just after the message was received, and ids are the order.
    if wanted.after is not None:
        statement = statement.where(columns.received_at >= wanted.after, place >= _first_id(wanted.after))
    if wanted.before is not None:
        late = wanted.before + ID_LATE_MAX
        statement = statement.where(columns.received_at < wanted.before, place < _first_id(late))
    return statement.order_by(place.desc())


def _named_by(tenant: str, kind: KeyKind, key: str) -> tuple[ColumnElement[bool], ...]:
    columns = MESSAGE_KEY.c
    return columns.tenant == tenant, columns.kind == kind.value, columns.key == key


def _first_id(instant: datetime) -> str:
    return f"msg_{time_part(max(0, milliseconds_of(instant)))}"


def _of(tenant: str, message_ids: Sequence[str], *, with_body: bool = False) -> Select[Any]:
    columns = [*_METADATA, MESSAGE.c.sealed_body, MESSAGE.c.sequence] if with_body else _METADATA
    return select(*columns).where(MESSAGE.c.tenant == tenant, MESSAGE.c.id.in_(message_ids))


def _ids_of(messages: Sequence[NewMessage]) -> Select[Any]:
    """Those that are there already. The tenant leads the primary key."""
    tenants = {message.tenant for message in messages}
    return select(MESSAGE.c.id).where(
        MESSAGE.c.tenant.in_(tenants), MESSAGE.c.id.in_([message.id for message in messages])
    )


def _named(message: NewMessage) -> tuple[str, str, str, str]:
    """Tenant, sender and control id."""
    header = message.header
    return message.tenant, header.application, header.facility, header.control_id


def key_rows(message: NewMessage) -> list[dict[str, str]]:
    keys = [*message.keys, *((KeyKind.FINDING.value, code) for code in finding_codes(message.findings))]
    return [{"tenant": message.tenant, "kind": kind, "key": key, "message_id": message.id} for kind, key in keys]


def message_row(message: NewMessage) -> dict[str, Any]:
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
        "sealed_body": b"",
        "sequence": message.sequence,
        "connection_id": message.connection_id,
    }


def _stored(row: Any) -> StoredMessage:
    values = {name: getattr(row, name) for name in StoredMessage.__slots__}
    return StoredMessage(**{**values, "state": MessageState(row.state), "findings": tuple(row.findings)})
