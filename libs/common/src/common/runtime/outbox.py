"""The transactional outbox: an event is stored with the change it tells of, and published after the commit.

The relay owns the table by lease. It takes rows by `published_at IS NULL` in id order (a watermark over ids would skip
a transaction that commits late), one lane per topic, so that a topic that cannot be published holds up no other. What
was published is marked afterwards: a crash between the two publishes again, and consumers know the id.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import bindparam, delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from common.models.clock import Clock
from common.models.errors import SuiteError
from common.models.events import EVENT_BYTES_MAX, Event
from common.runtime.bus import Bus, event_data
from common.runtime.columns import UtcInstant
from common.runtime.database import Database, database_of
from common.runtime.event_text import event_text, parse_event
from common.runtime.leases import TTL_S, Lease, Leases
from common.runtime.tables import OUTBOX

LEASE_NAME: Final = "relay"
UTF_8_BYTES_MAX: Final = 4
BATCH_EVENTS_MAX: Final = 1_000
POLL_S: Final = 1.0
BACKOFF_MIN_S: Final = 0.1
BACKOFF_MAX_S: Final = 5.0
KEPT_S: Final = 3600.0
PRUNE_EVERY_S: Final = 60.0
PRUNE_ROWS_MAX: Final = 500
STOP_TIMEOUT_S: Final = 5.0

# Loose scans of the index outbox_pending: one step per topic with pending rows, however many rows there are.
_LANES: Final = """
WITH RECURSIVE lane(topic) AS (
    SELECT min(topic) FROM outbox WHERE published_at IS NULL
    UNION ALL
    SELECT (SELECT min(topic) FROM outbox WHERE published_at IS NULL AND topic > lane.topic)
    FROM lane WHERE lane.topic IS NOT NULL
)"""
PENDING_TOPICS: Final = text(_LANES + " SELECT topic FROM lane WHERE topic IS NOT NULL")  # noqa: S608 - constants
OLDEST_PENDING: Final = text(
    _LANES  # noqa: S608 - constants
    + " SELECT min((SELECT created_at FROM outbox WHERE published_at IS NULL AND outbox.topic = lane.topic"
    " ORDER BY id LIMIT 1)) AS oldest FROM lane"
).columns(oldest=UtcInstant)
PENDING_OF_TOPIC: Final = (
    select(OUTBOX.c.id, OUTBOX.c.event)
    .where(OUTBOX.c.published_at.is_(None), OUTBOX.c.topic == bindparam("topic"))
    .order_by(OUTBOX.c.id)
    .limit(BATCH_EVENTS_MAX)
)


async def add(
    session: AsyncSession,
    events: Sequence[Event],
    *,
    topic: str | None = None,
    reason: str | None = None,
    at: datetime | None = None,
) -> None:
    """Store events in this transaction (of `Database.write()`); the relay is woken after its commit.

    `topic` and `reason` (an error code) are for dead letters; `at` is when the row is made, else the event's time.
    Raises SuiteError `bus.event-too-large`: the transaction then fails with it, since nobody could be told of it.
    """
    if not events:
        return
    rows = [
        {
            "topic": topic or event.topic,
            "key": event.key,
            "event": event_text(event),
            "reason": reason,
            "created_at": at or event.time,
        }
        for event in events
    ]
    for event, row in zip(events, rows, strict=True):
        if len(str(row["event"])) * UTF_8_BYTES_MAX > EVENT_BYTES_MAX:
            event_data(event)
    await session.execute(insert(OUTBOX), rows)
    database = database_of(session)
    database.after_commit(session, database.outbox_added.set)


async def outbox_age(session: AsyncSession, now: datetime) -> float:
    """Seconds since the oldest unpublished row was made; 0.0 when there is none."""
    oldest = (await session.execute(OLDEST_PENDING)).scalar()
    return 0.0 if oldest is None else max(0.0, (now - oldest).total_seconds())


class Relay:
    """Publishes one database's outbox; see the module's text."""

    def __init__(
        self, database: Database, bus: Bus, leases: Leases, clock: Clock, *, lease_ttl_s: float = TTL_S
    ) -> None:
        self._database = database
        self._bus = bus
        self._leases = leases
        self._clock = clock
        self._log = logging.getLogger("common.outbox").getChild(database.module)
        self._lease_ttl_s = lease_ttl_s
        self._lanes: dict[str, asyncio.Task[None]] = {}
        self._more: set[str] = set()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin in the background; the bus and the database may still be away."""
        self._stopping.clear()
        self._task = asyncio.create_task(self._run(), name=f"relay-{self._database.module}")

    async def stop(self) -> None:
        """Finish the batches in hand, give the lease back; what is left is published by the next owner."""
        if self._task is None:
            return
        self._stopping.set()
        self._database.outbox_added.set()
        _, late = await asyncio.wait({self._task}, timeout=STOP_TIMEOUT_S)
        for task in late:
            task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None

    async def pending(self) -> int:
        """How many rows wait to be published."""
        async with self._database.read() as session:
            count = select(func.count()).select_from(OUTBOX).where(OUTBOX.c.published_at.is_(None))
            return int((await session.execute(count)).scalar_one())

    async def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                async with self._leases.hold(LEASE_NAME, ttl_s=self._lease_ttl_s) as lease:
                    if lease is not None:
                        await self._own(lease)
            except Exception as error:  # noqa: BLE001 - the relay outlives whatever went wrong; the rows wait
                self._report("relay failed", error)
            await self._pause(POLL_S)

    async def _own(self, lease: Lease) -> None:
        """Dispatch lanes while the lease is ours."""
        prune_at = self._clock.monotonic() + PRUNE_EVERY_S
        try:
            while not self._ending(lease):
                self._database.outbox_added.clear()
                await self._dispatch(lease)
                if self._clock.monotonic() >= prune_at:
                    await self._prune()
                    prune_at = self._clock.monotonic() + PRUNE_EVERY_S
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await self._database.outbox_added.wait()
        finally:
            await self._end_lanes()

    async def _dispatch(self, lease: Lease) -> None:
        async with self._database.read() as session:
            topics = list((await session.execute(PENDING_TOPICS)).scalars())
        for topic in topics:
            lane = self._lanes.get(topic)
            if lane is None or lane.done():
                self._lanes[topic] = asyncio.create_task(self._lane(topic, lease), name=f"relay-lane-{topic}")
            else:
                self._more.add(topic)  # the lane may have looked for the last time already

    async def _lane(self, topic: str, lease: Lease) -> None:
        """Publish a topic's rows in order until there are none, trying again for as long as it takes."""
        backoff_s = BACKOFF_MIN_S
        while not self._ending(lease):
            self._more.discard(topic)
            try:
                published = await self._publish_batch(topic, lease)
            except Exception as error:  # noqa: BLE001 - an event is never given up: reported, then tried again
                self._report("events not published yet", error, topic=topic)
                await self._pause(backoff_s * (0.5 + self._leases.ids.fraction()))
                backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)
                continue
            backoff_s = BACKOFF_MIN_S
            if not published and topic not in self._more:
                return

    async def _publish_batch(self, topic: str, lease: Lease) -> int:
        async with self._database.read() as session:
            rows = (await session.execute(PENDING_OF_TOPIC, {"topic": topic})).all()
        if not rows:
            return 0
        events = [parse_event(row.event) for row in rows]
        if topic == events[0].topic:
            await self._bus.publish(events)
        else:
            await self._bus.publish(events, topic=topic)
        marked = update(OUTBOX).where(OUTBOX.c.id.in_([row.id for row in rows])).values(published_at=self._clock.now())
        async with self._database.write() as session:
            await self._leases.check(session, lease)
            await session.execute(marked)
        return len(rows)

    async def _end_lanes(self) -> None:
        """Let lanes finish the batch in hand (each looks whether it has to end), but not for ever."""
        lanes = [lane for lane in self._lanes.values() if not lane.done()]
        self._lanes.clear()
        self._more.clear()
        if lanes:
            _, late = await asyncio.wait(lanes, timeout=STOP_TIMEOUT_S / 2)
            for lane in late:
                lane.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)

    async def _prune(self) -> None:
        """Delete what was published long enough ago, in small batches, so that nobody waits for the writer."""
        before = self._clock.now() - timedelta(seconds=KEPT_S)
        while not self._stopping.is_set():
            async with self._database.write() as session:
                old = select(OUTBOX.c.id).where(OUTBOX.c.published_at < before).limit(PRUNE_ROWS_MAX)
                result: Any = await session.execute(delete(OUTBOX).where(OUTBOX.c.id.in_(old)))
            if result.rowcount < PRUNE_ROWS_MAX:
                return

    def _ending(self, lease: Lease) -> bool:
        return self._stopping.is_set() or lease.lost.is_set()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _report(self, message: str, error: Exception, **extra: str) -> None:
        code = error.code if isinstance(error, SuiteError) else "internal.error"
        level = logging.INFO if isinstance(error, SuiteError) and error.transient else logging.ERROR
        self._log.log(level, message, extra={"code": code, "error_type": type(error).__name__, **extra})
