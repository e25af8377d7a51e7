"""Inbox: at-least-once delivery, handled once.

One transaction per batch: the ids of the batch go into the inbox, the handler sees the events that are new, its
changes and its outbox rows commit with them. A batch that fails is bisected. A single event that fails

- transiently (the catalogue says so, or something is away): the batch is raised back to the bus, which redelivers it
  later, order kept;
- permanently, `attempts_max` times: it is written to the parked table and to `<topic>.dlq` in one transaction.

Its key is parked then: later events of that key (same consumer and topic) are parked behind it, in order, while other
keys go on. The parked table itself says which keys are parked, not a memory of it, so that every replica sees the
same after a rebalance. A person replays a key (in order, one generation later, until one fails) or discards an event.
An event without a key parks nothing but itself.

The inbox key is (consumer, generation, event id), kept 14 days: as long as the bus keeps the events.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Select, delete, func, insert, select, text, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from common.models.clock import Clock, Ids, instant_text
from common.models.errors import SuiteError
from common.models.events import DEAD_LETTER_SUFFIX, TOPICS, Event
from common.models.paging import Page, decode_cursor, encode_cursor
from common.runtime import outbox
from common.runtime.bus import Bus, Consumption, Delivery
from common.runtime.database import Database, database_of, is_gone
from common.runtime.event_text import event_text, parse_event
from common.runtime.tables import INBOX, PARKED

BATCH_EVENTS_MAX: Final = 500
ATTEMPTS_MAX: Final = 3
ATTEMPT_PAUSE_S: Final = 0.05
KEPT: Final = timedelta(days=14)
PRUNE_EVERY_S: Final = 600.0
PRUNE_ROWS_MAX: Final = 1_000
FAILED: Final = "failed"
WAITING: Final = "waiting"
_LOCK: Final = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
_INBOX_KEY: Final = (INBOX.c.consumer, INBOX.c.generation, INBOX.c.event_id)

_log = logging.getLogger("common.inbox")

Handler = Callable[[AsyncSession, Sequence[Event]], Awaitable[None]]
"""Handles events of one batch, in order, in the given transaction; raises when it could not."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a consumer listens to, and who handles it. The consumer's name is its group and its place in the inbox."""

    topics: Sequence[str]
    consumer: str
    handler: Handler
    batch_events_max: int = BATCH_EVENTS_MAX
    attempts_max: int = ATTEMPTS_MAX


@dataclass(frozen=True, slots=True)
class ParkedOutcome:
    """What a replay or a discard came to: events handled, events of the key left, and why the next one failed."""

    handled: int
    remaining: int
    error_code: str | None = None


class Consumer:
    """One subscription, consumed; see the module's text."""

    def __init__(self, bus: Bus, database: Database, clock: Clock, ids: Ids, subscription: Subscription) -> None:
        self.subscription = subscription
        self._bus = bus
        self._database = database
        self._clock = clock
        self._ids = ids
        self._consumption: Consumption | None = None
        self._pruning: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The consumer's name: its group on the bus."""
        return self.subscription.consumer

    async def start(self) -> None:
        """Join the group and begin."""
        self._consumption = await self._bus.consume(
            self.subscription.topics, self.name, self.handle, batch_events_max=self.subscription.batch_events_max
        )
        self._pruning = asyncio.create_task(self._prune_now_and_then(), name=f"inbox-pruning-{self.name}")

    async def stop(self) -> None:
        """Finish the batch in hand and leave the group."""
        if self._consumption is not None:
            await self._consumption.stop()
            self._consumption = None
        if self._pruning is not None:
            self._pruning.cancel()
            await asyncio.gather(self._pruning, return_exceptions=True)
            self._pruning = None

    async def handle(self, deliveries: Sequence[Delivery]) -> None:
        """One batch from the bus (`BatchHandler`): returns when all is handled or parked, raises to see it again."""
        await self._settle([(delivery.topic, delivery.event) for delivery in deliveries])

    async def replay(self, since: datetime) -> int:
        """Handle the events since that instant again, in a generation of their own, whose number is returned.

        Raises SuiteError when something is away meanwhile; what was handled until then stays handled.
        """
        known = select(func.max(INBOX.c.generation)).where(INBOX.c.consumer == self.name)
        async with self._database.read() as session:
            generation = int((await session.execute(known)).scalar() or 0) + 1
        for topic in self.subscription.topics:
            batch: list[tuple[str, Event]] = []
            async for delivery in self._bus.history(topic, since):
                batch.append((topic, replace(delivery.event, generation=generation)))
                if len(batch) == self.subscription.batch_events_max:
                    await self._settle(batch)
                    batch = []
            if batch:
                await self._settle(batch)
        return generation

    async def handle_again(self, session: AsyncSession, event: Event) -> None:
        """Handle one event that was parked, one generation later, in this transaction; a second time does nothing."""
        again = replace(event, generation=event.generation + 1)
        if await self._claim(session, [again]):
            await self.subscription.handler(session, [again])

    async def _settle(self, batch: Sequence[tuple[str, Event]]) -> None:
        if len(batch) == 1:
            await self._settle_one(*batch[0])
            return
        try:
            await self._attempt(batch)
        except Exception as error:  # whatever a handler raised: redelivered, or found by bisection
            if is_transient(error):
                raise
            middle = len(batch) // 2
            await self._settle(batch[:middle])
            await self._settle(batch[middle:])

    async def _settle_one(self, topic: str, event: Event) -> None:
        reason = ""
        for attempt in range(1, self.subscription.attempts_max + 1):
            try:
                await self._attempt([(topic, event)])
            except Exception as error:  # whatever a handler raised: redelivered, or parked
                if is_transient(error):
                    raise
                reason = error_code(error)
                self._report(error, topic, event, attempt)
            else:
                return
            if attempt < self.subscription.attempts_max:
                await asyncio.sleep(ATTEMPT_PAUSE_S * attempt)
        await self._park(topic, event, reason)

    async def _attempt(self, batch: Sequence[tuple[str, Event]]) -> None:
        async with self._database.write() as session:
            new = await self._claim(session, [event for _, event in batch])
            fresh = [(topic, event) for topic, event in batch if new.pop((event.generation, event.id), False)]
            parked = await self._parked_keys(session, fresh)
            behind = [(topic, event) for topic, event in fresh if (topic, event.tenant, event.key) in parked]
            events = [event for topic, event in fresh if (topic, event.tenant, event.key) not in parked]
            if events:
                await self.subscription.handler(session, events)
            if behind:
                await session.execute(insert(PARKED), [self._parked(*one, WAITING, None, 0) for one in behind])

    async def _claim(self, session: AsyncSession, events: Sequence[Event]) -> dict[tuple[int, str], bool]:
        """Put ids into the inbox; the (generation, id) that were not there yet."""
        now = self._clock.now()
        statement = self._database.insert(INBOX).on_conflict_do_nothing()
        rows = [
            {"consumer": self.name, "generation": event.generation, "event_id": event.id, "received_at": now}
            for event in events
        ]
        found = await session.execute(statement.returning(INBOX.c.generation, INBOX.c.event_id), rows)
        return {(row.generation, row.event_id): True for row in found}

    async def _parked_keys(
        self, session: AsyncSession, batch: Sequence[tuple[str, Event]]
    ) -> set[tuple[str, str, str]]:
        """Which (topic, tenant, key) of the batch are parked; from here on to the commit none of them is freed."""
        keys = {event.key for _, event in batch if event.key}
        if not keys:
            return set()
        statement = parked_keys_statement(self.name, sorted(keys))
        found = {(row.topic, row.tenant, row.key) for row in await session.execute(statement)}
        if found and await lock_consumer(session, self.name):
            found = {(row.topic, row.tenant, row.key) for row in await session.execute(statement)}
        return found

    async def _park(self, topic: str, event: Event, reason: str) -> None:
        """The event to the parked table and to `<topic>.dlq`, its id to the inbox, in one transaction."""
        row = TOPICS[topic]
        async with self._database.write() as session:
            await lock_consumer(session, self.name)
            if not await self._claim(session, [event]) or row.loss_tolerated:
                return
            await session.execute(
                insert(PARKED).values(self._parked(topic, event, FAILED, reason, self.subscription.attempts_max))
            )
            if row.dead_letters:
                await outbox.add(
                    session, [event], topic=topic + DEAD_LETTER_SUFFIX, reason=reason, at=self._clock.now()
                )
        _log.error("event parked", extra={**self._names(topic, event), "code": reason})

    def _parked(self, topic: str, event: Event, state: str, reason: str | None, attempts: int) -> dict[str, Any]:
        return {
            "id": self._ids.new("ded"),
            "tenant": event.tenant,
            "consumer": self.name,
            "topic": topic,
            "key": event.key,
            "event": event_text(event),
            "state": state,
            "reason": reason,
            "attempts": attempts,
            "parked_at": self._clock.now(),
        }

    def _report(self, error: Exception, topic: str, event: Event, attempt: int) -> None:
        extra = {"code": error_code(error), "error_type": type(error).__name__, "attempt": attempt}
        # The trace of a failure of the catalogue says nothing more; of a mistake of ours it is what finds it.
        trace = None if isinstance(error, SuiteError) else error
        _log.warning("event not handled", exc_info=trace, extra={**self._names(topic, event), **extra})

    def _names(self, topic: str, event: Event) -> dict[str, Any]:
        return {"consumer": self.name, "topic": topic, "event_id": event.id, "event_type": event.type}

    async def _prune_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(PRUNE_EVERY_S * (0.5 + self._ids.fraction()))
            with contextlib.suppress(SuiteError):  # the database is away; there is a next time
                await prune(self._database, self._clock.now() - KEPT)


def is_transient(error: BaseException) -> bool:
    """Whether the bus should deliver again: a transient failure of the catalogue, or something that is away."""
    if isinstance(error, BaseExceptionGroup):
        return any(is_transient(part) for part in error.exceptions)
    return error.transient if isinstance(error, SuiteError) else is_gone(error)


def error_code(error: BaseException) -> str:
    """The catalogue's code of a failure; `internal.error` for everything that is not of the catalogue."""
    return error.code if isinstance(error, SuiteError) else "internal.error"


def parked_keys_statement(consumer: str, keys: Sequence[str]) -> Select[Any]:
    """The (topic, tenant, key) among these keys that are parked for a consumer."""
    named = (PARKED.c.consumer == consumer, PARKED.c.key.in_(keys))
    return select(PARKED.c.topic, PARKED.c.tenant, PARKED.c.key).where(*named).distinct()


async def lock_consumer(session: AsyncSession, consumer: str) -> bool:
    """One at a time parks and frees keys of a consumer; False on SQLite, which has one writer anyway."""
    database = database_of(session)
    if database.dialect == "sqlite":
        return False
    await session.execute(_LOCK, {"name": f"practice-studio:parked:{database.schema}:{consumer}"})
    return True


async def prune(database: Database, before: datetime) -> int:
    """Delete inbox rows older than that, in small batches; how many."""
    deleted = 0
    while True:
        old = select(*_INBOX_KEY).where(INBOX.c.received_at < before).limit(PRUNE_ROWS_MAX)
        async with database.write() as session:
            result: Any = await session.execute(delete(INBOX).where(tuple_(*_INBOX_KEY).in_(old)))
        count = int(result.rowcount)
        deleted += count
        if count < PRUNE_ROWS_MAX:
            return deleted


async def list_parked(session: AsyncSession, tenant: str, cursor: str | None, limit: int) -> Page[dict[str, Any]]:
    """A tenant's parked events, oldest first, without their data. Raises SuiteError `request.bad-cursor`."""
    statement = select(PARKED).where(PARKED.c.tenant == tenant)
    if cursor is not None:
        statement = statement.where(PARKED.c.sequence > decode_cursor(cursor, (int,))[0])
    rows = (await session.execute(statement.order_by(PARKED.c.sequence).limit(limit + 1))).all()
    following = encode_cursor([rows[limit - 1].sequence]) if len(rows) > limit else None
    return Page([_listed(row) for row in rows[:limit]], following)


def _listed(row: Row[Any]) -> dict[str, Any]:
    event = parse_event(row.event)
    return {
        "id": row.id,
        "consumer": row.consumer,
        "topic": row.topic,
        "key": row.key,
        "state": row.state,
        "error_code": row.reason,
        "attempts": row.attempts,
        "parked_at": instant_text(row.parked_at),
        "event": {
            "id": event.id,
            "type": event.type,
            "subject": event.subject,
            "time": instant_text(event.time),
            "generation": event.generation,
        },
    }


async def replay_parked(
    database: Database, consumers: Mapping[str, Consumer], tenant: str, dead_letter_id: str
) -> ParkedOutcome:
    """Handle the events of its key again, in order, until one fails; without a key, that event alone.

    Raises SuiteError `dead-letter.not-found`, or `request.conflict` when its consumer is no more.
    """
    row = await _find(database, tenant, dead_letter_id)
    consumer = consumers.get(row.consumer)
    if consumer is None:
        raise SuiteError("request.conflict", "The consumer of this dead letter no longer exists; discard it.")
    return await _go_on(database, consumer, row)


async def discard_parked(
    database: Database, consumers: Mapping[str, Consumer], tenant: str, dead_letter_id: str
) -> ParkedOutcome:
    """Drop one event; when it was the one that held up its key, those behind it are handled until one fails.

    Raises SuiteError `dead-letter.not-found`.
    """
    row = await _find(database, tenant, dead_letter_id)
    async with database.write() as session:
        await lock_consumer(session, row.consumer)
        first = (await session.execute(_of_key(row).limit(1))).first()
        await session.execute(delete(PARKED).where(PARKED.c.sequence == row.sequence))
    consumer = consumers.get(row.consumer)
    held_up = bool(row.key) and first is not None and first.sequence == row.sequence
    if consumer is None or not held_up:
        return ParkedOutcome(0, await _remaining(database, row))
    return await _go_on(database, consumer, row)


async def _find(database: Database, tenant: str, dead_letter_id: str) -> Row[Any]:
    async with database.read() as session:
        statement = select(PARKED).where(PARKED.c.id == dead_letter_id, PARKED.c.tenant == tenant)
        row = (await session.execute(statement)).first()
    if row is None:
        raise SuiteError("dead-letter.not-found")
    return row


async def _go_on(database: Database, consumer: Consumer, row: Row[Any]) -> ParkedOutcome:
    handled = 0
    while True:
        first: Row[Any] | None = None
        try:
            async with database.write() as session:
                await lock_consumer(session, row.consumer)
                first = (await session.execute(_of_key(row).limit(1))).first()
                if first is None:
                    return ParkedOutcome(handled, 0)
                await consumer.handle_again(session, parse_event(first.event))
                await session.execute(delete(PARKED).where(PARKED.c.sequence == first.sequence))
        except Exception as error:  # whatever the handler raised is the outcome
            if first is None:
                raise
            if not is_transient(error):
                await _failed_again(database, first, error)
            return ParkedOutcome(handled, await _remaining(database, row), error_code(error))
        handled += 1


async def _failed_again(database: Database, row: Row[Any], error: Exception) -> None:
    _log.warning(
        "event failed again",
        exc_info=None if isinstance(error, SuiteError) else error,
        extra={"consumer": row.consumer, "topic": row.topic, "dead_letter_id": row.id, "code": error_code(error)},
    )
    changed = {"state": FAILED, "reason": error_code(error), "attempts": PARKED.c.attempts + 1}
    async with database.write() as session:
        await session.execute(update(PARKED).where(PARKED.c.sequence == row.sequence).values(**changed))


async def _remaining(database: Database, row: Row[Any]) -> int:
    async with database.read() as session:
        count = select(func.count()).select_from(PARKED).where(*_same_key(row))
        return int((await session.execute(count)).scalar_one())


def _of_key(row: Row[Any]) -> Select[Any]:
    return select(PARKED).where(*_same_key(row)).order_by(PARKED.c.sequence)


def _same_key(row: Row[Any]) -> tuple[ColumnElement[bool], ...]:
    if not row.key:
        return (PARKED.c.sequence == row.sequence,)
    columns = ("consumer", "topic", "tenant", "key")
    return tuple(PARKED.c[name] == getattr(row, name) for name in columns)
