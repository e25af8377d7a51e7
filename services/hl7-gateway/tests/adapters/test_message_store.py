"""The contract of `MessageStore`, on the fake and on the real one; then what only the real one has."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text

import hl7_gateway
from common.models.clock import FixedClock
from common.models.errors import SuiteError
from common.models.identifiers import type_id, uuid7
from common.runtime.database import Database, schema_differences
from common.runtime.event_text import parse_event
from common.runtime.keyring import StaticKeyRing
from common.runtime.system import SystemClock, SystemIds
from common.runtime.tables import OUTBOX
from common.testing import OTHER_TENANT, TENANT
from hl7_gateway.adapters.memory_store import MemoryStore
from hl7_gateway.adapters.message_store import MESSAGE, SEEN, SqlMessageStore, search_statement
from hl7_gateway.adapters.tables import Base
from hl7_gateway.core.message import Header, MessageState, NewMessage
from hl7_gateway.ports import MessageFilter
from infrastructure.fixtures import postgres_url_of

MIGRATIONS = Path(hl7_gateway.__file__).parent / "migrations"
INTEGRATION = type_id("int", uuid7(1_700_000_000_000, 1))


@pytest.fixture
def new(at: datetime) -> Callable[..., NewMessage]:
    def make(number: int, key: bytes | None = None, **changed: Any) -> NewMessage:
        header = Header("EPIC", "CLINIC", "20260301", f"ctl-{number}", "ADT", "A08", "2.5.1", "", "")
        made = NewMessage(
            id=type_id("msg", uuid7(1_700_000_000_000 + number, number)),
            tenant=TENANT,
            integration_id=INTEGRATION,
            channel="hl7-in",
            peer="127.0.0.1:1",
            header=header,
            patient_key=None,
            received_at=at + timedelta(seconds=number),
            state=MessageState.RECEIVED,
            acknowledgment_code="AA",
            size_bytes=3,
            sealed_body=b"abc",
            findings=(),
            duplicate_key=key or f"key-{number}".encode(),
            traceparent=f"00-{number + 1:032x}-{1:016x}-01",
        )
        return replace(made, **changed)

    return make


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    url = f"sqlite:///{tmp_path}" if request.param == "sqlite" else request.getfixturevalue("postgres_database")
    opened = Database(url, "hl7-gateway", Base.metadata, MIGRATIONS)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def store(database: Database, at: datetime) -> SqlMessageStore:
    return SqlMessageStore(database, StaticKeyRing(), FixedClock(at), SystemIds(), "/hl7-gateway/test")


New = Callable[..., NewMessage]


async def expect_repetitions_to_be_told(store: Any, new: New) -> None:
    """The contract: nothing of a repetition is stored, and the first one's receipt comes back."""
    first, second = new(1), new(2)
    assert dict(await store.save([first, second])) == {}
    again = new(3, key=first.duplicate_key)
    fresh = new(4)
    twice = new(5, key=fresh.duplicate_key)
    told = await store.save([again, fresh, twice])
    assert {message_id: receipt.message_id for message_id, receipt in told.items()} == {
        again.id: first.id,
        twice.id: fresh.id,
    }
    assert told[again.id].received_at == first.received_at
    assert told[again.id].state is MessageState.RECEIVED
    assert dict(await store.save([new(6, key=second.duplicate_key)])) != {}


async def test_the_fake_keeps_the_contract(new: New) -> None:
    store = MemoryStore()
    await expect_repetitions_to_be_told(store, new)
    assert len(store.messages) == 3
    store.away = True
    with pytest.raises(SuiteError, match=r"database\.unavailable"):
        await store.save([new(9)])


async def test_the_database_keeps_the_contract(store: SqlMessageStore, database: Database, new: New) -> None:
    await expect_repetitions_to_be_told(store, new)
    async with database.read() as session:
        for table in (MESSAGE, SEEN, OUTBOX):
            assert (await session.execute(select(func.count()).select_from(table))).scalar_one() == 3
    await database.close()
    with pytest.raises(SuiteError, match=r"database\.unavailable"):
        await store.save([new(9)])


async def test_the_same_message_at_once_from_two_sides_is_stored_once(
    store: SqlMessageStore, database: Database, new: New
) -> None:
    pairs = [(new(number), new(number + 100, key=new(number).duplicate_key)) for number in range(30)]
    one, other = await asyncio.gather(
        store.save([pair[0] for pair in pairs]), store.save([pair[1] for pair in reversed(pairs)])
    )
    assert len(one) + len(other) == 30
    async with database.read() as session:
        assert (await session.execute(select(func.count()).select_from(MESSAGE))).scalar_one() == 30


async def test_events_are_thin_and_lie_in_the_same_transaction(
    store: SqlMessageStore, database: Database, new: New
) -> None:
    rejected = new(
        2, state=MessageState.REJECTED, acknowledgment_code="AR", findings=("line-feeds", "hl7.type-unsupported")
    )
    await store.save([new(1, patient_key="p" * 26), rejected])
    async with database.read() as session:
        rows = (await session.execute(select(OUTBOX.c.event).order_by(OUTBOX.c.id))).scalars()
        received, refused = [parse_event(row) for row in rows]
    assert (received.topic, received.key, received.subject) == ("ps.hl7.received.v1", "p" * 26, new(1).id)
    assert received.traceparent == new(1).traceparent
    assert received.data["patient_key"] == "p" * 26
    assert (refused.topic, refused.key, refused.data["error_code"]) == (
        "ps.hl7.rejected.v1",
        INTEGRATION,
        "hl7.type-unsupported",
    )


async def test_search_pages_newest_first(store: SqlMessageStore, new: New) -> None:
    await store.save([new(number) for number in range(25)])
    await store.save([new(50, tenant=OTHER_TENANT)])
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = await store.search(TENANT, MessageFilter(), cursor, 10)
        seen += [message.control_id for message in page.items]
        cursor = page.next
        if cursor is None:
            break
    assert seen == [f"ctl-{number}" for number in reversed(range(25))]
    with pytest.raises(SuiteError, match=r"request\.bad-cursor"):
        await store.search(TENANT, MessageFilter(), "nonsense", 10)


async def test_every_filter_holds(store: SqlMessageStore, new: New, at: datetime) -> None:
    await store.save(
        [new(1, patient_key="a" * 26), new(2, state=MessageState.REJECTED, findings=("hl7.type-unsupported",)), new(3)]
    )

    async def found(**filters: Any) -> list[str]:
        page = await store.search(TENANT, MessageFilter(**filters), None, 10)
        return [message.control_id for message in page.items]

    assert await found(control_id="ctl-2") == ["ctl-2"]
    assert await found(patient_keys=("a" * 26, "b" * 26)) == ["ctl-1"]
    assert await found(state="rejected") == ["ctl-2"]
    assert await found(message_type="ADT", trigger_event="A08", after=at + timedelta(seconds=2)) == ["ctl-3", "ctl-2"]
    assert await found(before=at + timedelta(seconds=2), integration_id=INTEGRATION, channel="hl7-in") == ["ctl-1"]
    assert await found(channel="other") == []


async def test_old_repetitions_are_forgotten_and_messages_kept(
    store: SqlMessageStore, database: Database, new: New, at: datetime
) -> None:
    await store.save([new(number, received_at=at - timedelta(days=8)) for number in range(3)])
    await store.save([new(10)])
    assert await store.forget_seen(7 * 24 * 3600.0) == 3
    async with database.read() as session:
        assert (await session.execute(select(func.count()).select_from(SEEN))).scalar_one() == 1
        assert (await session.execute(select(func.count()).select_from(MESSAGE))).scalar_one() == 4


async def test_migrations_and_tables_agree(database: Database) -> None:
    async with database.write() as session:
        connection = await session.connection()
        assert await connection.run_sync(schema_differences, Base.metadata) == []


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (MessageFilter(control_id="x"), "message_by_control_id"),
        (MessageFilter(patient_keys=("x",)), "message_by_patient"),
        (MessageFilter(), "sqlite_autoindex_message_1"),
    ],
)
async def test_searches_use_their_index(tmp_path: Path, wanted: MessageFilter, index: str) -> None:
    database = Database(f"sqlite:///{tmp_path}", "hl7-gateway", Base.metadata, MIGRATIONS)
    await database.open()
    try:
        async with database.read() as session:
            compiled = (
                search_statement(TENANT, wanted)
                .limit(10)
                .compile((await session.connection()).engine, compile_kwargs={"literal_binds": True})
            )
            plan = " ".join(str(row[-1]) for row in await session.execute(text(f"EXPLAIN QUERY PLAN {compiled}")))
    finally:
        await database.close()
    assert index in plan
    assert "TEMP B-TREE" not in plan


@pytest.mark.postgres
@pytest.mark.parametrize("going", ["stop", "kill"])
async def test_a_database_that_goes_and_comes_back(
    private_postgres: Any, running_gateway: Any, message: Callable[..., bytes], going: str
) -> None:
    database = Database(postgres_url_of(private_postgres), "hl7-gateway", Base.metadata, MIGRATIONS)
    await database.open()
    store = SqlMessageStore(database, StaticKeyRing(), SystemClock(), SystemIds(), "/hl7-gateway/test")
    try:
        async with running_gateway(store) as gateway:
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
            assert len((await store.search(TENANT, MessageFilter(control_id="gone"), None, 5)).items) == 1
    finally:
        await database.close()
