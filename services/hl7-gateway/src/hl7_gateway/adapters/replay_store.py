"""Replays in the database: a page, its effect and the cursor behind it are one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Select, Table, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from common.models.clock import Clock, Ids, instant_text
from common.models.errors import SuiteError
from common.models.events import Event
from common.models.paging import Page, decode_cursor, encode_cursor
from common.runtime import audit, outbox
from common.runtime.authentication import Caller
from common.runtime.database import Database
from common.runtime.leases import Lease, Leases
from hl7_gateway.adapters.message_store import MESSAGE, SqlMessageStore, search_statement
from hl7_gateway.adapters.outbound_store import SqlOutboundStore
from hl7_gateway.adapters.replay_tables import NOT_ENDED, RUNNING, ReplayRow
from hl7_gateway.core.message import MessageState, StoredMessage
from hl7_gateway.core.replay import (
    BODY_DELETED,
    ENDED,
    PAGE_BYTES_MAX,
    Counted,
    Group,
    PageMessage,
    Replay,
    Sorted,
    State,
    Step,
    Target,
    cut,
    moved,
)
from hl7_gateway.ports import HandedTo, MessageFilter

REPLAY: Final[Table] = ReplayRow.__table__  # type: ignore[attr-defined]
OUTBOX_AGE_S_MAX: Final = 30.0
"""When the bus takes nothing for so long, a replay waits: the outbox is for what happens now."""
_STORED: Final = [MESSAGE.c[name] for name in StoredMessage.__slots__]
_PAST: Final = {Step.PAUSE: "paused", Step.RESUME: "resumed", Step.CANCEL: "cancelled"}


class SqlReplayStore:
    """`ReplayBook` and `ReplayQueue`."""

    def __init__(
        self,
        database: Database,
        leases: Leases,
        messages: SqlMessageStore,
        outbound: SqlOutboundStore,
        clock: Clock,
        ids: Ids,
        source: str,
        *,
        page_bytes_max: int = PAGE_BYTES_MAX,
    ) -> None:
        self._database = database
        self._leases = leases
        self._messages = messages
        self._outbound = outbound
        self._clock = clock
        self._ids = ids
        self._source = source
        self._page_bytes_max = page_bytes_max

    # ---- The API.

    async def counted(self, tenant: str, wanted: MessageFilter) -> Counted:
        columns = MESSAGE.c
        named = (columns.message_type, columns.trigger_event, columns.state)
        ends = (func.min(columns.sequence).label("first"), func.max(columns.sequence).label("last"))
        found = _in_the_intake(search_statement(tenant, wanted))
        grouped = found.with_only_columns(*named, func.count().label("messages"), *ends).group_by(*named)
        async with self._database.read() as session:
            rows = (await session.execute(grouped)).all()
            if not rows:
                return Counted()
            place = (min(row.first for row in rows), max(row.last for row in rows))
            first, last = [await self._one(session, tenant, sequence) for sequence in place]
        groups = [Group(row.message_type, row.trigger_event, MessageState(row.state), row.messages) for row in rows]
        return Counted(groups, first, last, place[1])

    async def _one(self, session: AsyncSession, tenant: str, sequence: int) -> StoredMessage | None:
        mine = select(*_STORED).where(MESSAGE.c.tenant == tenant, MESSAGE.c.sequence == sequence)
        row = (await session.execute(mine)).first()
        return None if row is None else _message(row)

    async def tell_again(self, caller: Caller, message: StoredMessage, key: str, replay_id: str, reason: str) -> str:
        mine = (MESSAGE.c.tenant == caller.tenant, MESSAGE.c.id == message.id)
        body = select(MESSAGE.c.id, MESSAGE.c.sequence, MESSAGE.c.sealed_body).where(*mine)
        async with self._database.read() as session:
            rows = (await session.execute(body)).all()
        if not await self._messages.kept_bodies(rows):
            raise SuiteError(BODY_DELETED)
        event = self._event(message, key, replay_id)
        async with self._database.write() as session:
            await outbox.add(session, [event])
            await self._audit(session, caller, "message.replayed", message.id, reason, replay_id=replay_id)
        return event.id

    async def add(self, caller: Caller, replay: Replay, not_ended_max: int) -> None:
        open_ = select(func.count()).select_from(REPLAY).where(REPLAY.c.tenant == replay.tenant, text(NOT_ENDED))
        async with self._database.write() as session:
            # The audit's chain is held first: two starts at once see each other.
            detail = {"count": replay.total, "kind": replay.target.kind, "connection_id": replay.target.connection_id}
            await self._audit(session, caller, "replay.created", replay.id, replay.reason, **detail)
            if (await session.execute(open_)).scalar_one() >= not_ended_max:
                raise SuiteError("replay.too-many", f"{not_ended_max} at a time.")
            await session.execute(insert(REPLAY).values(**_row(replay)))

    async def get(self, tenant: str, replay_id: str) -> Replay:
        async with self._database.read() as session:
            return await self._found(session, tenant, replay_id)

    async def list(self, tenant: str, cursor: str | None, limit: int) -> Page[Replay]:
        statement = select(REPLAY).where(REPLAY.c.tenant == tenant)
        if cursor is not None:
            statement = statement.where(REPLAY.c.id < decode_cursor(cursor, (str,))[0])
        async with self._database.read() as session:
            rows = (await session.execute(statement.order_by(REPLAY.c.id.desc()).limit(limit + 1))).all()
        items = [_replay(row) for row in rows[:limit]]
        return Page(items, encode_cursor([items[-1].id]) if len(rows) > limit else None)

    async def move(self, caller: Caller, replay_id: str, step: Step, reason: str) -> Replay:
        async with self._database.write() as session:
            found = await self._found(session, caller.tenant, replay_id, held=True)
            after, now = moved(found.state, step), self._clock.now()
            if after is found.state:
                return found
            values: dict[str, Any] = {"state": after.value, "updated_at": now, "waiting_code": None}
            values["ended_at"] = now if after in ENDED else None
            if step is Step.RESUME:
                values["error_code"] = None
            await session.execute(update(REPLAY).where(REPLAY.c.id == replay_id).values(**values))
            await self._audit(session, caller, f"replay.{_PAST[step]}", replay_id, reason)
            return await self._found(session, caller.tenant, replay_id)

    # ---- Its owner.

    async def running(self, limit: int) -> Sequence[Replay]:
        statement = select(REPLAY).where(text(RUNNING)).order_by(REPLAY.c.id).limit(limit)
        async with self._database.read() as session:
            return [_replay(row) for row in await session.execute(statement)]

    async def page(self, replay: Replay, limit: int) -> Sequence[PageMessage]:
        statement = page_statement(
            replay.tenant, MessageFilter.of_json(replay.filter), replay.cursor, replay.up_to
        ).limit(limit)
        with_body = statement.add_columns(MESSAGE.c.sealed_body, MESSAGE.c.sequence)
        async with self._database.read() as session:
            rows = (await session.execute(with_body)).all()
        rows = rows[: cut([row.size_bytes for row in rows], self._page_bytes_max)]
        kept = await self._messages.kept_bodies(rows)
        return [PageMessage(row.sequence, _message(row), kept.get(row.id)) for row in rows]

    async def hand_over(
        self, lease: Lease, replay: Replay, page: Sequence[PageMessage], found: Sorted, to: HandedTo, took_ms: int
    ) -> bool:
        now = self._clock.now()
        going = len(to.messages) if to.connection is not None else len(found.going)
        skipped = dict(replay.skipped)
        for code, count in found.skipped.items():
            skipped[code] = skipped.get(code, 0) + count
        async with self._database.write() as session:
            await self._leases.check(session, lease)
            if not await self._still(session, replay):
                return False
            if to.connection is not None and to.messages:
                await self._outbound.put(session, to.connection, to.messages)
            elif found.going:
                if await outbox.outbox_age(session, now) > OUTBOX_AGE_S_MAX:
                    raise SuiteError("bus.unavailable", "The outbox is not emptied.")
                told = [self._event(one.message, to.keys[one.message.id], replay.id) for one in found.going]
                await outbox.add(session, told)
            values = {
                "cursor": page[-1].sequence,
                "done": replay.done + going,
                "skipped": skipped,
                "waiting_code": None,
                "updated_at": now,
                "worked_ms": replay.worked_ms + took_ms,
            }
            await session.execute(update(REPLAY).where(REPLAY.c.id == replay.id).values(**values))
        return True

    async def wait(self, lease: Lease, replay: Replay, code: str) -> None:
        await self._note(lease, replay, {"waiting_code": code, "updated_at": self._clock.now()})

    async def end(self, lease: Lease, replay: Replay, step: Step, code: str | None) -> None:
        now, after = self._clock.now(), moved(State.RUNNING, step)
        values = {"state": after.value, "error_code": code, "waiting_code": None, "updated_at": now}
        await self._note(lease, replay, {**values, "ended_at": now if after in ENDED else None})

    async def _note(self, lease: Lease, replay: Replay, values: Mapping[str, Any]) -> None:
        async with self._database.write() as session:
            await self._leases.check(session, lease)
            if await self._still(session, replay):
                await session.execute(update(REPLAY).where(REPLAY.c.id == replay.id).values(**values))

    # ---- Shared pieces.

    async def _still(self, session: AsyncSession, replay: Replay) -> bool:
        """Whether it runs where we left it; nobody changes that before the transaction ends."""
        mine = select(REPLAY.c.state, REPLAY.c.cursor).where(REPLAY.c.id == replay.id)
        row = (await session.execute(mine.with_for_update())).first()
        return row is not None and (row.state, row.cursor) == (State.RUNNING.value, replay.cursor)

    async def _found(self, session: AsyncSession, tenant: str, replay_id: str, *, held: bool = False) -> Replay:
        mine = select(REPLAY).where(REPLAY.c.id == replay_id, REPLAY.c.tenant == tenant)
        row = (await session.execute(mine.with_for_update() if held else mine)).first()
        if row is None:
            raise SuiteError("replay.not-found")
        return _replay(row)

    def _event(self, message: StoredMessage, key: str, replay_id: str) -> Event:
        """A new event, so that no inbox takes it for the first one; `replay_id` says that it is told again."""
        return Event(
            id=self._ids.new("evt"),
            type="ps.hl7.received",
            source=self._source,
            subject=message.id,
            time=self._clock.now(),
            tenant=message.tenant,
            key=key,
            data={
                "message_id": message.id,
                "integration_id": message.integration_id,
                "channel": message.channel,
                "message_type": message.message_type,
                "trigger_event": message.trigger_event,
                "hl7_version": message.version,
                "patient_key": message.patient_key,
                "size_bytes": message.size_bytes,
                "received_at": instant_text(message.received_at),
                "duplicate": False,
                "replay_id": replay_id,
            },
        )

    async def _audit(
        self, session: AsyncSession, caller: Caller, action: str, subject: str, reason: str, **detail: object
    ) -> None:
        entry = audit.Audit(
            action=action, subject=subject, caller=caller, time=self._clock.now(), reason=reason, detail=detail
        )
        await audit.record(session, entry)


def page_statement(tenant: str, wanted: MessageFilter, cursor: int, up_to: int) -> Select[Any]:
    """The messages of a replay behind its cursor, in the order they were stored."""
    fits = _in_the_intake(search_statement(tenant, wanted))
    return fits.where(MESSAGE.c.sequence > cursor, MESSAGE.c.sequence <= up_to).order_by(MESSAGE.c.sequence)


def _in_the_intake(found: Select[Any]) -> Select[Any]:
    """In no order yet. Those that were stored before there was an intake have no place in it, and are left out."""
    return found.order_by(None).where(MESSAGE.c.sequence.is_not(None))


def _message(row: Any) -> StoredMessage:
    values = {name: getattr(row, name) for name in StoredMessage.__slots__}
    return StoredMessage(**{**values, "state": MessageState(row.state), "findings": tuple(row.findings)})


def _row(replay: Replay) -> dict[str, Any]:
    values = {name: getattr(replay, name) for name in Replay.__slots__ if name != "target"}
    return {**values, "state": replay.state.value, "connection_id": replay.target.connection_id}


def _replay(row: Any) -> Replay:
    values = {name: getattr(row, name) for name in Replay.__slots__ if name != "target"}
    return Replay(**{**values, "state": State(row.state), "target": Target(row.connection_id)})
