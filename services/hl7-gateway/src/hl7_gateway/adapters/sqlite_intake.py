"""The intake on SQLite: one connection and one thread of its own, one hop and one sync per group commit.

SQLAlchemy and the asynchronous driver would cross between threads a dozen times for a transaction of three statements,
which takes longer than the transaction; so this speaks to the standard library's sqlite3 itself. Errors are the same:
`database.unavailable` when the file is away, full or locked.

Theory of operation. One process owns the file, so commits are in the order of `sequence`, and how far the catalogue
has come is one number. A commit only appends to `body`. The keys that recognise messages would go to as many places of
an index as there are messages; they are kept in memory, beside the bodies they were stored with, until the messages
are catalogued, and then written many at a time. After a crash they are read again from the bodies behind that number.
"""

from __future__ import annotations

import asyncio
import fcntl
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, TypeVar

from common.models.clock import Clock
from common.models.errors import SuiteError
from common.runtime.database import BUSY_TIMEOUT_MS
from hl7_gateway.core.message import Receipt, TakenMessage, instant_of, milliseconds_of
from hl7_gateway.ports import WaitingMessage

SEEN_ROWS_MAX: Final = 2_000
BODY_ROWS_MAX: Final = 200
"""Deleted at once: a commit waits for it, a few milliseconds."""
EVER: Final = 2**62
"""Milliseconds; later than any message."""
PREPARED_STATEMENTS_MAX: Final = 256
BATCH_MESSAGES_MAX: Final = 2_900
"""What one statement can hold: eleven of SQLite's 32,766 variables a message."""
RECENT_KEYS_MAX: Final = 100_000
"""Keys in memory; of more, the oldest are written with the next commits."""
SPILLED_KEYS_MAX: Final = 512
CATALOGUED, REMEMBERED = "catalogued", "remembered"

_COLUMNS: Final = (
    "id, tenant, integration_id, channel, peer, received_ms, rejection, sealed_body, duplicate_key, connection_id"
)
_STORE: Final = f"INSERT INTO body (sequence, {_COLUMNS}) SELECT * FROM"
_UNLESS_WRITTEN: Final = "WHERE NOT EXISTS (SELECT 1 FROM seen WHERE duplicate_key = new.column10)"
_MARKS: Final = "(" + ", ".join("?" * (_COLUMNS.count(",") + 2)) + ")"
_RECENT: Final = "SELECT duplicate_key, id, received_ms, sequence FROM body WHERE sequence > ? ORDER BY sequence"
_RECOGNISE: Final = "SELECT duplicate_key, message_id, received_ms FROM seen WHERE duplicate_key IN"
_REMEMBER: Final = "INSERT OR IGNORE INTO seen (duplicate_key, message_id, received_ms, sequence) VALUES (?, ?, ?, ?)"
_FORGET: Final = "DELETE FROM seen WHERE received_ms < ? AND sequence < (SELECT min(sequence) + ? FROM seen)"
_WAITING: Final = (
    "SELECT sequence, id, tenant, integration_id, channel, peer, received_ms, rejection, sealed_body, connection_id"
    " FROM body"
    " WHERE sequence > ? ORDER BY sequence LIMIT ?"
)
_ADVANCE: Final = (
    "INSERT INTO progress (name, sequence) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET sequence = excluded.sequence"
)
_FORGET_BODIES: Final = (
    "DELETE FROM body WHERE sequence < (SELECT min(sequence) + ? FROM body) AND sequence <= ? AND received_ms < ?"
)
_USED: Final = (
    "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
)
T = TypeVar("T")


class SqliteIntake:
    """`Intake`. `path` is a migrated database file that no other process opens."""

    exclusive: Final = True
    """No other replica has these messages."""

    def __init__(self, path: Path, clock: Clock, *, recent_keys_max: int = RECENT_KEYS_MAX) -> None:
        self._path = path
        self._clock = clock
        self._recent_keys_max = recent_keys_max
        self._executor: ThreadPoolExecutor | None = None
        self._lock: IO[bytes] | None = None
        # Below: of the one thread.
        self._connection: sqlite3.Connection | None = None
        self._last = 0
        self._recent: dict[bytes, _Recent] = {}
        self._remembered = 0
        self._catalogued = 0

    async def open(self) -> None:
        """Raises SuiteError `start.data-in-use` when another process has it open, or `database.unavailable`."""
        self._lock = _claim(self._path)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="hl7-intake")
        await self._run(lambda _: None)

    async def close(self) -> None:
        """Finish the transaction in hand."""
        if self._executor is None:
            return
        executor, self._executor = self._executor, None
        await asyncio.get_running_loop().run_in_executor(executor, self._forsake)
        executor.shutdown()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def save(self, messages: Sequence[TakenMessage]) -> asyncio.Future[Mapping[str, Receipt]]:
        return self._run(lambda connection: self._save(connection, messages))

    async def waiting(self, limit: int) -> Sequence[WaitingMessage]:
        rows = await self._run(lambda connection: connection.execute(_WAITING, (self._catalogued, limit)).fetchall())
        return [WaitingMessage(*row) for row in rows]

    async def catalogued(self, sequences: Sequence[int]) -> None:
        if sequences:
            await self._run(lambda connection: self._advance(connection, max(sequences)))

    async def bodies(self, sequences: Sequence[int]) -> Mapping[int, bytes]:
        marks = ", ".join("?" * len(sequences))
        statement = f"SELECT sequence, sealed_body FROM body WHERE sequence IN ({marks})"  # noqa: S608 - marks only
        return dict(await self._run(lambda connection: connection.execute(statement, tuple(sequences)).fetchall()))

    async def erase_bodies(self, sequences: Sequence[int]) -> None:
        """Delete them, whatever their age: a practice is offboarded."""
        for start in range(0, len(sequences), BODY_ROWS_MAX):
            some = tuple(sequences[start : start + BODY_ROWS_MAX])
            await self._run(partial(_erase, some))

    async def forget_seen(self, window_s: float) -> int:
        before = milliseconds_of(self._clock.now() - timedelta(seconds=window_s))
        forgotten = 0
        while True:
            deleted = await self._run(lambda connection: _forget(connection, before))
            forgotten += deleted
            if not deleted:
                return forgotten

    async def forget_bodies(self, kept_s: float, bytes_max: int) -> int:
        """The file does not shrink: what becomes free in it is used for the next messages."""
        before = milliseconds_of(self._clock.now() - timedelta(seconds=kept_s))
        return await self._run(lambda connection: self._forget_bodies(connection, before, bytes_max))

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        if self._executor is None:
            raise SuiteError("database.unavailable", "The intake is not open.")
        return asyncio.get_running_loop().run_in_executor(self._executor, self._work, work)

    def _work(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connect()
            assert self._connection is not None
            return work(self._connection)
        except (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError):
            raise
        except sqlite3.DatabaseError as error:
            self._forsake()  # opened anew for the next one: the file may have come back
            raise SuiteError("database.unavailable") from error

    def _connect(self) -> None:
        connection = _connect(self._path)
        try:
            progress = dict(connection.execute("SELECT name, sequence FROM progress").fetchall())
            self._catalogued = progress.get(CATALOGUED, 0)
            self._remembered = progress.get(REMEMBERED, 0)
            self._last = max(
                connection.execute("SELECT max(sequence) FROM body").fetchone()[0] or 0, *progress.values(), 0
            )
            self._recent = {
                key: _Recent(*rest) for key, *rest in connection.execute(_RECENT, (self._remembered,)).fetchall()
            }
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def _forsake(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()

    def _save(self, connection: sqlite3.Connection, messages: Sequence[TakenMessage]) -> dict[str, Receipt]:
        recent, first = self._recent, dict[bytes, TakenMessage]()
        for message in messages:
            if message.duplicate_key not in recent:
                first.setdefault(message.duplicate_key, message)
        last = self._last
        rows = [(last + place, *message) for place, message in enumerate(first.values(), start=1)]
        if len(recent) > self._recent_keys_max:
            self._spill(connection, list(islice(recent.items(), SPILLED_KEYS_MAX)))
        stored = _insert(connection, rows)
        self._last = last + len(rows)
        written: dict[bytes, Receipt] = {}
        if stored != len(rows):
            written = _written(connection, list(first))
        for place, (key, message) in enumerate(first.items(), start=1):
            if key not in written:
                recent[key] = _Recent(message.id, message.received_ms, last + place)
        if stored == len(messages):
            return {}
        repeated = {message.id: written.get(message.duplicate_key) or self._receipt(message) for message in messages}
        return {message_id: first for message_id, first in repeated.items() if first.message_id != message_id}

    def _receipt(self, message: TakenMessage) -> Receipt:
        known = self._recent[message.duplicate_key]
        return Receipt(known.message_id, instant_of(known.received_ms))

    def _advance(self, connection: sqlite3.Connection, sequence: int) -> None:
        """The catalogue has come so far; the keys so far are written."""
        spilled = list(takewhile(lambda item: item[1].sequence <= sequence, self._recent.items()))
        with _transaction(connection):
            _remember(connection, spilled)
            connection.execute(_ADVANCE, (CATALOGUED, sequence))
        self._forget_recent(spilled)
        self._catalogued = sequence

    def _forget_bodies(self, connection: sqlite3.Connection, before_ms: int, bytes_max: int) -> int:
        if bytes_max and connection.execute(_USED).fetchone()[0] > bytes_max:
            before_ms = EVER
        # Keys that are not written yet are read again from the bodies after a crash.
        known = min(self._catalogued, self._remembered)
        return connection.execute(_FORGET_BODIES, (BODY_ROWS_MAX, known, before_ms)).rowcount

    def _spill(self, connection: sqlite3.Connection, keys: Sequence[tuple[bytes, _Recent]]) -> None:
        with _transaction(connection):
            _remember(connection, keys)
        self._forget_recent(keys)

    def _forget_recent(self, keys: Sequence[tuple[bytes, _Recent]]) -> None:
        for key, _ in keys:
            del self._recent[key]
        if keys:
            self._remembered = keys[-1][1].sequence


class _Recent(NamedTuple):
    """A message whose key is not written yet."""

    message_id: str
    received_ms: int
    sequence: int


def _claim(path: Path) -> IO[bytes]:
    """Hold the file for this process until it ends; what is kept in memory would be wrong if another one wrote."""
    # Beside it: to close a descriptor of the database itself would drop SQLite's own locks on it.
    lock = path.with_suffix(".lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise SuiteError("start.data-in-use", f"{path} (PS_DATA)") from error
    return lock


def _connect(path: Path) -> sqlite3.Connection:
    # Mode rw: a file that went away is not made anew, empty and without tables.
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=PREPARED_STATEMENTS_MAX,
        timeout=BUSY_TIMEOUT_MS / 1000,
    )
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _insert(connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> int:
    """Insert the rows whose key is not written, in one statement, which is the transaction; returns how many.

    The interpreter's lock is given up for each statement and waited for after it; under load that costs more than the
    statement. So it is one, and sqlite3 keeps those of the usual sizes prepared.
    """
    if not rows:
        return 0
    statement = f"{_STORE} (VALUES {', '.join([_MARKS] * len(rows))}) AS new {_UNLESS_WRITTEN}"
    return connection.execute(statement, tuple(chain.from_iterable(rows))).rowcount


def _written(connection: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, Receipt]:
    marks = ", ".join("?" * len(keys))
    rows = connection.execute(f"{_RECOGNISE} ({marks})", keys).fetchall()
    return {key: Receipt(message_id, instant_of(received_ms)) for key, message_id, received_ms in rows}


def _remember(connection: sqlite3.Connection, keys: Sequence[tuple[bytes, _Recent]]) -> None:
    if keys:
        # In the order of the key: neighbours lie on one page of the index.
        connection.executemany(_REMEMBER, sorted((key, *recent) for key, recent in keys))
        connection.execute(_ADVANCE, (REMEMBERED, keys[-1][1].sequence))


def _erase(sequences: Sequence[int], connection: sqlite3.Connection) -> int:
    marks = ", ".join("?" * len(sequences))
    return connection.execute(f"DELETE FROM body WHERE sequence IN ({marks})", tuple(sequences)).rowcount  # noqa: S608 - marks only


def _forget(connection: sqlite3.Connection, before_ms: int) -> int:
    # Sequences follow the time, so the oldest lie together; one that is out of order is forgotten a little later.
    with _transaction(connection):
        return connection.execute(_FORGET, (before_ms, SEEN_ROWS_MAX)).rowcount
