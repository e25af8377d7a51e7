"""Queues of outbound messages in the database.

Whoever puts messages into a connection's queue holds the row of its counter `queued` first. So the messages of one
queue become visible in the order of their sequence, and a reader whose place only moves on passes none over (a
sequence is given out before its transaction commits). Parking and releasing take the same row: a message that comes
meanwhile is either held, too, or released with the others.

What is in a message's way is asked of the store when it is begun; what readers saw before is only a proposal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Select, Table, and_, delete, exists, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from common.models.clock import Clock, Ids
from common.models.errors import SuiteError
from common.models.events import Event
from common.models.paging import Page, decode_cursor, encode_cursor
from common.runtime import audit, outbox
from common.runtime.authentication import Caller
from common.runtime.database import Database
from common.runtime.leases import Lease, Leases
from common.runtime.tables import LEASE
from hl7_gateway.adapters.tables import (
    NOT_REMOVED,
    QUEUED,
    STOPPED,
    UNSETTLED,
    ConnectionCounterRow,
    ConnectionLinkRow,
    ConnectionRow,
    OutboundAttemptRow,
    OutboundMessageRow,
)
from hl7_gateway.core.connection_configuration import Connection, ConnectionState
from hl7_gateway.core.delivery import INTERRUPTED, End, Settlement, State, Write, lease_name
from hl7_gateway.core.outbound_message import Attempt, NewOutbound, Outbound
from hl7_gateway.core.outbound_window import Candidate, Fetch, Read
from hl7_gateway.ports import KeySource, Live, OutboundFilter, Signals

MESSAGE: Final[Table] = OutboundMessageRow.__table__  # type: ignore[attr-defined]
ATTEMPT: Final[Table] = OutboundAttemptRow.__table__  # type: ignore[attr-defined]
COUNTER: Final[Table] = ConnectionCounterRow.__table__  # type: ignore[attr-defined]
LINK: Final[Table] = ConnectionLinkRow.__table__  # type: ignore[attr-defined]
_CONNECTION: Final[Table] = ConnectionRow.__table__  # type: ignore[attr-defined]

SHOWN_STOPPED_MAX: Final = 10_000
SHOWN_ATTEMPTS_MAX: Final = 100
PRUNE_ROWS_MAX: Final = 500
_FIELD: Final = "outbound"
_QUEUED_COUNTER, _REVISION = "queued", "revision"
_LEFT: Final = ("delivered", "dropped", "discarded")
_METADATA: Final = [MESSAGE.c[name] for name in Outbound.__slots__]
_CANDIDATE: Final = [
    MESSAGE.c[name]
    for name in (
        "id", "sequence", "order_key", "control_id", "attempts", "refusals", "silences", "not_before", "message_type",
        "trigger_event", "size_bytes",
    )
]  # fmt: skip
_EARLIER: Final = MESSAGE.alias("earlier")
_EARLIER_OF_KEY: Final = (
    _EARLIER.c.connection_id == MESSAGE.c.connection_id,
    _EARLIER.c.order_key == MESSAGE.c.order_key,
    _EARLIER.c.sequence < MESSAGE.c.sequence,
    text(f"earlier.{UNSETTLED}"),
)
_COUNTER_OF: Final = {
    State.DELIVERED: "delivered",
    State.PARKED: "parked",
    State.DROPPED: "dropped",
    State.QUEUED: "retried",
}


class SqlOutboundStore:
    """`OutboundBook` and `OutboundQueue`. `queued` and `released` are called after commits, with a connection's id."""

    def __init__(
        self, database: Database, leases: Leases, keys: KeySource, clock: Clock, ids: Ids, source: str, replica: str
    ) -> None:
        self.queued: list[Callable[[str], None]] = []
        self.released: list[Callable[[str], None]] = []
        self._database = database
        self._leases = leases
        self._keys = keys
        self._clock = clock
        self._ids = ids
        self._source = source
        self._replica = replica

    # ---- Into the queue.

    async def enqueue(self, connection: Connection, messages: Sequence[NewOutbound]) -> None:
        async with self._database.write() as session:
            await self.put(session, connection, messages)

    async def put(self, session: AsyncSession, connection: Connection, messages: Sequence[NewOutbound]) -> None:
        """What `enqueue` does, in the caller's transaction."""
        queued = await self._count(session, connection.id, {_QUEUED_COUNTER: len(messages)})
        await self._check_takes(session, connection)
        counters = await self._counters(session, connection.id)
        depth = queued[_QUEUED_COUNTER] - sum(counters.get(name, 0) for name in _LEFT)
        if depth > connection.sending.queue_messages_max:
            limit = connection.sending.queue_messages_max
            raise SuiteError("connection.queue-full", f"{depth - len(messages)} of {limit} messages wait.")
        held = await self._held_keys(session, connection, {message.order_key for message in messages})
        rows = [self._row(connection, message, held=message.order_key in held) for message in messages]
        await session.execute(insert(MESSAGE), rows)
        self._tell(session, self.queued, connection.id)

    async def replace_parked(
        self, session: AsyncSession, connection: Connection, message_id: str, message: NewOutbound
    ) -> None:
        """Discard a parked message and queue another in its stead, in the caller's transaction.

        It takes the old one's place, before what is held behind it; when its order key is another, the queue's end.
        The new row gets the old one's sequence, which is its place, and the old one with its tries a new sequence.
        Raises SuiteError `outbound.not-found`, `request.conflict` when it is not parked, and as `enqueue`.
        """
        old = await self._held_for_change(session, connection.tenant, message_id)
        if old.state is not State.PARKED:
            raise SuiteError("request.conflict", f"Only a parked message is edited; it is {old.state}.")
        await self._check_takes(session, connection)
        mine = MESSAGE.c.sequence == old.sequence
        row = dict((await session.execute(select(MESSAGE).where(mine))).mappings().one())
        gone = {"state": State.DISCARDED.value, "settled_at": self._clock.now(), "not_before": None}
        if message.order_key == row["order_key"]:
            fresh = self._row(connection, message, held=False)
            emptied = {"not_before": None, "acknowledgment_code": None, "error_code": None, "settled_at": None}
            await session.execute(update(MESSAGE).where(mine).values(**fresh, **emptied))
            moved = insert(MESSAGE).values(**{name: row[name] for name in row if name != "sequence"} | gone)
            place = (await session.execute(moved.returning(MESSAGE.c.sequence))).scalar_one()
            await session.execute(update(ATTEMPT).where(ATTEMPT.c.sequence == old.sequence).values(sequence=place))
            await self._count(session, connection.id, {_QUEUED_COUNTER: 1, "discarded": 1})
        else:
            place = old.sequence
            await session.execute(update(MESSAGE).where(mine).values(**gone))
            await self._count(session, connection.id, {"discarded": 1})
            await self.put(session, connection, [message])
        await self._release(session, connection.id, [place])
        found = await self._found(session, connection.tenant, message_id)
        await outbox.add(session, [self._event(connection, found, found.attempts)])

    async def read_body(self, caller: Caller, message_id: str, reason: str) -> tuple[Outbound, bytes]:
        """A message with its body; the reading is audited first. Raises SuiteError `outbound.not-found`."""
        keys = await self._keys.tenant(caller.tenant)
        sealed = select(MESSAGE.c.sealed_body).where(MESSAGE.c.tenant == caller.tenant, MESSAGE.c.id == message_id)
        async with self._database.write() as session:
            found = await self._found(session, caller.tenant, message_id)
            body = keys.open((await session.execute(sealed)).scalar_one(), record=message_id, field=_FIELD)
            await self._audit(session, caller, "outbound.body.read", message_id, reason)
        return found, body

    async def _check_takes(self, session: AsyncSession, connection: Connection) -> None:
        """Against a change meanwhile: the row is held, so that a removal finds the messages or they find it removed."""
        mine = select(_CONNECTION.c.state).where(_CONNECTION.c.id == connection.id, text(NOT_REMOVED))
        state = (await session.execute(mine.with_for_update(read=True))).scalar()
        if state is None:
            raise SuiteError("connection.not-found")
        if state == ConnectionState.DISABLED.value:
            raise SuiteError("connection.not-sending", "It is disabled.")

    async def _held_keys(self, session: AsyncSession, connection: Connection, keys: set[str]) -> set[str]:
        if not connection.sending.parked_holds_key:
            return set()
        stopped = select(MESSAGE.c.order_key).where(
            MESSAGE.c.connection_id == connection.id,
            MESSAGE.c.order_key.in_(sorted(keys)),
            text(UNSETTLED),
            MESSAGE.c.state.in_((State.PARKED.value, State.HELD.value)),
        )
        return set((await session.execute(stopped.distinct())).scalars())

    def _row(self, connection: Connection, message: NewOutbound, *, held: bool) -> dict[str, Any]:
        return {
            **{name: getattr(message, name) for name in NewOutbound.__slots__},
            "tenant": connection.tenant,
            "connection_id": connection.id,
            "integration_id": connection.configuration.integration_id,
            "state": State.HELD.value if held else State.QUEUED.value,
            "attempts": 0,
            "refusals": 0,
            "silences": 0,
            "queued_at": self._clock.now(),
        }

    # ---- Its owner.

    async def recover(self, lease: Lease, connection: Connection) -> None:
        mine = MESSAGE.c.connection_id == connection.id
        left = select(MESSAGE.c.sequence, MESSAGE.c.attempts, MESSAGE.c.queued_at).where(
            mine, text(STOPPED), MESSAGE.c.state == State.IN_FLIGHT.value
        )
        now = self._clock.now()
        async with self._database.write() as session:
            await self._leases.check(session, lease)
            for row in (await session.execute(left)).all():
                attempt = {
                    "sequence": row.sequence,
                    "number": row.attempts + 1,
                    "began_at": now,
                    "ended_at": now,
                    "outcome": End.INTERRUPTED.value,
                    "error_code": INTERRUPTED,
                }
                await session.execute(self._database.insert(ATTEMPT).values(**attempt).on_conflict_do_nothing())
                again = {"state": State.QUEUED.value, "attempts": row.attempts + 1, "error_code": INTERRUPTED}
                await session.execute(update(MESSAGE).where(MESSAGE.c.sequence == row.sequence).values(**again))
                await self._count(session, connection.id, {"sent": 1, "retried": 1})
            if not connection.sending.parked_holds_key:
                held = (mine, text(STOPPED), MESSAGE.c.state == State.HELD.value)
                await session.execute(update(MESSAGE).where(*held).values(state=State.QUEUED.value))

    async def read(self, connection: Connection, read: Read) -> Sequence[Candidate]:
        statement = read_statement(connection.id, read)
        now = self._clock.now()
        async with self._database.read() as session:
            return [_candidate(row, now) for row in await session.execute(statement)]

    async def write(
        self, lease: Lease, connection: Connection, write: Write, counted: Mapping[str, int]
    ) -> Mapping[str, bytes]:
        keys = await self._keys.tenant(connection.tenant)
        async with self._database.write() as session:
            await self._leases.check(session, lease)
            counts = {**counted}
            if any(settlement.state is State.PARKED for settlement in write.settlements):
                await self._hold_counter(
                    session, connection.id
                )  # before any message's row: all take them in this order
            delivered = [one for one in write.settlements if one.state is State.DELIVERED]
            await self._settle_delivered(session, connection, delivered, counts)
            for settlement in write.settlements:
                if settlement.state is not State.DELIVERED:
                    await self._settle(session, connection, settlement, counts)
            begun = await self._begin(session, connection, [candidate.sequence for candidate in write.begin])
            await self._count(session, connection.id, counts)
        if len(begun) < len(write.begin) and connection.sending.parked_holds_key:
            await self._hold_behind(lease, connection, [candidate.sequence for candidate in write.begin])
        bodies: dict[str, bytes] = {}
        for row in begun:
            try:
                bodies[row.id] = keys.open(row.sealed_body, record=row.id, field=_FIELD)
            except SuiteError as error:  # altered, or its key is gone: it must not stop the others
                await self._park_unreadable(lease, connection, row.id, error.code)
        return bodies

    async def _settle_delivered(
        self, session: AsyncSession, connection: Connection, settlements: Sequence[Settlement], counts: dict[str, int]
    ) -> None:
        """Nearly all end so: a statement for many of them."""
        now = self._clock.now()
        ended = {settlement.candidate.sequence: settlement for settlement in settlements}
        rows: list[Any] = []
        for code in {settlement.acknowledgment_code for settlement in settlements}:
            values = {
                "state": State.DELIVERED.value,
                "attempts": MESSAGE.c.attempts + 1,
                "not_before": None,
                "acknowledgment_code": code,
                "error_code": None,
                "settled_at": now,
            }
            mine = [one.candidate.sequence for one in settlements if one.acknowledgment_code == code]
            flying = (MESSAGE.c.sequence.in_(mine), MESSAGE.c.state == State.IN_FLIGHT.value)
            found = (await session.execute(update(MESSAGE).where(*flying).values(**values).returning(*_METADATA))).all()
            if code is not None:
                counts["acknowledged"] = counts.get("acknowledged", 0) + len(found)
            rows += found
        if not rows:
            return
        rows.sort(key=lambda row: int(row.sequence))
        for name in ("delivered", "sent"):
            counts[name] = counts.get(name, 0) + len(rows)
        await session.execute(insert(ATTEMPT), [_attempt(ended[row.sequence], now) for row in rows])
        await outbox.add(session, [self._event(connection, _outbound(row), row.attempts) for row in rows])

    async def _settle(
        self, session: AsyncSession, connection: Connection, settlement: Settlement, counts: dict[str, int]
    ) -> None:
        candidate, state = settlement.candidate, settlement.state
        now = self._clock.now()
        values = {
            "state": state.value,
            "attempts": candidate.attempts,
            "refusals": candidate.refusals,
            "silences": candidate.silences,
            "not_before": now + timedelta(seconds=settlement.delay_s) if settlement.delay_s else None,
            "acknowledgment_code": settlement.acknowledgment_code,
            "error_code": settlement.error_code,
            "settled_at": now if state is State.DROPPED else None,
        }
        if settlement.end is End.RETURNED:
            values = {"state": State.QUEUED.value}
        mine = (MESSAGE.c.sequence == candidate.sequence, MESSAGE.c.state == State.IN_FLIGHT.value)
        changed = update(MESSAGE).where(*mine).values(**values).returning(*_METADATA)
        row = (await session.execute(changed)).first()
        if row is None or settlement.end is End.RETURNED:
            return  # a repetition of a write whose answer was lost
        await session.execute(insert(ATTEMPT).values(**_attempt(settlement, now)))
        for name in (_COUNTER_OF[state], "sent", *(("acknowledged",) if settlement.acknowledgment_code else ())):
            counts[name] = counts.get(name, 0) + 1
        if state is State.PARKED and connection.sending.parked_holds_key:
            await self._hold_key(session, connection.id, candidate.key)
        await outbox.add(session, [self._event(connection, _outbound(row), candidate.attempts)])

    async def _begin(self, session: AsyncSession, connection: Connection, sequences: Sequence[int]) -> Sequence[Any]:
        if not sequences:
            return []
        in_the_way: tuple[Any, ...] = _EARLIER_OF_KEY
        if not connection.sending.parked_holds_key:
            in_the_way = (*in_the_way, _EARLIER.c.state != State.PARKED.value)
        wanted = MESSAGE.c.sequence.in_(sequences)
        begun = (
            update(MESSAGE)
            .where(
                wanted,
                MESSAGE.c.state.in_((State.QUEUED.value, State.IN_FLIGHT.value)),
                ~exists().where(*in_the_way),
            )
            .values(state=State.IN_FLIGHT.value)
            .returning(MESSAGE.c.id, MESSAGE.c.sealed_body)
        )
        return (await session.execute(begun)).all()

    async def _hold_behind(self, lease: Lease, connection: Connection, sequences: Sequence[int]) -> None:
        """Queued messages that stand behind a parked one of their key wait with it."""
        stopped = _EARLIER.c.state.in_((State.PARKED.value, State.HELD.value))
        queued = (MESSAGE.c.sequence.in_(sequences), MESSAGE.c.state == State.QUEUED.value)
        behind = (*queued, exists().where(*_EARLIER_OF_KEY, stopped))
        async with self._database.write() as session:
            await self._leases.check(session, lease)
            await self._hold_counter(session, connection.id)
            await session.execute(update(MESSAGE).where(*behind).values(state=State.HELD.value))

    async def _park_unreadable(self, lease: Lease, connection: Connection, message_id: str, code: str) -> None:
        parked = {"state": State.PARKED.value, "error_code": code}
        mine = (MESSAGE.c.tenant == connection.tenant, MESSAGE.c.id == message_id)
        async with self._database.write() as session:
            await self._leases.check(session, lease)
            await self._hold_counter(session, connection.id)
            changed = update(MESSAGE).where(*mine).values(**parked).returning(*_METADATA, MESSAGE.c.order_key)
            row = (await session.execute(changed)).one()
            if connection.sending.parked_holds_key:
                await self._hold_key(session, connection.id, row.order_key)
            await self._count(session, connection.id, {"parked": 1})
            await outbox.add(session, [self._event(connection, _outbound(row), row.attempts)])

    async def _hold_key(self, session: AsyncSession, connection_id: str, key: str) -> None:
        later = (
            MESSAGE.c.connection_id == connection_id,
            MESSAGE.c.order_key == key,
            text(UNSETTLED),
            MESSAGE.c.state == State.QUEUED.value,
        )
        await session.execute(update(MESSAGE).where(*later).values(state=State.HELD.value))

    async def signals(self, connection: Connection) -> Signals:
        async with self._database.read() as session:
            counters = await self._counters(session, connection.id, (_QUEUED_COUNTER, _REVISION))
        return Signals(counters.get(_QUEUED_COUNTER, 0), counters.get(_REVISION, 0))

    async def note_link(self, connection: Connection, state: str, code: str | None) -> None:
        values = {"state": state, "code": code, "replica": self._replica, "since": self._clock.now()}
        noted = self._database.insert(LINK).values(connection_id=connection.id, **values)
        async with self._database.write() as session:
            await session.execute(noted.on_conflict_do_update(index_elements=["connection_id"], set_=values))

    # ---- The API.

    async def search(self, tenant: str, wanted: OutboundFilter, cursor: str | None, limit: int) -> Page[Outbound]:
        statement = outbound_search(tenant, wanted)
        if cursor is not None:
            statement = statement.where(MESSAGE.c.sequence < decode_cursor(cursor, (int,))[0])
        async with self._database.read() as session:
            rows = (await session.execute(statement.limit(limit + 1))).all()
        items = [_outbound(row) for row in rows[:limit]]
        return Page(items, encode_cursor([items[-1].sequence]) if len(rows) > limit else None)

    async def get(self, tenant: str, message_id: str) -> tuple[Outbound, Sequence[Attempt]]:
        async with self._database.read() as session:
            found = await self._found(session, tenant, message_id)
            tries = select(ATTEMPT).where(ATTEMPT.c.sequence == found.sequence).order_by(ATTEMPT.c.number.desc())
            rows = (await session.execute(tries.limit(SHOWN_ATTEMPTS_MAX))).all()
        return found, [Attempt(**{name: getattr(row, name) for name in Attempt.__slots__}) for row in reversed(rows)]

    async def retry(self, caller: Caller, message_id: str, reason: str) -> Outbound:
        async with self._database.write() as session:
            found = await self._held_for_change(session, caller.tenant, message_id)
            if found.state is not State.PARKED:
                raise SuiteError("request.conflict", f"Only a parked message is retried; it is {found.state}.")
            changed = await self._requeue(session, [found.sequence])
            await self._release(session, found.connection_id, [found.sequence])
            await self._audit(session, caller, "outbound.resumed", found.id, reason)
        return changed[0]

    async def retry_parked(self, caller: Caller, connection: Connection, reason: str, limit: int) -> int:
        parked = select(MESSAGE.c.sequence).where(
            MESSAGE.c.connection_id == connection.id, text(STOPPED), MESSAGE.c.state == State.PARKED.value
        )
        async with self._database.write() as session:
            await self._hold_counter(session, connection.id)
            sequences = list((await session.execute(parked.order_by(MESSAGE.c.sequence).limit(limit))).scalars())
            if sequences:
                await self._requeue(session, sequences)
                await self._release(session, connection.id, sequences)
                await self._audit(session, caller, "outbound.resumed", connection.id, reason, count=len(sequences))
        return len(sequences)

    async def discard(self, caller: Caller, message_id: str, reason: str) -> Outbound:
        gone = {"state": State.DISCARDED.value, "settled_at": self._clock.now(), "not_before": None}
        async with self._database.write() as session:
            found = await self._held_for_change(session, caller.tenant, message_id)
            mine = (
                MESSAGE.c.sequence == found.sequence,
                MESSAGE.c.state.in_((State.QUEUED.value, State.PARKED.value, State.HELD.value)),
            )
            row = (await session.execute(update(MESSAGE).where(*mine).values(**gone).returning(*_METADATA))).first()
            if row is None:
                raise SuiteError("request.conflict", f"It is {found.state}: nothing is left to discard.")
            await self._count(session, found.connection_id, {"discarded": 1})
            await self._release(session, found.connection_id, [found.sequence])
            await self._audit(session, caller, "outbound.discarded", found.id, reason)
            connection = await session.execute(select(_CONNECTION).where(_CONNECTION.c.id == found.connection_id))
            await outbox.add(session, [self._event_of(_outbound(row), found.attempts, _destination(connection.one()))])
        return _outbound(row)

    async def live(self, connection: Connection) -> Live:
        mine = MESSAGE.c.connection_id == connection.id
        oldest = select(MESSAGE.c.queued_at).where(mine, text(QUEUED)).order_by(MESSAGE.c.sequence).limit(1)
        alive = (LEASE.c.name == lease_name(connection.id), LEASE.c.expires_at > self._clock.now())
        owner = select(LEASE.c.name).where(*alive)
        async with self._database.read() as session:
            counters = await self._counters(session, connection.id)
            link = (await session.execute(select(LINK).where(LINK.c.connection_id == connection.id))).mappings().first()
            stopped = {}
            for state in (State.PARKED, State.HELD):
                some = select(MESSAGE.c.sequence).where(mine, text(STOPPED), MESSAGE.c.state == state.value)
                counted = select(func.count()).select_from(some.limit(SHOWN_STOPPED_MAX).subquery())
                stopped[state] = (await session.execute(counted)).scalar_one()
            oldest_at = (await session.execute(oldest)).scalar()
            owned = (await session.execute(owner)).first() is not None
        depth = counters.get(_QUEUED_COUNTER, 0) - sum(counters.get(name, 0) for name in _LEFT)
        shown = {name: value for name, value in counters.items() if name != _REVISION}
        age_s = None if oldest_at is None else max(0.0, (self._clock.now() - oldest_at).total_seconds())
        return Live(
            owned=owned,
            link=dict(link) if link else None,
            depth=depth,
            parked=stopped[State.PARKED],
            held=stopped[State.HELD],
            oldest_queued_at=oldest_at,
            oldest_age_s=age_s,
            counters=shown,
        )

    async def connected(self, connection: Connection) -> bool:
        """Whether a replica has a link to its receiver now."""
        live = await self.live(connection)
        return live.owned and live.link is not None and live.link["state"] == "up"

    async def forget_settled(self, kept_s: float) -> int:
        """Delete messages that were settled so long ago, and their attempts, in small transactions; how many."""
        before, forgotten = self._clock.now() - timedelta(seconds=kept_s), 0
        old = select(MESSAGE.c.sequence).where(text("settled_at IS NOT NULL"), MESSAGE.c.settled_at < before)
        while True:
            async with self._database.write() as session:
                sequences = list((await session.execute(old.limit(PRUNE_ROWS_MAX))).scalars())
                await session.execute(delete(ATTEMPT).where(ATTEMPT.c.sequence.in_(sequences)))
                await session.execute(delete(MESSAGE).where(MESSAGE.c.sequence.in_(sequences)))
            forgotten += len(sequences)
            if len(sequences) < PRUNE_ROWS_MAX:
                return forgotten

    # ---- Shared pieces.

    async def _found(self, session: AsyncSession, tenant: str, message_id: str) -> Outbound:
        mine = select(*_METADATA).where(MESSAGE.c.tenant == tenant, MESSAGE.c.id == message_id)
        row = (await session.execute(mine)).first()
        if row is None:
            raise SuiteError("outbound.not-found")
        return _outbound(row)

    async def _held_for_change(self, session: AsyncSession, tenant: str, message_id: str) -> Outbound:
        """The message as it is once its queue's row is held."""
        found = await self._found(session, tenant, message_id)
        await self._hold_counter(session, found.connection_id)
        return await self._found(session, tenant, message_id)

    async def _requeue(self, session: AsyncSession, sequences: Sequence[int]) -> Sequence[Outbound]:
        """Parked messages as if they had not been tried: their policies begin anew. Attempts stay counted."""
        again = {"state": State.QUEUED.value, "refusals": 0, "silences": 0, "not_before": None}
        statement = update(MESSAGE).where(MESSAGE.c.sequence.in_(sequences)).values(**again).returning(*_METADATA)
        return [_outbound(row) for row in await session.execute(statement)]

    async def _release(self, session: AsyncSession, connection_id: str, sequences: Sequence[int]) -> None:
        """Held messages go on where their keys have no parked one left; the owner is told to look again."""
        mine = (MESSAGE.c.connection_id == connection_id, text(STOPPED), MESSAGE.c.state == State.HELD.value)
        keys = select(MESSAGE.c.order_key).where(MESSAGE.c.sequence.in_(sequences))
        parked = exists().where(
            _EARLIER.c.connection_id == connection_id,
            _EARLIER.c.order_key == MESSAGE.c.order_key,
            text(f"earlier.{UNSETTLED}"),
            _EARLIER.c.state == State.PARKED.value,
        )
        held = and_(*mine, MESSAGE.c.order_key.in_(keys.scalar_subquery()), ~parked)
        await session.execute(update(MESSAGE).where(held).values(state=State.QUEUED.value))
        await self._count(session, connection_id, {_REVISION: 1})
        self._tell(session, self.released, connection_id)

    async def _hold_counter(self, session: AsyncSession, connection_id: str) -> None:
        mine = (COUNTER.c.connection_id == connection_id, COUNTER.c.name == _QUEUED_COUNTER)
        await session.execute(select(COUNTER.c.value).where(*mine).with_for_update())

    async def _count(self, session: AsyncSession, connection_id: str, counts: Mapping[str, int]) -> dict[str, int]:
        """Add to counters; their new values. In the order of their names, so that two writers cannot deadlock."""
        rows = [
            {"connection_id": connection_id, "name": name, "value": counts[name]}
            for name in sorted(counts)
            if counts[name]
        ]
        if not rows:
            return {}
        added = self._database.insert(COUNTER).values(rows)
        summed = added.on_conflict_do_update(
            index_elements=["connection_id", "name"], set_={"value": COUNTER.c.value + added.excluded.value}
        )
        found = await session.execute(summed.returning(COUNTER.c.name, COUNTER.c.value))
        return {row.name: row.value for row in found}

    async def _counters(
        self, session: AsyncSession, connection_id: str, names: Sequence[str] | None = None
    ) -> dict[str, int]:
        statement = select(COUNTER.c.name, COUNTER.c.value).where(COUNTER.c.connection_id == connection_id)
        if names is not None:
            statement = statement.where(COUNTER.c.name.in_(names))
        return {row.name: row.value for row in await session.execute(statement)}

    def _event(self, connection: Connection, message: Outbound, attempt: int) -> Event:
        return self._event_of(message, attempt, (connection.tenant, connection.sending.destination))

    def _event_of(self, message: Outbound, attempt: int, destination: tuple[str, str]) -> Event:
        tenant, channel = destination
        return Event(
            id=self._ids.new("evt"),
            type="ps.hl7.delivery",
            source=self._source,
            subject=message.id,
            time=self._clock.now(),
            tenant=tenant,
            key=message.patient_key or message.integration_id,
            data={
                "message_id": message.id,
                "integration_id": message.integration_id,
                "connection_id": message.connection_id,
                "channel": channel,
                "state": message.state.value,
                "acknowledgment_code": message.acknowledgment_code,
                "error_code": message.error_code,
                "attempt": attempt,
                "message_type": message.message_type,
                "trigger_event": message.trigger_event,
            },
        )

    async def _audit(
        self, session: AsyncSession, caller: Caller, action: str, subject: str, reason: str, **detail: object
    ) -> None:
        entry = audit.Audit(
            action=action, subject=subject, caller=caller, time=self._clock.now(), reason=reason, detail=detail
        )
        await audit.record(session, entry)

    def _tell(self, session: AsyncSession, listeners: Sequence[Callable[[str], None]], connection_id: str) -> None:
        for listener in listeners:
            self._database.after_commit(session, lambda listener=listener: listener(connection_id))  # type: ignore[misc]


def read_statement(connection_id: str, read: Read) -> Select[Any]:
    """Queued messages of a connection, in order."""
    statement = select(*_CANDIDATE).where(MESSAGE.c.connection_id == connection_id, MESSAGE.c.sequence > read.after)
    if isinstance(read, Fetch):
        statement = statement.where(text(QUEUED))
        if read.without:
            statement = statement.where(MESSAGE.c.order_key.not_in(read.without))
    else:
        one_key = (MESSAGE.c.order_key == read.key, MESSAGE.c.sequence <= read.up_to, text(UNSETTLED), text(QUEUED))
        statement = statement.where(*one_key)
    return statement.order_by(MESSAGE.c.sequence).limit(read.limit)


def outbound_search(tenant: str, wanted: OutboundFilter) -> Select[Any]:
    """The messages that fit, newest first."""
    columns = MESSAGE.c
    statement = select(*_METADATA).where(columns.tenant == tenant)
    for name in (
        "connection_id",
        "integration_id",
        "control_id",
        "message_type",
        "trigger_event",
        "state",
        "error_code",
    ):
        value = getattr(wanted, name)
        if value is not None:
            statement = statement.where(columns[name] == value)
    if wanted.state in {State.PARKED.value, State.HELD.value, State.IN_FLIGHT.value}:
        statement = statement.where(text(STOPPED))  # else the index of those few is not seen to fit
    if wanted.patient_keys is not None:
        statement = statement.where(columns.patient_key.in_(wanted.patient_keys))
    if wanted.after is not None:
        statement = statement.where(columns.queued_at >= wanted.after)
    if wanted.before is not None:
        statement = statement.where(columns.queued_at < wanted.before)
    return statement.order_by(columns.sequence.desc())


def _candidate(row: Any, now: datetime) -> Candidate:
    wait_s = max(0.0, (row.not_before - now).total_seconds()) if row.not_before is not None else 0.0
    return Candidate(
        id=row.id,
        sequence=row.sequence,
        key=row.order_key,
        control_id=row.control_id,
        attempts=row.attempts,
        refusals=row.refusals,
        silences=row.silences,
        wait_s=wait_s,
        operation=f"{row.message_type}^{row.trigger_event}" if row.trigger_event else row.message_type,
        size_bytes=row.size_bytes,
    )


def _outbound(row: Any) -> Outbound:
    values = {name: getattr(row, name) for name in Outbound.__slots__}
    return Outbound(**{**values, "state": State(row.state)})


def _attempt(settlement: Settlement, now: datetime) -> dict[str, Any]:
    took_s = settlement.ended - (settlement.began if settlement.began is not None else settlement.ended)
    return {
        "sequence": settlement.candidate.sequence,
        "number": settlement.candidate.attempts,
        "began_at": now - timedelta(seconds=took_s),
        "ended_at": now,
        "outcome": settlement.end.value,
        "acknowledgment_code": settlement.acknowledgment_code,
        "error_code": settlement.error_code,
    }


def _destination(row: Any) -> tuple[str, str]:
    return row.tenant, row.body["sending"]["destination"]
