"""The bus without a broker: one SQLite file, the same promises.

Theory of operation. `log` holds the events of all topics, partition by partition; `position` the place of each group in
each partition; `member` who is alive in a group; `claim` which member owns a partition now. A member takes its fair
share of the partitions (ceil of partitions over members), gives the surplus back, and takes over what belonged to a
member that stopped renewing. One thread owns the connection; publishes that wait are committed together, one sync for
all of them. One poller per process looks for new events, and only while somebody listens; an event published in this
process wakes it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson

from common.models.clock import Clock, Ids, instant_text
from common.models.errors import SuiteError
from common.models.events import Event, Topic, all_topics
from common.runtime.bus import (
    BACKOFF_MAX_S,
    BACKOFF_MIN_S,
    BATCH_EVENTS_MAX,
    BatchHandler,
    Delivery,
    UnreadableError,
    from_record,
    partition_of,
    report_unreadable,
    to_record,
)

POLL_S: Final = 0.25
HEARTBEAT_S: Final = 1.0
MEMBER_LIFE_S: Final = 5.0
CLEAN_EVERY_S: Final = 60.0
TOMBSTONE_LIFE: Final = timedelta(hours=24)
_BUSY_TIMEOUT_S: Final = 5.0
_CLEAN_ROWS_MAX: Final = 2_000
_GATHER_MAX: Final = 10_000

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS log (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL, key BLOB, headers BLOB NOT NULL,
    value BLOB, at TEXT NOT NULL, PRIMARY KEY (topic, partition, offset)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS log_by_time ON log (topic, at);
CREATE TABLE IF NOT EXISTS head (topic TEXT NOT NULL, partition INTEGER NOT NULL, next INTEGER NOT NULL,
    PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS position (grp TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL,
    next INTEGER NOT NULL, PRIMARY KEY (grp, topic, partition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS member (grp TEXT NOT NULL, topic TEXT NOT NULL, member TEXT NOT NULL, expires TEXT NOT NULL,
    PRIMARY KEY (grp, topic, member)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claim (grp TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL,
    member TEXT NOT NULL, expires TEXT NOT NULL, PRIMARY KEY (grp, topic, partition)) WITHOUT ROWID;
"""

_log = logging.getLogger("common.bus")
T = TypeVar("T")
Place = tuple[str, int]  # topic, partition


class SqliteBus:
    """`Bus` on `<directory>/bus.sqlite3`. Two of them on one file are two replicas."""

    def __init__(
        self,
        directory: Path,
        clock: Clock,
        ids: Ids,
        *,
        poll_s: float = POLL_S,
        heartbeat_s: float = HEARTBEAT_S,
        member_life_s: float = MEMBER_LIFE_S,
    ) -> None:
        self.path = directory / "bus.sqlite3"
        self.heartbeat_s = heartbeat_s
        self.member_life_s = member_life_s
        self.clock = clock
        self.ids = ids
        self._poll_s = poll_s
        self._topics: dict[str, Topic] = {topic.name: topic for topic in all_topics()}
        self._connection: sqlite3.Connection | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._waiting: list[tuple[list[tuple[Any, ...]], asyncio.Future[None]]] = []
        self._committing: asyncio.Task[None] | None = None
        self._readers: set[_Reader] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._round_robin = 0
        self._seen_version = -1

    async def start(self) -> None:
        """Open the file and create its tables."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bus-sqlite")
        await self.run(self._open)
        self._tasks = [
            asyncio.create_task(self._poll(), name="bus-poll"),
            asyncio.create_task(self._clean(), name="bus-clean"),
        ]

    async def stop(self) -> None:
        """Stop the readers, commit what waits, close the file."""
        for reader in list(self._readers):
            await reader.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._committing is not None:
            await asyncio.gather(self._committing, return_exceptions=True)
        if self._thread is not None:
            with contextlib.suppress(SuiteError):
                await self.run(lambda connection: connection.close())
            self._thread.shutdown()
        self._connection, self._thread = None, None

    async def publish(self, events: Sequence[Event], *, topic: str | None = None) -> None:
        """Append events; committed together with all others that wait now."""
        if not events:
            return
        rows = [self._row(event, self._topics[topic or event.topic]) for event in events]
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((rows, done))
        if self._committing is None or self._committing.done():
            self._committing = asyncio.create_task(self._commit_waiting(), name="bus-commit")
        await done

    async def consume(
        self, topics: Sequence[str], group: str, handler: BatchHandler, *, batch_events_max: int = BATCH_EVENTS_MAX
    ) -> _Group:
        reader = _Group(self, topics, handler, batch_events_max, group)
        await reader.start()
        return reader

    async def broadcast(self, topics: Sequence[str], handler: BatchHandler) -> _Follower:
        reader = _Follower(self, topics, handler, repeat=True)
        await reader.catch_up()
        await reader.start()
        return reader

    async def tail(self, topics: Sequence[str], handler: BatchHandler) -> _Follower:
        reader = _Follower(self, topics, handler, repeat=False)
        await reader.to_end()
        await reader.start()
        return reader

    async def history(self, topic: str, since: datetime) -> AsyncIterator[Delivery]:
        ends = await self.run(lambda connection: heads(connection, [topic]))
        since_text = instant_text(since)
        for (_, partition), end in sorted(ends.items()):
            offset = await self.run(
                lambda connection, partition=partition: connection.execute(  # type: ignore[misc]
                    "SELECT min(offset) FROM log WHERE topic = ? AND partition = ? AND at >= ?",
                    (topic, partition, since_text),
                ).fetchone()[0]
            )
            while offset is not None and offset < end:
                found, after = await self.fetch((topic, partition), offset, BATCH_EVENTS_MAX)
                for delivery in found:
                    if delivery.offset < end:
                        yield delivery
                offset = after if after > offset else None

    async def lag(self, topics: Sequence[str], group: str) -> int:
        def count(connection: sqlite3.Connection) -> int:
            total = 0
            for (topic, partition), end in heads(connection, topics).items():
                row = connection.execute(
                    "SELECT next FROM position WHERE grp = ? AND topic = ? AND partition = ?", (group, topic, partition)
                ).fetchone()
                total += connection.execute(
                    "SELECT count(*) FROM log WHERE topic = ? AND partition = ? AND offset >= ? AND offset < ?",
                    (topic, partition, row[0] if row else 0, end),
                ).fetchone()[0]
            return total

        return await self.run(count)

    async def ping(self) -> None:
        await self.run(lambda connection: connection.execute("PRAGMA schema_version").fetchone())

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run on the connection's thread; the driver's failures become SuiteError `bus.unavailable`."""
        if self._thread is None:
            raise SuiteError("bus.unavailable", "The bus is not started.")

        def guarded() -> T:
            try:
                connection = self._connection or self._connect()
                return work(connection)
            except (sqlite3.OperationalError, sqlite3.DatabaseError, OSError) as error:
                if self._connection is not None and self._connection.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        self._connection.rollback()
                raise SuiteError("bus.unavailable", type(error).__name__) from error

        return await asyncio.get_running_loop().run_in_executor(self._thread, guarded)

    async def fetch(self, place: Place, offset: int, limit: int) -> tuple[list[Delivery], int]:
        """Events of a partition from an offset on, and the offset after what was looked at."""
        topic, partition = place
        rows = await self.run(
            lambda connection: connection.execute(
                "SELECT offset, key, headers, value FROM log WHERE topic = ? AND partition = ? AND "
                "offset >= ? ORDER BY offset LIMIT ?",
                (topic, partition, offset, limit),
            ).fetchall()
        )
        found: list[Delivery] = []
        for at, key, headers, value in rows:
            try:
                event = from_record({name: text.encode() for name, text in orjson.loads(headers).items()}, key, value)
            except UnreadableError as error:
                report_unreadable(topic, partition, at, str(error))
            else:
                found.append(Delivery(event, topic, partition, at))
        return found, rows[-1][0] + 1 if rows else offset

    def topic(self, name: str) -> Topic:
        """The row of a topic."""
        return self._topics[name]

    def join(self, reader: _Reader) -> None:
        """Wake this reader when something new is there."""
        self._readers.add(reader)

    def leave(self, reader: _Reader) -> None:
        """No longer."""
        self._readers.discard(reader)

    def _row(self, event: Event, topic: Topic) -> tuple[Any, ...]:
        headers, key, value = to_record(event)
        if key is None:
            self._round_robin += 1
            partition = self._round_robin % topic.partitions
        else:
            partition = partition_of(key, topic.partitions)
        text = orjson.dumps({name: raw.decode() for name, raw in headers.items()})
        return topic.name, partition, key, text, value, instant_text(event.time)

    async def _commit_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_GATHER_MAX], self._waiting[_GATHER_MAX:]
            rows = [row for part, _ in batch for row in part]
            try:
                await self.run(lambda connection, rows=rows: _append(connection, rows))  # type: ignore[misc]
            except SuiteError as error:
                for _, done in batch:
                    if not done.done():
                        done.set_exception(error)
                continue
            topics = {row[0] for row in rows}
            for _, done in batch:
                if not done.done():
                    done.set_result(None)
            self._wake(topics)

    def _wake(self, topics: set[str] | None) -> None:
        for reader in self._readers:
            if topics is None or topics & set(reader.topics):
                reader.wake.set()

    async def _poll(self) -> None:
        """Notice what another process wrote: one pragma for all readers of this process."""
        while True:
            await asyncio.sleep(self._poll_s)
            if not self._readers:
                continue
            with contextlib.suppress(SuiteError):
                version = await self.run(lambda connection: connection.execute("PRAGMA data_version").fetchone()[0])
                if version != self._seen_version:
                    self._seen_version = version
                    self._wake(None)

    async def _clean(self) -> None:
        """Drop what is past its retention, and superseded events of compacted topics."""
        while True:
            await asyncio.sleep(CLEAN_EVERY_S)
            with contextlib.suppress(SuiteError):
                await self.clean()

    async def clean(self) -> None:
        """One cleaning, in small transactions."""
        now = self.clock.now()
        tombstones_before = instant_text(now - TOMBSTONE_LIFE)
        for topic in self._topics.values():
            if topic.compacted:
                await self.run(partial(_compact, topic=topic.name, tombstones_before=tombstones_before))
            elif topic.retention_ms > 0:
                before = instant_text(now - timedelta(milliseconds=topic.retention_ms))
                while await self.run(partial(_expire, topic=topic.name, before=before)) == _CLEAN_ROWS_MAX:
                    continue

    def _open(self, connection: sqlite3.Connection) -> None:
        connection.executescript(_SCHEMA)

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        self._connection = connection
        return connection


class _Reader:
    """What groups and followers share: a task that reads when it is woken."""

    def __init__(self, bus: SqliteBus, topics: Sequence[str], handler: BatchHandler, batch_events_max: int) -> None:
        self.bus = bus
        self.topics = tuple(topics)
        self.handler = handler
        self.batch_events_max = batch_events_max
        self.wake = asyncio.Event()
        self.stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to read."""
        self.bus.join(self)
        self._task = asyncio.create_task(self.run(), name=f"bus-reader-{self.topics[0]}")

    async def stop(self) -> None:
        """Finish the batch in hand, then stop."""
        self.stopping.set()
        self.wake.set()
        self.bus.leave(self)
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def run(self) -> None:
        """The reading loop."""
        raise NotImplementedError

    async def rest(self, seconds: float) -> None:
        """Until woken, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.wake.wait()

    async def pause(self, seconds: float) -> None:
        """Until stopping, or the time is over (new events do not shorten a backoff)."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stopping.wait()


class _Follower(_Reader):
    """Reads all partitions from a place of its own, kept in memory."""

    def __init__(self, bus: SqliteBus, topics: Sequence[str], handler: BatchHandler, *, repeat: bool) -> None:
        super().__init__(bus, topics, handler, BATCH_EVENTS_MAX)
        self._repeat = repeat
        self._next: dict[Place, int] = {
            (topic, partition): 0 for topic in topics for partition in range(bus.topic(topic).partitions)
        }

    async def to_end(self) -> None:
        """Begin after what is there now."""
        self._next |= await self.bus.run(lambda connection: heads(connection, self.topics))

    async def catch_up(self) -> None:
        """Handle what is there now; of compacted topics only the newest event of each key."""
        ends = await self.bus.run(lambda connection: heads(connection, self.topics))
        for place, end in sorted(ends.items()):
            while self._next[place] < end:
                found, after = await self.bus.fetch(place, self._next[place], BATCH_EVENTS_MAX)
                if after == self._next[place]:
                    break
                if found:
                    await self.handler(found)
                self._next[place] = after

    async def run(self) -> None:
        backoff_s = BACKOFF_MIN_S
        while not self.stopping.is_set():
            self.wake.clear()
            try:
                read = await self._round()
                backoff_s = BACKOFF_MIN_S
            except Exception as error:  # noqa: BLE001 - whatever a handler raises, reading goes on
                _log.warning("handler failed", extra={"topic": self.topics[0], "error_type": type(error).__name__})
                await self.pause(backoff_s)
                backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)
                continue
            if not read:
                await self.rest(60.0)

    async def _round(self) -> bool:
        read = False
        ends = await self.bus.run(lambda connection: heads(connection, self.topics))
        for place, end in ends.items():
            if self._next[place] >= end:
                continue
            found, after = await self.bus.fetch(place, self._next[place], self.batch_events_max)
            if not self._repeat:
                self._next[place] = max(after, self._next[place])
            if found:
                await self.handler(found)
            self._next[place] = after if after > self._next[place] else max(end, self._next[place])
            read = True
        return read


class _Group(_Reader):
    """A member of a group."""

    def __init__(
        self, bus: SqliteBus, topics: Sequence[str], handler: BatchHandler, batch_events_max: int, group: str
    ) -> None:
        super().__init__(bus, topics, handler, batch_events_max)
        self._group = group
        self._member = bus.ids.new("rep")
        self._owned: set[Place] = set()
        self._workers: dict[Place, asyncio.Task[None]] = {}
        self._leaving: set[Place] = set()

    async def start(self) -> None:
        with contextlib.suppress(SuiteError):
            await self._rebalance()
        await super().start()

    async def run(self) -> None:
        beat = self.bus.clock.monotonic()
        try:
            while not self.stopping.is_set():
                self.wake.clear()
                with contextlib.suppress(SuiteError):
                    if self.bus.clock.monotonic() - beat >= self.bus.heartbeat_s:
                        beat = self.bus.clock.monotonic()
                        await self._rebalance()
                    await self._dispatch()
                await self.rest(max(0.01, self.bus.heartbeat_s - (self.bus.clock.monotonic() - beat)))
        finally:
            await asyncio.gather(*self._workers.values(), return_exceptions=True)
            with contextlib.suppress(SuiteError):
                await self.bus.run(self._resign)

    async def _dispatch(self) -> None:
        """A worker for every owned partition that has something to read and no worker yet."""
        self._workers = {place: task for place, task in self._workers.items() if not task.done()}
        if not self._owned:
            return
        behind = await self.bus.run(self._behind)
        for place in behind:
            if place in self._owned and place not in self._workers and place not in self._leaving:
                self._workers[place] = asyncio.create_task(
                    self._work(place), name=f"bus-{self._group}-{place[0]}-{place[1]}"
                )

    async def _work(self, place: Place) -> None:
        backoff_s = BACKOFF_MIN_S
        while not self.stopping.is_set() and place in self._owned and place not in self._leaving:
            try:
                offset = await self.bus.run(lambda connection: self._position(connection, place))
                found, after = await self.bus.fetch(place, offset, self.batch_events_max)
                if after == offset:
                    return
                if found:
                    await self.handler(found)
                await self.bus.run(lambda connection, after=after: self._advance(connection, place, after))  # type: ignore[misc]
                backoff_s = BACKOFF_MIN_S
            except Exception as error:  # noqa: BLE001 - whatever a handler raises means: again, later
                code = error.code if isinstance(error, SuiteError) else "internal.error"
                _log.warning(
                    "batch will be delivered again",
                    extra={
                        "topic": place[0],
                        "partition": place[1],
                        "consumer": self._group,
                        "code": code,
                        "error_type": type(error).__name__,
                    },
                )
                await self.pause(backoff_s * (0.5 + self.bus.ids.fraction()))
                backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)

    async def _rebalance(self) -> None:
        """Renew membership and claims, give back the surplus once its work is done, take what is free."""
        surplus = await self.bus.run(self._share)
        self._leaving = surplus
        finished = {place for place in surplus if place not in self._workers or self._workers[place].done()}
        self._owned = await self.bus.run(lambda connection: self._claim(connection, finished))
        self._leaving -= finished
        self.wake.set()

    def _times(self) -> tuple[str, str]:
        now = self.bus.clock.now()
        return instant_text(now), instant_text(now + timedelta(seconds=self.bus.member_life_s))

    def _share(self, connection: sqlite3.Connection) -> set[Place]:
        """Renew, and name the partitions above our fair share."""
        now, expires = self._times()
        surplus: set[Place] = set()
        with _transaction(connection):
            for topic in self.topics:
                connection.execute(
                    "DELETE FROM member WHERE grp = ? AND topic = ? AND expires <= ?", (self._group, topic, now)
                )
                connection.execute(
                    "INSERT INTO member VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET expires = excluded.expires",
                    (self._group, topic, self._member, expires),
                )
                connection.execute(
                    "UPDATE claim SET expires = ? WHERE grp = ? AND topic = ? AND member = ?",
                    (expires, self._group, topic, self._member),
                )
                members = connection.execute(
                    "SELECT count(*) FROM member WHERE grp = ? AND topic = ?", (self._group, topic)
                ).fetchone()[0]
                fair = math.ceil(self.bus.topic(topic).partitions / members)
                ours = connection.execute(
                    "SELECT partition FROM claim WHERE grp = ? AND topic = ? AND member = ? ORDER BY partition",
                    (self._group, topic, self._member),
                ).fetchall()
                surplus |= {(topic, row[0]) for row in ours[fair:]}
        return surplus

    def _claim(self, connection: sqlite3.Connection, finished: set[Place]) -> set[Place]:
        """Give back, then take free partitions up to our fair share; returns what is ours."""
        now, expires = self._times()
        owned: set[Place] = set()
        with _transaction(connection):
            connection.executemany(
                "DELETE FROM claim WHERE grp = ? AND topic = ? AND partition = ? AND member = ?",
                [(self._group, topic, partition, self._member) for topic, partition in finished],
            )
            for topic in self.topics:
                partitions = self.bus.topic(topic).partitions
                members = connection.execute(
                    "SELECT count(*) FROM member WHERE grp = ? AND topic = ? AND expires > ?", (self._group, topic, now)
                ).fetchone()[0]
                held = dict(
                    connection.execute(
                        "SELECT partition, member FROM claim WHERE grp = ? AND topic = ? AND expires > ?",
                        (self._group, topic, now),
                    ).fetchall()
                )
                ours = {partition for partition, member in held.items() if member == self._member}
                for partition in range(partitions):
                    if len(ours) >= math.ceil(partitions / max(members, 1)):
                        break
                    if partition not in held:
                        connection.execute(
                            "INSERT INTO claim VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
                            "member = excluded.member, expires = excluded.expires",
                            (self._group, topic, partition, self._member, expires),
                        )
                        ours.add(partition)
                owned |= {(topic, partition) for partition in ours}
        return owned

    def _resign(self, connection: sqlite3.Connection) -> None:
        with _transaction(connection):
            connection.execute("DELETE FROM member WHERE grp = ? AND member = ?", (self._group, self._member))
            connection.execute("DELETE FROM claim WHERE grp = ? AND member = ?", (self._group, self._member))

    def _behind(self, connection: sqlite3.Connection) -> list[Place]:
        marks = ",".join("?" * len(self.topics))
        rows = connection.execute(
            "SELECT head.topic, head.partition FROM head LEFT JOIN position ON position.grp = ?"  # noqa: S608 - only ?
            " AND position.topic = head.topic AND position.partition = head.partition"
            f" WHERE head.topic IN ({marks}) AND head.next > coalesce(position.next, 0)",
            (self._group, *self.topics),
        ).fetchall()
        return [(topic, partition) for topic, partition in rows]

    def _position(self, connection: sqlite3.Connection, place: Place) -> int:
        row = connection.execute(
            "SELECT next FROM position WHERE grp = ? AND topic = ? AND partition = ?", (self._group, *place)
        ).fetchone()
        return int(row[0]) if row else 0

    def _advance(self, connection: sqlite3.Connection, place: Place, after: int) -> None:
        """Move on, unless the partition is another's by now: then the new owner delivers again."""
        connection.execute(
            "INSERT INTO position SELECT ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM claim WHERE grp = ? "
            "AND topic = ? AND partition = ? AND member = ?)"
            " ON CONFLICT DO UPDATE SET next = max(position.next, excluded.next)",
            (self._group, *place, after, self._group, *place, self._member),
        )


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def heads(connection: sqlite3.Connection, topics: Sequence[str]) -> dict[Place, int]:
    """The next offset of each partition that ever had an event."""
    marks = ",".join("?" * len(topics))
    rows = connection.execute(f"SELECT topic, partition, next FROM head WHERE topic IN ({marks})", tuple(topics))  # noqa: S608 - only question marks are put in
    return {(topic, partition): following for topic, partition, following in rows}


def _append(connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    with _transaction(connection):
        places = {(row[0], row[1]) for row in rows}
        following = {
            place: (
                connection.execute("SELECT next FROM head WHERE topic = ? AND partition = ?", place).fetchone() or (0,)
            )[0]
            for place in places
        }
        placed = []
        for topic, partition, key, headers, value, at in rows:
            placed.append((topic, partition, following[(topic, partition)], key, headers, value, at))
            following[(topic, partition)] += 1
        connection.executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?)", placed)
        connection.executemany(
            "INSERT INTO head VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET next = excluded.next",
            [(*place, offset) for place, offset in following.items()],
        )


def _compact(connection: sqlite3.Connection, topic: str, tombstones_before: str) -> None:
    with _transaction(connection):
        connection.execute(
            "DELETE FROM log WHERE topic = ? AND EXISTS (SELECT 1 FROM log AS newer WHERE newer.topic = log.topic"
            " AND newer.partition = log.partition AND newer.key = log.key AND newer.offset > log.offset)",
            (topic,),
        )
        connection.execute("DELETE FROM log WHERE topic = ? AND value IS NULL AND at < ?", (topic, tombstones_before))


def _expire(connection: sqlite3.Connection, topic: str, before: str) -> int:
    with _transaction(connection):
        rows = connection.execute(
            "SELECT partition, offset FROM log WHERE topic = ? AND at < ? LIMIT ?", (topic, before, _CLEAN_ROWS_MAX)
        ).fetchall()
        connection.executemany(
            "DELETE FROM log WHERE topic = ? AND partition = ? AND offset = ?", [(topic, *row) for row in rows]
        )
    return len(rows)
