"""The bus without a broker: one SQLite file, the same promises.

Theory of operation. `log` holds the events of all topics, partition by partition, and `head` where each partition ends;
`position` is the place of each group in each partition. One thread owns the connection; writes that wait are committed
together, one sync for all of them. What is published in this process wakes its readers at once; what another process
wrote is noticed by one poll of the file's version for all readers together.

A bus is a replica: it renews one row for all its groups (`replica`), and what belonged to a replica that stopped
renewing is free. `membership` says who reads a topic in a group, `ownership` who has a partition. A member takes its
fair share (ceil of partitions over members). A partition above that is given back in two steps, so that two members
never handle it at once: its lane ends after the batch in hand, then its row is deleted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
    BATCH_TIMEOUT_S,
    BatchHandler,
    Delivery,
    UnreadableError,
    end_tasks,
    from_record,
    partition_of,
    report_again,
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

# The log has row ids: events are appended, and its pages are full. Kept in the order of its key (as it once was) they
# went to as many places as there are partitions, and took three times their size.
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS log (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL, key BLOB, headers BLOB NOT NULL,
    value BLOB, at TEXT NOT NULL, UNIQUE (topic, partition, offset));
CREATE INDEX IF NOT EXISTS log_by_time ON log (topic, at);
CREATE TABLE IF NOT EXISTS head (topic TEXT NOT NULL, partition INTEGER NOT NULL, next INTEGER NOT NULL,
    PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS position (grp TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL,
    next INTEGER NOT NULL, PRIMARY KEY (grp, topic, partition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS replica (replica TEXT NOT NULL PRIMARY KEY, expires TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS membership (grp TEXT NOT NULL, topic TEXT NOT NULL, member TEXT NOT NULL,
    replica TEXT NOT NULL, PRIMARY KEY (grp, topic, member)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ownership (grp TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL,
    member TEXT NOT NULL, replica TEXT NOT NULL, PRIMARY KEY (grp, topic, partition)) WITHOUT ROWID;
"""

_KEPT_BY_KEY: Final = "SELECT 1 FROM sqlite_master WHERE name = 'log' AND sql LIKE '%WITHOUT ROWID%'"
_REBUILD: Final = f"""
DROP INDEX log_by_time;
ALTER TABLE log RENAME TO log_by_key;
{_SCHEMA}
INSERT INTO log SELECT * FROM log_by_key ORDER BY at;
DROP TABLE log_by_key;
"""  # noqa: S608

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
        topics: Sequence[Topic] | None = None,
        poll_s: float = POLL_S,
        heartbeat_s: float = HEARTBEAT_S,
        member_life_s: float = MEMBER_LIFE_S,
    ) -> None:
        self.path = directory / "bus.sqlite3"
        self.clock = clock
        self.ids = ids
        self.replica = ids.new("rep")
        self.heads: dict[Place, int] = {}
        self._poll_s = poll_s
        self._heartbeat_s = heartbeat_s
        self._member_life_s = member_life_s
        self._topics: dict[str, Topic] = {topic.name: topic for topic in topics or all_topics()}
        self._connection: sqlite3.Connection | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._waiting: list[tuple[Callable[[sqlite3.Connection], Any], asyncio.Future[Any]]] = []
        self._appended: dict[Place, int] = {}
        self._committing: asyncio.Task[None] | None = None
        self._readers: set[_Reader] = set()
        self.unreadable: Counter[str] = Counter()
        self._balancing = asyncio.Lock()
        self._unbalanced = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._round_robin = 0

    async def start(self) -> None:
        """Open the file and create its tables. Raises SuiteError `bus.unavailable`."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bus-sqlite")
        try:
            await self.run(_make_tables)
        except SuiteError:
            await self.stop()
            raise
        self._tasks = [
            asyncio.create_task(self._poll(), name="bus-poll"),
            asyncio.create_task(self._keep(), name="bus-keep"),
            asyncio.create_task(self._clean(), name="bus-clean"),
        ]

    async def stop(self) -> None:
        """Stop the readers, commit what waits, close the file."""
        await asyncio.gather(*(reader.stop() for reader in list(self._readers)))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._committing is not None:
            await asyncio.gather(self._committing, return_exceptions=True)
        if self._thread is not None:
            if self._connection is not None:
                with contextlib.suppress(SuiteError):
                    await self.run(lambda connection: connection.close())
            self._thread.shutdown()
        self._connection, self._thread, self._tasks = None, None, []

    async def publish(self, events: Sequence[Event], *, topic: str | None = None) -> None:
        """Append events; committed together with all others that wait now."""
        if events:
            at = instant_text(self.clock.now())
            rows = [self._row(event, self._topics[topic or event.topic], at) for event in events]
            await self.write(partial(self._append, rows=rows))

    async def consume(
        self, topics: Sequence[str], group: str, handler: BatchHandler, *, batch_events_max: int = BATCH_EVENTS_MAX
    ) -> _Group:
        reader = _Group(self, topics, handler, batch_events_max, group)
        await reader.start()
        return reader

    async def broadcast(self, topics: Sequence[str], handler: BatchHandler) -> _Follower:
        reader = _Follower(self, topics, handler, from_beginning=True)
        await reader.start()
        try:
            await reader.caught_up.wait()
        except asyncio.CancelledError:
            await reader.stop()
            raise
        return reader

    async def tail(self, topics: Sequence[str], handler: BatchHandler) -> _Follower:
        reader = _Follower(self, topics, handler, from_beginning=False)
        await reader.start()
        return reader

    async def history(self, topic: str, since: datetime) -> AsyncIterator[Delivery]:
        ends = await self.run(partial(_heads, topics=[topic]))
        since_text = instant_text(since)
        for place, end in sorted(ends.items()):
            offset = await self.run(partial(_first_since, place=place, since=since_text))
            while offset is not None and offset < end:
                found, after = await self.fetch(place, offset, BATCH_EVENTS_MAX)
                for delivery in found:
                    if delivery.offset < end:
                        yield delivery
                offset = after if after > offset else None

    async def lag(self, topics: Sequence[str], group: str) -> int:
        return await self.run(partial(_lag, topics=topics, group=group))

    async def ping(self) -> None:
        await self.run(lambda connection: connection.execute("PRAGMA schema_version").fetchone())

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run on the connection's thread; the driver's failures become SuiteError `bus.unavailable`."""
        if self._thread is None:
            raise SuiteError("bus.unavailable", "The bus is not started.")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, work)

    def _guarded(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return work(self._connection or self._connect())
        except (sqlite3.Error, OSError) as error:
            raise SuiteError("bus.unavailable", type(error).__name__) from error

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run in a transaction that all writes share that wait now; durable when it returns."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, done))
        if self._committing is None or self._committing.done():
            self._committing = asyncio.create_task(self._commit_waiting(), name="bus-commit")
        return await done

    async def _commit_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_GATHER_MAX], self._waiting[_GATHER_MAX:]
            self._appended = {}
            try:
                results = await self.run(partial(_together, works=[work for work, _ in batch]))
            except Exception as error:  # noqa: BLE001 - whoever waits is told, whatever it is
                for _, done in batch:
                    if not done.done():
                        done.set_exception(error)
                continue
            for (_, done), result in zip(batch, results, strict=True):
                if not done.done():
                    done.set_result(result)
            self.notice(self._appended)

    async def fetch(self, place: Place, offset: int, limit: int) -> tuple[list[Delivery], int]:
        """Events of a partition from an offset on, and the offset after what was looked at."""
        rows = await self.run(partial(_records, place=place, offset=offset, limit=limit))
        found: list[Delivery] = []
        for at, key, headers, value in rows:
            try:
                event = from_record(_header_bytes(headers), key, value)
            except UnreadableError as error:
                report_unreadable(self.unreadable, *place, at, str(error))
            else:
                found.append(Delivery(event, *place, at))
        return found, rows[-1][0] + 1 if rows else offset

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has."""
        return self._topics[topic].partitions

    def notice(self, heads: Mapping[Place, int]) -> None:
        """Partitions that have grown: wake who reads them."""
        self.heads.update(heads)
        names = {topic for topic, _ in heads}
        for reader in self._readers:
            if not names.isdisjoint(reader.topics):
                reader.look()

    async def refresh(self) -> dict[Place, int]:
        """Look where everything ends now."""
        heads = await self.run(partial(_heads, topics=list(self._topics)))
        self.notice({place: end for place, end in heads.items() if end > self.heads.get(place, 0)})
        return heads

    def join(self, reader: _Reader) -> None:
        """Stopped with the bus, woken by what is new."""
        self._readers.add(reader)

    def leave(self, reader: _Reader) -> None:
        """No longer."""
        self._readers.discard(reader)

    def balance_soon(self) -> None:
        """Something changed that the next balance need not wait a heartbeat for."""
        self._unbalanced.set()

    async def balance(self) -> None:
        """Renew this replica; for each of its groups give back what is too much and take what is free."""
        async with self._balancing:
            groups = [reader for reader in self._readers if isinstance(reader, _Group)]
            if not groups:
                return
            now = self.clock.now()
            expires = instant_text(now + timedelta(seconds=self._member_life_s))
            states = [group.state() for group in groups]
            renewal = partial(_renew, replica=self.replica, now=instant_text(now), expires=expires, states=states)
            for group, share in zip(groups, await self.write(renewal), strict=True):
                group.settle(share)

    def _row(self, event: Event, topic: Topic, at: str) -> tuple[Any, ...]:
        headers, key, value = to_record(event)
        if key is None:
            self._round_robin += 1
            number = self._round_robin % topic.partitions
        else:
            number = partition_of(key, topic.partitions)
        return topic.name, number, key, orjson.dumps({name: raw.decode() for name, raw in headers.items()}), value, at

    def _append(self, connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        heads = self._appended
        placed = []
        changed: dict[Place, int] = {}
        for topic, number, *record in rows:
            place = (topic, number)
            offset = changed.get(place)
            if offset is None:
                offset = heads[place] if place in heads else _head(connection, place)
            placed.append((topic, number, offset, *record))
            changed[place] = offset + 1
        connection.executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?)", placed)
        connection.executemany(
            "INSERT INTO head VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET next = excluded.next",
            [(*place, offset) for place, offset in changed.items()],
        )
        heads.update(changed)

    async def _poll(self) -> None:
        """Notice what another process wrote: one pragma for all readers of this process."""
        seen = -1
        while True:
            await asyncio.sleep(self._poll_s)
            if not self._readers:
                continue
            try:
                version = await self.run(lambda connection: connection.execute("PRAGMA data_version").fetchone()[0])
                if version != seen:
                    await self.refresh()
                    seen = version
            except SuiteError as error:
                _log.warning("bus not polled", extra={"code": error.code})

    async def _keep(self) -> None:
        """Balance with every heartbeat, and when something changed."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._heartbeat_s):
                    await self._unbalanced.wait()
            self._unbalanced.clear()
            try:
                await self.balance()
            except SuiteError as error:
                _log.warning("membership not renewed", extra={"code": error.code})

    async def _clean(self) -> None:
        """Drop what is past its retention, and superseded events of compacted topics."""
        while True:
            await asyncio.sleep(CLEAN_EVERY_S * (0.5 + self.ids.fraction()))
            try:
                await self.clean()
            except SuiteError as error:
                _log.warning("bus not cleaned", extra={"code": error.code})

    async def clean(self) -> None:
        """One cleaning, in small transactions."""
        now = self.clock.now()
        tombstones_before = instant_text(now - TOMBSTONE_LIFE)
        for topic in self._topics.values():
            if topic.compacted:
                while await self.write(partial(_compact, topic=topic.name, tombstones_before=tombstones_before)):
                    continue
            elif topic.retention_ms > 0:
                before = instant_text(now - timedelta(milliseconds=topic.retention_ms))
                while await self.write(partial(_expire, topic=topic.name, before=before)):
                    continue

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Only when it is new: closing any descriptor of the file would drop the locks that this process holds on it
        # (POSIX, fcntl), and another process would then take the live WAL for an abandoned one.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        connection = sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        self._connection = connection
        return connection


class _Reader:
    """What groups and followers share."""

    def __init__(self, bus: SqliteBus, topics: Sequence[str], handler: BatchHandler, batch_events_max: int) -> None:
        self.bus = bus
        self.topics = tuple(topics)
        self.handler = handler
        self.batch_events_max = batch_events_max
        self.stopping = asyncio.Event()

    def look(self) -> None:
        """Something of these topics may be new."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Finish the batch in hand, then stop."""
        raise NotImplementedError

    async def pause(self, seconds: float) -> None:
        """Until stopping, or the time is over (new events do not shorten a backoff)."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds * (0.5 + self.bus.ids.fraction())):
                await self.stopping.wait()


class _Follower(_Reader):
    """Reads all partitions from a place of its own, kept in memory."""

    def __init__(self, bus: SqliteBus, topics: Sequence[str], handler: BatchHandler, *, from_beginning: bool) -> None:
        super().__init__(bus, topics, handler, BATCH_EVENTS_MAX)
        self.caught_up = asyncio.Event()
        self._from_beginning = from_beginning
        self._next: dict[Place, int] = {}
        self._ends: dict[Place, int] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Note where everything ends now, then read."""
        heads = await self.bus.refresh()
        self._ends = {place: end for place, end in heads.items() if place[0] in self.topics}
        if not self._from_beginning:
            self._next = dict(self._ends)
        self.bus.join(self)
        self._task = asyncio.create_task(self._run(), name=f"bus-reader-{self.topics[0]}")

    async def stop(self) -> None:
        self.stopping.set()
        self._wake.set()
        self.bus.leave(self)
        if self._task is not None:
            await end_tasks([self._task], BATCH_TIMEOUT_S)

    def look(self) -> None:
        self._wake.set()

    async def _run(self) -> None:
        while not self.stopping.is_set():
            self._wake.clear()
            if all(self._next.get(place, 0) >= end for place, end in self._ends.items()):
                self.caught_up.set()
            behind = [
                (place, end)
                for place, end in self.bus.heads.items()
                if place[0] in self.topics and end > self._next.get(place, 0)
            ]
            if not behind:
                await self._wake.wait()
            for place, end in behind:
                await self._batch(place, end)

    async def _batch(self, place: Place, end: int) -> None:
        backoff_s = BACKOFF_MIN_S
        offset = self._next.get(place, 0)
        while not self.stopping.is_set():
            after = offset
            try:
                found, after = await self.bus.fetch(place, offset, self.batch_events_max)
                if found:
                    await self.handler(found)
                self._next[place] = after if after > offset else end  # nothing below the end: it was cleaned away
                return
            except Exception as error:  # noqa: BLE001 - whatever a handler raises, reading goes on
                report_again(*place, "", error)
                if not self._from_beginning and after > offset:
                    self._next[place] = after  # a tail drops what its handler refuses
                    return
            await self.pause(backoff_s)
            backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)


@dataclass(frozen=True, slots=True)
class _State:
    """A member as the balance sees it: partitions in hand, to give back, and those it may not take yet."""

    group: str
    member: str
    partitions: Mapping[str, int]
    in_hand: frozenset[Place]
    given_back: frozenset[Place]
    busy: frozenset[Place]


@dataclass(frozen=True, slots=True)
class _Share:
    """What the balance gave a member: its partitions, where to begin in new ones, and those that are too much."""

    owned: frozenset[Place]
    positions: Mapping[Place, int]
    surplus: frozenset[Place]


@dataclass(eq=False, slots=True)
class _Lane:
    """A partition that a member owns: where it is, and the task that reads while there is something to read."""

    place: Place
    next: int
    task: asyncio.Task[None] | None = None
    ending: bool = False
    lost: bool = False


class _Group(_Reader):
    """A member of a group."""

    def __init__(
        self, bus: SqliteBus, topics: Sequence[str], handler: BatchHandler, batch_events_max: int, group: str
    ) -> None:
        super().__init__(bus, topics, handler, batch_events_max)
        self._group = group
        self._member = bus.ids.new("rep")
        self._lanes: dict[Place, _Lane] = {}

    async def start(self) -> None:
        """Join; when the file can not be written now, the next heartbeat joins."""
        self.bus.join(self)
        try:
            await self.bus.balance()
            await self.bus.refresh()
        except SuiteError as error:
            _log.warning("group not joined yet", extra={"consumer": self._group, "code": error.code})

    async def stop(self) -> None:
        self.stopping.set()
        self.bus.leave(self)
        await end_tasks([lane.task for lane in self._lanes.values() if lane.task is not None], BATCH_TIMEOUT_S)
        with contextlib.suppress(SuiteError):
            await self.bus.write(partial(_resign, member=self._member))
        self.bus.balance_soon()

    def look(self) -> None:
        for lane in self._lanes.values():
            self._look_at(lane)

    def state(self) -> _State:
        """For the balance."""
        ended = {place for place, lane in self._lanes.items() if lane.ending and lane.task is None}
        return _State(
            self._group,
            self._member,
            {topic: self.bus.partitions(topic) for topic in self.topics},
            frozenset(place for place, lane in self._lanes.items() if not lane.ending),
            frozenset(place for place in ended if not self._lanes[place].lost),
            frozenset(place for place, lane in self._lanes.items() if lane.lost and place not in ended),
        )

    def settle(self, share: _Share) -> None:
        """Begin with new partitions, end those that are too much or another's by now."""
        if self.stopping.is_set():
            return
        for place, lane in list(self._lanes.items()):
            if place not in share.owned:
                lane.ending = lane.lost = True
            elif place in share.surplus:
                lane.ending = True
                if lane.task is None:
                    self.bus.balance_soon()
                continue
            if lane.ending and lane.task is None:
                del self._lanes[place]
        for place in share.owned - self._lanes.keys():
            if place in share.positions:
                self._lanes[place] = _Lane(place, share.positions[place])
        self.look()

    def _look_at(self, lane: _Lane) -> None:
        behind = lane.next < self.bus.heads.get(lane.place, 0)
        if behind and lane.task is None and not lane.ending and not self.stopping.is_set():
            name = f"bus-{self._group}-{lane.place[0]}-{lane.place[1]}"
            lane.task = asyncio.create_task(self._read(lane), name=name)

    async def _read(self, lane: _Lane) -> None:
        backoff_s = BACKOFF_MIN_S
        while not lane.ending and not self.stopping.is_set() and lane.next < (end := self.bus.heads[lane.place]):
            try:
                await self._batch(lane, end)
                backoff_s = BACKOFF_MIN_S
            except Exception as error:  # noqa: BLE001 - whatever a handler raises means: again, later
                report_again(*lane.place, self._group, error)
                await self.pause(backoff_s)
                backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)
        lane.task = None
        if lane.ending:
            self.bus.balance_soon()

    async def _batch(self, lane: _Lane, end: int) -> None:
        found, after = await self.bus.fetch(lane.place, lane.next, self.batch_events_max)
        if found:
            await self.handler(found)
        if after == lane.next:
            after = end  # nothing there below the end: it was cleaned away
        advance = partial(_advance, group=self._group, member=self._member, place=lane.place, after=after)
        if await self.bus.write(advance):
            lane.next = after
        else:
            lane.ending = lane.lost = True


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk may have ended it already
            connection.execute("ROLLBACK")
        raise


def _together(connection: sqlite3.Connection, works: Sequence[Callable[[sqlite3.Connection], Any]]) -> list[Any]:
    with _transaction(connection):
        return [work(connection) for work in works]


def _heads(connection: sqlite3.Connection, topics: Sequence[str]) -> dict[Place, int]:
    """The next offset of each partition that ever had an event."""
    rows = connection.execute("SELECT topic, partition, next FROM head").fetchall()
    return {(topic, number): following for topic, number, following in rows if topic in topics}


def _make_tables(connection: sqlite3.Connection) -> None:
    """Make what is missing; a log of an earlier version is written anew, once."""
    with _transaction(connection):
        script = _REBUILD if connection.execute(_KEPT_BY_KEY).fetchone() else _SCHEMA
        for statement in script.split(";"):
            connection.execute(statement)


def _head(connection: sqlite3.Connection, place: Place) -> int:
    row = connection.execute("SELECT next FROM head WHERE topic = ? AND partition = ?", place).fetchone()
    return int(row[0]) if row else 0


def _records(connection: sqlite3.Connection, place: Place, offset: int, limit: int) -> list[Any]:
    return connection.execute(
        "SELECT offset, key, headers, value FROM log WHERE topic = ? AND partition = ? AND offset >= ?"
        " ORDER BY offset LIMIT ?",
        (*place, offset, limit),
    ).fetchall()


def _header_bytes(headers: bytes) -> dict[str, bytes]:
    try:
        return {name: text.encode() for name, text in orjson.loads(headers).items()}
    except (ValueError, AttributeError) as error:
        raise UnreadableError("headers") from error


def _first_since(connection: sqlite3.Connection, place: Place, since: str) -> int | None:
    found = connection.execute(
        "SELECT offset FROM log WHERE topic = ? AND partition = ? AND at >= ? ORDER BY offset LIMIT 1", (*place, since)
    ).fetchone()
    return int(found[0]) if found else None


def _position(connection: sqlite3.Connection, group: str, place: Place) -> int:
    row = connection.execute(
        "SELECT next FROM position WHERE grp = ? AND topic = ? AND partition = ?", (group, *place)
    ).fetchone()
    return int(row[0]) if row else 0


def _lag(connection: sqlite3.Connection, topics: Sequence[str], group: str) -> int:
    return sum(
        int(
            connection.execute(
                "SELECT count(*) FROM log WHERE topic = ? AND partition = ? AND offset >= ? AND offset < ?",
                (*place, _position(connection, group, place), end),
            ).fetchone()[0]
        )
        for place, end in _heads(connection, topics).items()
    )


def _advance(connection: sqlite3.Connection, group: str, member: str, place: Place, after: int) -> bool:
    """Move on, unless the partition is another's by now (False): then the new owner delivers again."""
    changed = connection.execute(
        "INSERT INTO position SELECT ?, ?, ?, ? WHERE EXISTS"
        " (SELECT 1 FROM ownership WHERE grp = ? AND topic = ? AND partition = ? AND member = ?)"
        " ON CONFLICT DO UPDATE SET next = max(position.next, excluded.next)",
        (group, *place, after, group, *place, member),
    )
    return changed.rowcount > 0


def _renew(
    connection: sqlite3.Connection, replica: str, now: str, expires: str, states: Sequence[_State]
) -> list[_Share]:
    """Renew a replica, bury the dead ones, and give each of these members its share."""
    connection.execute(
        "INSERT INTO replica VALUES (?, ?) ON CONFLICT DO UPDATE SET expires = excluded.expires", (replica, expires)
    )
    for (dead,) in connection.execute("SELECT replica FROM replica WHERE expires <= ?", (now,)).fetchall():
        for table in ("replica", "membership", "ownership"):
            connection.execute(f"DELETE FROM {table} WHERE replica = ?", (dead,))  # noqa: S608 - a name from above
    for state in states:
        rows = [(state.group, topic, state.member, replica) for topic in state.partitions]
        connection.executemany("INSERT INTO membership VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", rows)
    return [_share(connection, replica, state) for state in states]


def _share(connection: sqlite3.Connection, replica: str, state: _State) -> _Share:
    owned: set[Place] = set()
    surplus: set[Place] = set()
    connection.executemany(
        "DELETE FROM ownership WHERE grp = ? AND topic = ? AND partition = ? AND member = ?",
        [(state.group, *place, state.member) for place in state.given_back],
    )
    for topic, partitions in state.partitions.items():
        named = (state.group, topic)
        members = connection.execute("SELECT count(*) FROM membership WHERE grp = ? AND topic = ?", named).fetchone()[0]
        rows = connection.execute("SELECT partition, member FROM ownership WHERE grp = ? AND topic = ?", named)
        owners: dict[int, str] = dict(rows.fetchall())
        ours = sorted(number for number, member in owners.items() if member == state.member)
        fair = math.ceil(partitions / members)
        surplus |= {(topic, number) for number in ours[fair:]}
        free = [number for number in range(partitions) if number not in owners and (topic, number) not in state.busy]
        taken = free[: max(0, fair - len(ours))]
        connection.executemany(
            "INSERT INTO ownership VALUES (?, ?, ?, ?, ?)",
            [(*named, number, state.member, replica) for number in taken],
        )
        owned |= {(topic, number) for number in (*ours, *taken)}
    positions = {place: _position(connection, state.group, place) for place in owned - state.in_hand}
    return _Share(frozenset(owned), positions, frozenset(surplus))


def _resign(connection: sqlite3.Connection, member: str) -> None:
    for table in ("membership", "ownership"):
        connection.execute(f"DELETE FROM {table} WHERE member = ?", (member,))  # noqa: S608 - a name from above


def _compact(connection: sqlite3.Connection, topic: str, tombstones_before: str) -> bool:
    """Delete some superseded events and old tombstones; whether there may be more."""
    rows = connection.execute(
        "SELECT partition, offset FROM (SELECT partition, offset, value IS NULL AS tombstone, at,"
        " row_number() OVER (PARTITION BY partition, key ORDER BY offset DESC) AS age"
        " FROM log WHERE topic = ? AND key IS NOT NULL) WHERE age > 1 OR (tombstone AND at < ?) LIMIT ?",
        (topic, tombstones_before, _CLEAN_ROWS_MAX),
    ).fetchall()
    return _delete(connection, topic, rows)


def _expire(connection: sqlite3.Connection, topic: str, before: str) -> bool:
    rows = connection.execute(
        "SELECT partition, offset FROM log WHERE topic = ? AND at < ? LIMIT ?", (topic, before, _CLEAN_ROWS_MAX)
    ).fetchall()
    return _delete(connection, topic, rows)


def _delete(connection: sqlite3.Connection, topic: str, rows: Sequence[tuple[int, int]]) -> bool:
    connection.executemany(
        "DELETE FROM log WHERE topic = ? AND partition = ? AND offset = ?", [(topic, *row) for row in rows]
    )
    return len(rows) == _CLEAN_ROWS_MAX
