"""Database: transactions, readers, migrations, plans, and what happens when the server goes away."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, delete, func, insert, select, text, tuple_
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError

from common.models.errors import SuiteError
from common.runtime import tables
from common.runtime.columns import JsonText, UtcInstant
from common.runtime.database import Database
from common.runtime.inbox import parked_keys_statement
from common.runtime.outbox import OLDEST_PENDING, PENDING_OF_TOPIC, PENDING_TOPICS
from common.runtime.schema import schema_differences
from common.runtime.tables import INBOX, OUTBOX, PARKED
from contracts.conftest import NewDatabase
from contracts.recorded_bus import AT
from infrastructure.fixtures import postgres_url_of
from infrastructure.process_server import ProcessServer

METADATA = MetaData()
NOTE = Table(
    "note",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("at", UtcInstant, nullable=True),
    Column("body", JsonText, nullable=True),
    Column("text", Text, nullable=True),
)
MIGRATION = '''"""Notes."""
import sqlalchemy as sa
from alembic import op
from common.runtime.columns import JsonText, UtcInstant

revision, down_revision = "0001", None

def upgrade() -> None:
    op.create_table(
        "note",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("at", UtcInstant(), nullable=True),
        sa.Column("body", JsonText(), nullable=True),
        sa.Column("text", sa.Text(), nullable=True),
    )
'''
FAILING = '''"""Half of it works."""
import sqlalchemy as sa
from alembic import op

revision, down_revision = "0002", "0001"

def upgrade() -> None:
    op.create_table("half", sa.Column("id", sa.Integer(), primary_key=True))
    op.execute("INSERT INTO nowhere VALUES (1)")
'''


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    versions = tmp_path / "migrations" / "versions"
    versions.mkdir(parents=True)
    (versions / "0001_notes.py").write_text(MIGRATION)
    return versions.parent


@pytest.fixture
async def notes(new_database: NewDatabase, migrations: Path) -> Any:
    database = new_database(METADATA, migrations)
    await database.open()
    yield database
    await database.close()


async def count(database: Database) -> int:
    async with database.read() as session:
        return int((await session.execute(select(func.count()).select_from(NOTE))).scalar_one())


class TestDatabase:
    async def test_a_write_commits_at_its_end_and_rolls_back_when_it_raises(self, notes: Database) -> None:
        called: list[str] = []
        async with notes.write() as session:
            await session.execute(insert(NOTE).values(id=1))
            notes.after_commit(session, lambda: called.append("committed"))
            assert called == []
        with pytest.raises(RuntimeError, match="ours"):  # noqa: PT012 - the block is one transaction
            async with notes.write() as session:
                await session.execute(insert(NOTE).values(id=2))
                notes.after_commit(session, lambda: called.append("rolled back"))
                raise RuntimeError("ours")
        assert await count(notes) == 1
        assert called == ["committed"]

    async def test_a_cancelled_write_rolls_back_and_leaves_the_writer_free(self, notes: Database) -> None:
        inside = asyncio.Event()

        async def write() -> None:
            async with notes.write() as session:
                await session.execute(insert(NOTE).values(id=1))
                inside.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(write())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with notes.write() as session:
            await session.execute(insert(NOTE).values(id=1))
        assert await count(notes) == 1

    async def test_writers_do_not_meet(self, notes: Database) -> None:
        async def add(number: int) -> None:
            async with notes.write() as session:
                await session.execute(insert(NOTE).values(id=number))

        await asyncio.gather(*(add(number) for number in range(40)))
        assert await count(notes) == 40

    async def test_readers_see_what_is_committed_while_a_writer_is_at_work(self, notes: Database) -> None:
        async with notes.write() as session:
            await session.execute(insert(NOTE).values(id=1))
            assert await count(notes) == 0
        assert await count(notes) == 1

    async def test_a_reader_can_not_write(self, notes: Database) -> None:
        with pytest.raises((DBAPIError, SuiteError)):
            async with notes.read() as session:
                await session.execute(insert(NOTE).values(id=1))
        assert await count(notes) == 0

    async def test_a_constraint_is_the_callers_business(self, notes: Database) -> None:
        with pytest.raises(IntegrityError) as caught:  # noqa: PT012 - the block is one transaction
            async with notes.write() as session:
                await session.execute(insert(NOTE).values(id=1, text="canary"))
                await session.execute(insert(NOTE).values(id=1, text="canary"))
        assert "canary" not in str(caught.value)

    async def test_instants_and_json_come_back_as_they_were(self, notes: Database) -> None:
        at = datetime(2026, 3, 1, 9, 30, 0, 123_999, tzinfo=timezone(timedelta(hours=-6)))
        body = {"names": ["Zoë"], "count": 3, "none": None}
        async with notes.write() as session:
            await session.execute(
                insert(NOTE), [{"id": 1, "at": at, "body": body}, {"id": 2, "at": None, "body": None}]
            )
        async with notes.read() as session:
            rows = (await session.execute(select(NOTE).order_by(NOTE.c.id))).all()
            kept = datetime(2026, 3, 1, 15, 30, 0, 123_000, tzinfo=UTC)
            assert (rows[0].at, rows[0].body, rows[1].at, rows[1].body) == (kept, body, None, None)
            assert rows[0].at.utcoffset() == timedelta(0)
            found = (await session.execute(select(NOTE.c.id).where(NOTE.c.at == at))).scalar()
        assert found == 1
        with pytest.raises(StatementError, match="time zone"):
            async with notes.write() as session:
                await session.execute(insert(NOTE).values(id=3, at=datetime(2026, 3, 1)))  # noqa: DTZ001

    async def test_migrations_give_what_the_metadata_says(self, notes: Database) -> None:
        async with notes.read() as session:
            connection = await session.connection()
            assert await connection.run_sync(schema_differences, METADATA) == []
            assert await connection.run_sync(schema_differences, tables.Base.metadata) == []
            other = MetaData()
            Table("missing", other, Column("id", Integer, primary_key=True))
            differences = await connection.run_sync(schema_differences, other)
        assert {(difference[0], difference[1].name) for difference in differences} == {
            ("add_table", "missing"),
            ("remove_table", "note"),
        }

    async def test_replicas_that_start_at_once_migrate_once(self, new_database: NewDatabase, migrations: Path) -> None:
        replicas = [new_database(METADATA, migrations) for _ in range(3)]
        await asyncio.gather(*(replica.open() for replica in replicas))
        assert [await count(replica) for replica in replicas] == [0, 0, 0]
        for replica in replicas:
            await replica.close()

    async def test_a_failed_migration_changes_nothing_and_says_so(
        self, notes: Database, new_database: NewDatabase, migrations: Path
    ) -> None:
        (migrations / "versions" / "0002_failing.py").write_text(FAILING)
        with pytest.raises(SuiteError) as caught:
            await new_database(METADATA, migrations).open()
        assert caught.value.code == "database.migration-failed"
        async with notes.read() as session:
            assert await (await session.connection()).run_sync(schema_differences, METADATA) == []

    async def test_older_code_runs_on_a_newer_schema(
        self, notes: Database, new_database: NewDatabase, migrations: Path
    ) -> None:
        newer = FAILING.replace('    op.execute("INSERT INTO nowhere VALUES (1)")\n', "")
        (migrations / "versions" / "0002_newer.py").write_text(newer)
        upgraded = new_database(METADATA, migrations)
        await upgraded.open()
        await upgraded.close()
        (migrations / "versions" / "0002_newer.py").unlink()
        older = new_database(METADATA, migrations)
        await older.open()
        assert await count(older) == 0
        await older.close()

    async def test_a_closed_database_is_unavailable(self, notes: Database) -> None:
        await notes.ping()
        await notes.close()
        with pytest.raises(SuiteError) as caught:
            await notes.ping()
        assert caught.value.code == "database.unavailable"


HOT: dict[str, list[Any]] = {
    "outbox_pending": [PENDING_TOPICS, OLDEST_PENDING, PENDING_OF_TOPIC.params(topic="t3")],
    "outbox_published": [
        delete(OUTBOX).where(OUTBOX.c.id.in_(select(OUTBOX.c.id).where(OUTBOX.c.published_at < AT).limit(10)))
    ],
    "inbox_by_time": [select(INBOX.c.event_id).where(INBOX.c.received_at < AT).limit(10)],
    "inbox_pkey|sqlite_autoindex_inbox": [
        select(INBOX.c.event_id).where(
            tuple_(INBOX.c.consumer, INBOX.c.generation, INBOX.c.event_id).in_([("c1", 0, "e1"), ("c1", 0, "e2")])
        ),
        select(func.max(INBOX.c.generation)).where(INBOX.c.consumer == "c1"),
    ],
    "parked_by_key": [parked_keys_statement("c1", ["k1", "k2"])],
    "parked_by_tenant": [select(PARKED).where(PARKED.c.tenant == "t1").order_by(PARKED.c.sequence).limit(10)],
}


async def test_hot_statements_use_their_index(database: Database) -> None:
    await _fill(database)
    async with database.read() as session:
        dialect = (await session.connection()).dialect
        for names, statements in HOT.items():
            for statement in statements:
                compiled = str(statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
                explain = "EXPLAIN QUERY PLAN" if database.dialect == "sqlite" else "EXPLAIN"
                result = await (await session.connection()).exec_driver_sql(f"{explain} {compiled}")
                plan = "\n".join(str(row[-1]) for row in result)
                assert any(name in plan for name in names.split("|")), plan
                assert "SCAN outbox\n" not in f"{plan}\n", plan
                assert "Seq Scan" not in plan, plan


async def _fill(database: Database) -> None:
    """Enough rows, and statistics, for the planner to have a reason."""
    outbox = [
        {"topic": f"t{n % 5}", "key": "", "event": "{}", "created_at": AT, "published_at": AT if n % 50 else None}
        for n in range(5_000)
    ]
    inbox = [
        {"consumer": f"c{n % 5}", "generation": 0, "event_id": f"e{n}", "received_at": AT + timedelta(minutes=n)}
        for n in range(5_000)
    ]
    parked = [
        {"id": f"d{n}", "tenant": f"t{n % 1000}", "consumer": f"c{n % 5}", "topic": "t", "key": f"k{n}", "event": "{}",
         "state": "failed", "attempts": 3, "parked_at": AT}
        for n in range(5_000)
    ]  # fmt: skip
    async with database.write() as session:
        await session.execute(insert(OUTBOX), outbox)
        await session.execute(insert(INBOX), inbox)
        await session.execute(insert(PARKED), parked)
    async with database.write() as session:
        await session.execute(text("ANALYZE"))


async def test_sqlite_has_one_file_only_we_can_read(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/data", "hl7-gateway", MetaData(), None)
    await database.open()
    assert database.path == tmp_path / "data" / "hl7-gateway.sqlite3"
    assert database.path.stat().st_mode & 0o077 == 0
    async with database.write() as session:
        found = {
            name: (await session.execute(text(f"PRAGMA {name}"))).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
        with pytest.raises(RuntimeError, match="inside"):
            async with database.write():
                pass
    await database.close()
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


async def test_sqlite_that_can_not_be_opened_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "test.sqlite3").write_bytes(b"this is no database" * 100)
    with pytest.raises(SuiteError) as caught:
        await Database(f"sqlite:///{tmp_path}", "test", MetaData(), None).open()
    assert caught.value.code == "database.unavailable"


def test_another_kind_of_database_is_refused() -> None:
    with pytest.raises(SuiteError) as caught:
        Database("mysql://localhost/x", "test", MetaData(), None)
    assert caught.value.code == "start.bad-setting"


async def test_postgresql_may_go_and_come_back(private_postgres: ProcessServer, migrations: Path) -> None:
    database = Database(postgres_url_of(private_postgres), "sync", METADATA, migrations)
    await database.open()
    async with database.write() as session:
        await session.execute(insert(NOTE).values(id=1))
    inside, stopped = asyncio.Event(), asyncio.Event()

    async def caught_in_the_middle() -> str:
        try:
            async with database.write() as session:
                await session.execute(insert(NOTE).values(id=2))
                inside.set()
                await stopped.wait()
                await session.execute(insert(NOTE).values(id=3))
        except SuiteError as error:
            return error.code
        return "committed"

    task = asyncio.create_task(caught_in_the_middle())
    await inside.wait()
    await asyncio.to_thread(private_postgres.stop)
    stopped.set()
    assert await task == "database.unavailable"
    for attempt in (database.ping(), count(database)):
        with pytest.raises(SuiteError) as caught:
            await attempt
        assert caught.value.code == "database.unavailable"
    await asyncio.to_thread(private_postgres.start)
    await database.ping()
    assert await count(database) == 1
    async with database.write() as session:
        await session.execute(insert(NOTE).values(id=2))
    assert await count(database) == 2
    await database.close()


async def test_a_deadlock_may_be_tried_again(new_database: NewDatabase, migrations: Path) -> None:
    database = new_database(METADATA, migrations)
    if database.dialect == "sqlite":
        pytest.skip("SQLite has one writer: there is no deadlock")
    await database.open()
    async with database.write() as session:
        await session.execute(insert(NOTE), [{"id": 1}, {"id": 2}])
    first, second = asyncio.Event(), asyncio.Event()

    async def lock(mine: asyncio.Event, other: asyncio.Event, ids: tuple[int, int]) -> str:
        try:
            async with database.write() as session:
                await session.execute(select(NOTE).where(NOTE.c.id == ids[0]).with_for_update())
                mine.set()
                await other.wait()
                await session.execute(select(NOTE).where(NOTE.c.id == ids[1]).with_for_update())
        except SuiteError as error:
            return error.code
        return "ok"

    outcomes = await asyncio.gather(lock(first, second, (1, 2)), lock(second, first, (2, 1)))
    await database.close()
    assert sorted(outcomes) == ["database.unavailable", "ok"]


async def test_a_cancelled_writer_leaves_no_lock(tmp_path: Path) -> None:
    """Cancelled at any moment, its first connection included, a writer gives the file back; the next is not refused."""

    async def write(database: Database) -> None:
        async with database.write() as session:
            await session.execute(text("CREATE TABLE IF NOT EXISTS t (x INTEGER)"))
            await session.execute(text("INSERT INTO t VALUES (1)"))

    for moment in range(80):
        database = Database(f"sqlite:///{tmp_path}", f"cancelled-{moment}", MetaData(), None)
        await database.open()
        writers = [asyncio.create_task(write(database)) for _ in range(2)]
        for _ in range(moment):  # hops to another thread, as the driver makes them
            await asyncio.to_thread(int)
        writers[0].cancel()
        await asyncio.gather(writers[0], return_exceptions=True)
        await writers[1]
        async with database.read() as session:
            assert (await session.execute(text("SELECT count(*) FROM t"))).scalar_one() in {1, 2}
        await database.close()


async def test_a_second_database_on_the_file_takes_no_lock_away(tmp_path: Path) -> None:
    """Opening the file again in one process must not let another process throw the live WAL away."""
    one, two = (Database(f"sqlite:///{tmp_path}", "locks", MetaData(), None) for _ in range(2))
    await one.open()
    async with one.write() as session:
        await session.execute(text("CREATE TABLE t (n INTEGER)"))
    await two.open()
    await other_process(one.path, "count(*)")
    async with one.write() as session:
        await session.execute(text("INSERT INTO t VALUES (1), (2), (3)"))
    assert await other_process(one.path, "count(*)") == "3"
    await one.close()
    await two.close()


async def other_process(path: Path, what: str) -> str:
    """Open the file, read from t, close it; in a process of its own."""
    code = (
        f"import sqlite3; c = sqlite3.connect({str(path)!r}); print(c.execute('select {what} from t').fetchone()[0]);"
        " c.close()"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode().strip()
