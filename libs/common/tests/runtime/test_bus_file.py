"""The file of the bus without a broker: an earlier version's is kept, and it is little larger than its events."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from common.models.clock import FixedClock
from common.models.events import Event
from common.runtime.bus_sqlite import SqliteBus
from common.runtime.system import SystemIds

AT = datetime(2026, 3, 1, tzinfo=UTC)
BY_KEY = """
CREATE TABLE log (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL, key BLOB, headers BLOB NOT NULL,
    value BLOB, at TEXT NOT NULL, PRIMARY KEY (topic, partition, offset)) WITHOUT ROWID;
CREATE INDEX log_by_time ON log (topic, at);
"""


def some(count: int) -> list[Event]:
    ids = SystemIds()
    data = {"module": "sync", "replica": "rep_1", "name": "x" * 600, "value": 1.0, "unit": "events"}
    return [
        Event(ids.new("evt"), "ps.measurement.taken", "/t/r", "s", AT, "ten_1", f"k{number % 7}", data)
        for number in range(count)
    ]


async def written(directory: Path, events: Sequence[Event]) -> None:
    bus = SqliteBus(directory, FixedClock(AT), SystemIds())
    await bus.start()
    await bus.publish(events)
    await bus.stop()


def rows(path: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT * FROM log ORDER BY topic, partition, offset").fetchall()


async def test_a_log_of_an_earlier_version_is_kept(tmp_path: Path) -> None:
    await written(tmp_path, some(200))
    path = tmp_path / "bus.sqlite3"
    before = rows(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"ALTER TABLE log RENAME TO other; DROP INDEX log_by_time; {BY_KEY}")
        connection.executescript("INSERT INTO log SELECT * FROM other; DROP TABLE other;")
    await written(tmp_path, some(1))
    after = rows(path)
    assert len(after) == len(before) + 1
    assert set(before) < set(after)
    with closing(sqlite3.connect(path)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        [(sql,)] = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'log'").fetchall()
    assert "WITHOUT ROWID" not in sql
    assert "log_by_key" not in tables


async def test_the_file_is_little_larger_than_its_events(tmp_path: Path) -> None:
    for _ in range(40):
        await written(tmp_path, some(50))
    path = tmp_path / "bus.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        [(payload,)] = connection.execute("SELECT sum(length(headers) + length(value) + length(key)) FROM log")
    assert path.stat().st_size < 1.5 * payload
