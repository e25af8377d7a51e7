"""The contract of `Intake`, on the fake and on both real ones; then what only the real ones have."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import hl7_gateway
from common.models.errors import SuiteError
from common.models.identifiers import type_id, uuid7
from common.runtime.database import Database, schema_differences
from common.runtime.system import SystemClock
from common.testing import TENANT
from hl7_gateway.adapters import sqlite_intake
from hl7_gateway.adapters.intake_tables import IntakeBase
from hl7_gateway.adapters.memory_intake import MemoryIntake
from hl7_gateway.adapters.postgres_intake import PostgresIntake
from hl7_gateway.adapters.sqlite_intake import SqliteIntake
from hl7_gateway.core.message import TakenMessage, milliseconds_of
from infrastructure.fixtures import postgres_url_of

MIGRATIONS = Path(hl7_gateway.__file__).parent / "migrations" / "intake"
INTEGRATION = type_id("int", uuid7(1_700_000_000_000, 1))
DAY_MS = 24 * 3600 * 1000


def taken(number: int, key: bytes | None = None, **changed: Any) -> TakenMessage:
    made = TakenMessage(
        id=type_id("msg", uuid7(1_700_000_000_000 + number, number)),
        tenant=TENANT,
        integration_id=INTEGRATION,
        channel="hl7-in",
        peer="127.0.0.1:1",
        received_ms=1_772_000_000_000 + number,
        rejection="",
        sealed_body=f"sealed {number}".encode(),
        duplicate_key=key or number.to_bytes(16, "big"),
        connection_id=f"con_{number}",
    )
    return made._replace(**changed)


async def opened_database(url: str) -> Database:
    database = Database(url, "hl7-intake", IntakeBase.metadata, MIGRATIONS)
    await database.open()
    return database


@pytest.fixture
async def sqlite_database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await opened_database(f"sqlite:///{tmp_path}")
    yield database
    await database.close()


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def intake(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    if request.param == "memory":
        yield MemoryIntake()
        return
    url = f"sqlite:///{tmp_path}" if request.param == "sqlite" else request.getfixturevalue("postgres_database")
    database = await opened_database(url)
    clock = SystemClock()
    kept = SqliteIntake(database.path, clock) if request.param == "sqlite" else PostgresIntake(database, clock)
    await kept.open()
    yield kept
    await kept.close()
    await database.close()


async def forgotten(intake: Any, kept_s: float, bytes_max: int = 0) -> int:
    count = 0
    while deleted := await intake.forget_bodies(kept_s, bytes_max):
        count += deleted
    return count


async def test_old_bodies_are_deleted_once_they_are_catalogued(intake: Any) -> None:
    now_ms = milliseconds_of(SystemClock().now())
    old = [taken(number, received_ms=now_ms - 3 * DAY_MS) for number in range(1, 6)]
    fresh = [taken(number, received_ms=now_ms) for number in range(6, 9)]
    await intake.save([*old, *fresh])
    waiting = await intake.waiting(100)
    assert await forgotten(intake, DAY_MS / 1000) == 0
    await intake.catalogued([message.sequence for message in waiting[:4]])
    assert await forgotten(intake, DAY_MS / 1000) == 4
    await intake.catalogued([message.sequence for message in waiting[4:]])
    assert await forgotten(intake, 4 * DAY_MS / 1000) == 0
    assert await forgotten(intake, DAY_MS / 1000) == 1
    kept = await intake.bodies([message.sequence for message in waiting])
    assert sorted(kept.values()) == [message.sealed_body for message in fresh]
    await intake.save([taken(9)])
    assert (await intake.waiting(10))[0].sequence > waiting[-1].sequence


async def test_bodies_of_a_practice_are_erased_whatever_their_age(intake: Any) -> None:
    await intake.save([taken(number) for number in range(1, 6)])
    places = [message.sequence for message in await intake.waiting(100)]
    await intake.catalogued(places)
    for _ in range(2):
        await intake.erase_bodies([places[0], places[2]])
        await intake.erase_bodies([])
    assert sorted(await intake.bodies(places)) == [places[1], places[3], places[4]]
    await intake.save([taken(9)])
    assert [message.sequence > places[-1] for message in await intake.waiting(10)] == [True]


async def test_the_oldest_bodies_go_first_when_all_take_too_much(intake: Any) -> None:
    now_ms = milliseconds_of(SystemClock().now())
    big = b"x" * 10_000
    for start in range(0, 1_200, 300):
        messages = [taken(number, received_ms=now_ms, sealed_body=big) for number in range(start, start + 300)]
        await intake.save(messages)
    waiting = await intake.waiting(1_200)
    await intake.catalogued([message.sequence for message in waiting])
    assert await forgotten(intake, DAY_MS / 1000, bytes_max=100_000_000) == 0
    gone = await forgotten(intake, DAY_MS / 1000, bytes_max=6_000_000)
    kept = await intake.bodies([message.sequence for message in waiting])
    assert 600 <= gone == 1_200 - len(kept) <= 1_200
    assert all(message.sequence not in kept for message in waiting[:gone])


async def test_nothing_of_a_repetition_is_stored_and_the_first_ones_receipt_is_told(intake: Any) -> None:
    first, second = taken(1), taken(2)
    assert dict(await intake.save([first, second])) == {}
    again, fresh = taken(3, key=first.duplicate_key), taken(4)
    twice = taken(5, key=fresh.duplicate_key)
    told = await intake.save([again, fresh, twice])
    assert {message_id: receipt.message_id for message_id, receipt in told.items()} == {
        again.id: first.id,
        twice.id: fresh.id,
    }
    assert milliseconds_of(told[again.id].received_at) == first.received_ms
    assert [message.id for message in await intake.waiting(10)] == [first.id, second.id, fresh.id]
    await intake.catalogued([message.sequence for message in await intake.waiting(10)])
    assert list(await intake.save([taken(6, key=second.duplicate_key)])) == [taken(6).id]
    assert await intake.waiting(10) == []


async def test_messages_wait_in_the_order_they_were_stored_until_they_are_catalogued(intake: Any) -> None:
    for start in range(0, 30, 10):
        await intake.save([taken(number) for number in range(start, start + 10)])
    some = await intake.waiting(12)
    assert [message.id for message in some] == [taken(number).id for number in range(12)]
    assert [one.sequence for one in some] == sorted(one.sequence for one in some)
    assert some[3][1:] == (*taken(3)[:8], taken(3).connection_id)
    assert await intake.waiting(12) == some
    await intake.catalogued([message.sequence for message in some])
    rest = await intake.waiting(100)
    assert [message.id for message in rest] == [taken(number).id for number in range(12, 30)]
    assert await intake.bodies([some[0].sequence, rest[0].sequence, 10_000]) == {
        some[0].sequence: b"sealed 0",
        rest[0].sequence: b"sealed 12",
    }


async def test_a_rejected_message_is_stored_as_such(intake: Any) -> None:
    await intake.save([taken(1, rejection="hl7.type-unsupported", peer="[::1]:5")])
    (waiting,) = await intake.waiting(5)
    assert (waiting.rejection, waiting.peer) == ("hl7.type-unsupported", "[::1]:5")


async def test_old_repetitions_are_forgotten_and_bodies_kept(intake: Any) -> None:
    now = milliseconds_of(SystemClock().now())
    old = [taken(number, received_ms=now - 8 * DAY_MS) for number in range(3)]
    await intake.save([*old, taken(10, received_ms=now)])
    waiting = await intake.waiting(10)
    await intake.catalogued([message.sequence for message in waiting])
    assert await intake.forget_seen(7 * 24 * 3600.0) == 3
    assert await intake.forget_seen(7 * 24 * 3600.0) == 0
    assert len(await intake.bodies([message.sequence for message in waiting])) == 4
    told = await intake.save([taken(20, key=old[0].duplicate_key), taken(21, key=taken(10).duplicate_key)])
    assert list(told) == [taken(21).id]


@pytest.mark.postgres
async def test_the_same_message_at_once_on_two_replicas_is_stored_once(postgres_database: str) -> None:
    database = await opened_database(postgres_database)
    try:
        one, other = PostgresIntake(database, SystemClock()), PostgresIntake(database, SystemClock())
        pairs = [(taken(number), taken(number + 100, key=taken(number).duplicate_key)) for number in range(30)]
        told = await asyncio.gather(
            one.save([pair[0] for pair in pairs]), other.save([pair[1] for pair in reversed(pairs)])
        )
        assert len(told[0]) + len(told[1]) == 30
        assert len(await one.waiting(100)) == 30
        await one.close()
        await other.close()
    finally:
        await database.close()


async def test_migrations_and_tables_agree(sqlite_database: Database) -> None:
    async with sqlite_database.write() as session:
        connection = await session.connection()
        assert await connection.run_sync(schema_differences, IntakeBase.metadata) == []


@pytest.mark.postgres
async def test_migrations_and_tables_agree_on_postgresql(postgres_database: str) -> None:
    database = await opened_database(postgres_database)
    async with database.write() as session:
        connection = await session.connection()
        assert await connection.run_sync(schema_differences, IntakeBase.metadata) == []
    await database.close()


@pytest.mark.parametrize("catalogued", [0, 4, 10])
async def test_what_recognises_messages_is_there_after_a_crash(sqlite_database: Database, catalogued: int) -> None:
    intake = SqliteIntake(sqlite_database.path, SystemClock())
    await intake.open()
    await intake.save([taken(number) for number in range(10)])
    await intake.catalogued([message.sequence for message in await intake.waiting(catalogued or 1)][:catalogued])
    # No close: nothing of what is in memory is written any more. A dead process holds no lock either.
    assert intake._lock is not None
    intake._lock.close()
    after = SqliteIntake(sqlite_database.path, SystemClock())
    await after.open()
    told = await after.save([taken(number + 50, key=taken(number).duplicate_key) for number in range(10)])
    assert {message_id: receipt.message_id for message_id, receipt in told.items()} == {
        taken(number + 50).id: taken(number).id for number in range(10)
    }
    assert len(await after.waiting(100)) == 10 - catalogued
    await after.save([taken(200)])
    assert (await after.waiting(100))[-1].id == taken(200).id
    await after.close()
    await intake.close()


async def test_keys_beyond_what_memory_may_hold_are_written(sqlite_database: Database) -> None:
    intake = SqliteIntake(sqlite_database.path, SystemClock(), recent_keys_max=20)
    await intake.open()
    for start in range(0, 100, 10):
        await intake.save([taken(number) for number in range(start, start + 10)])
    assert len(intake._recent) <= 20 + 10
    told = await intake.save([taken(number + 500, key=taken(number).duplicate_key) for number in range(100)])
    assert len(told) == 100
    assert len(await intake.waiting(1000)) == 100
    await intake.close()


async def test_a_file_that_is_taken_away_is_said_and_found_again(sqlite_database: Database) -> None:
    intake = SqliteIntake(sqlite_database.path, SystemClock())
    await intake.open()
    await intake.save([taken(1)])
    with sqlite3.connect(sqlite_database.path, isolation_level=None) as other:
        other.execute("ALTER TABLE body RENAME TO elsewhere")
        with pytest.raises(SuiteError, match=r"database\.unavailable"):
            await intake.save([taken(2)])
        other.execute("ALTER TABLE elsewhere RENAME TO body")
    other.close()
    assert dict(await intake.save([taken(2)])) == {}
    assert [message.id for message in await intake.waiting(5)] == [taken(1).id, taken(2).id]
    await intake.close()
    with pytest.raises(SuiteError, match=r"database\.unavailable"):
        await intake.save([taken(3)])


async def test_a_full_disk_is_said_and_nothing_is_half_stored(sqlite_database: Database) -> None:
    intake = SqliteIntake(sqlite_database.path, SystemClock())
    await intake.open()
    await intake.save([taken(0)])
    assert intake._connection is not None
    intake._connection.execute("PRAGMA max_page_count = 1")  # SQLITE_FULL, as when the disk is
    with pytest.raises(SuiteError, match=r"database\.unavailable"):
        await intake.save([taken(number, sealed_body=os.urandom(100_000)) for number in range(1, 5)])
    assert dict(await intake.save([taken(9)])) == {}  # a new connection: the limit was the old one's
    assert [message.id for message in await intake.waiting(10)] == [taken(0).id, taken(9).id]
    await intake.close()


async def test_a_file_has_one_owner(sqlite_database: Database) -> None:
    first, second = (SqliteIntake(sqlite_database.path, SystemClock()) for _ in range(2))
    await first.open()
    with pytest.raises(SuiteError, match=r"start\.data-in-use: .*hl7-intake"):
        await second.open()
    await first.save([taken(1)])
    await first.close()
    await second.open()
    assert len(await second.waiting(5)) == 1
    await second.close()


def test_the_sizes_of_a_batch_fit_a_statement() -> None:
    connection = sqlite3.connect(":memory:")
    variables = connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
    connection.close()
    assert variables >= sqlite_intake.BATCH_MESSAGES_MAX * 10


Message = Callable[..., bytes]


@pytest.mark.postgres
@pytest.mark.parametrize("going", ["stop", "kill"])
async def test_a_database_that_goes_and_comes_back(
    private_postgres: Any, running_gateway: Any, message: Message, going: str
) -> None:
    database = await opened_database(postgres_url_of(private_postgres))
    intake = PostgresIntake(database, SystemClock())
    try:
        async with running_gateway(intake) as gateway:
            client = await gateway.client()
            await client.send(message("before"))
            assert await client.code() == ("AA", "before")
            await asyncio.to_thread(getattr(private_postgres, going))
            assert not private_postgres.running
            await client.send(message("gone"))
            assert await client.code() == ("AE", "gone")  # the client waits 5 s at most
            await asyncio.to_thread(private_postgres.start)
            async with asyncio.timeout(30):
                code = "AE"
                while code != "AA":
                    await client.send(message("gone"))
                    code, _ = await client.code()
            assert len(await intake.waiting(10)) == 2
    finally:
        await intake.close()
        await database.close()
