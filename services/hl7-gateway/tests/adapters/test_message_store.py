"""The catalogue of messages, on SQLite and PostgreSQL."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text, update

import hl7_gateway
from common.models.access import Role
from common.models.clock import FixedClock
from common.models.errors import SuiteError
from common.models.identifiers import type_id, uuid7
from common.runtime.authentication import Caller
from common.runtime.database import Database, schema_differences
from common.runtime.event_text import parse_event
from common.runtime.keyring import StaticKeyRing
from common.runtime.system import SystemIds
from common.runtime.tables import OUTBOX
from common.testing import OTHER_TENANT, TENANT
from hl7_gateway.adapters.memory_intake import MemoryIntake
from hl7_gateway.adapters.message_store import MESSAGE, MESSAGE_KEY, SqlMessageStore, search_statement
from hl7_gateway.adapters.tables import Base
from hl7_gateway.core.message import Header, MessageState, NewMessage, TakenMessage, milliseconds_of
from hl7_gateway.ports import MessageFilter

MIGRATIONS = Path(hl7_gateway.__file__).parent / "migrations"
CALLER = Caller(TENANT, "someone", frozenset({Role.SERVICE}))
INTEGRATION = type_id("int", uuid7(1_700_000_000_000, 1))


@pytest.fixture
def new(at: datetime) -> Callable[..., NewMessage]:
    def make(number: int, **changed: Any) -> NewMessage:
        header = Header("EPIC", "CLINIC", "20260301", f"ctl-{number}", "ADT", "A08", "2.5.1", "", "")
        made = NewMessage(
            id=type_id("msg", uuid7(milliseconds_of(at) + 1000 * number, number)),
            sequence=number,
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
            findings=(),
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
def intake() -> MemoryIntake:
    return MemoryIntake()


@pytest.fixture
def store(database: Database, intake: MemoryIntake, at: datetime) -> SqlMessageStore:
    return SqlMessageStore(database, intake, StaticKeyRing(), FixedClock(at), SystemIds(), "/hl7-gateway/test")


New = Callable[..., NewMessage]


async def test_what_is_there_already_stays_and_is_told_of_once(
    store: SqlMessageStore, database: Database, new: New
) -> None:
    await store.add([new(1), new(2)])
    await store.add([new(2), new(3)])
    await store.add([new(1), new(2), new(3)])
    async with database.read() as session:
        for table in (MESSAGE, OUTBOX):
            assert (await session.execute(select(func.count()).select_from(table))).scalar_one() == 3
    await database.close()
    with pytest.raises(SuiteError, match=r"database\.unavailable"):
        await store.add([new(9)])


async def test_bodies_come_from_the_intake_or_from_before_there_was_one(
    store: SqlMessageStore, intake: MemoryIntake, database: Database, new: New
) -> None:
    keys = await StaticKeyRing().tenant(TENANT)
    first, second = new(1, sequence=1), new(2, sequence=2)
    sealed = keys.seal(b"MSH one", record=first.id, field="body")
    await intake.save([TakenMessage(first.id, TENANT, INTEGRATION, "hl7-in", "peer", 0, "", sealed, b"k")])
    await store.add([first, second])
    old = keys.seal(b"MSH old", record=second.id, field="body")
    async with database.write() as session:
        await session.execute(update(MESSAGE).where(MESSAGE.c.id == second.id).values(sequence=None, sealed_body=old))
    found = await store.read_bodies(CALLER, [second.id, first.id])
    assert [(message.id, body) for message, body in found] == [(second.id, b"MSH old"), (first.id, b"MSH one")]
    assert (await store.read_body(CALLER, first.id, "complaint 17"))[1] == b"MSH one"


async def test_events_are_thin_and_lie_in_the_same_transaction(
    store: SqlMessageStore, database: Database, new: New
) -> None:
    rejected = new(
        2,
        state=MessageState.REJECTED,
        acknowledgment_code="AR",
        findings=("line-feeds", "hl7.type-unsupported"),
        rejection="hl7.type-unsupported",
    )
    await store.add([new(1, patient_key="p" * 26), rejected])
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
    await store.add([new(number) for number in range(25)])
    await store.add([new(50, tenant=OTHER_TENANT)])
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
    other = replace(new(4).header, application="LAB", facility="NORTH")
    await store.add(
        [
            new(1, patient_key="a" * 26, keys=(("visit", "v" * 26), ("order", "o" * 26))),
            new(2, state=MessageState.REJECTED, findings=("hl7.type-unsupported", {"code": "hl7.type-unsupported"})),
            new(3, keys=(("order", "o" * 26), ("order", "p" * 26))),
            new(4, channel="lab", header=other, connection_id="con_1"),
        ]
    )

    async def found(**filters: Any) -> list[str]:
        page = await store.search(TENANT, MessageFilter(**filters), None, 10)
        return [message.control_id for message in page.items]

    assert await found(control_id="ctl-2") == ["ctl-2"]
    assert await found(patient_keys=("a" * 26, "b" * 26)) == ["ctl-1"]
    assert await found(state="rejected") == ["ctl-2"]
    since = at + timedelta(seconds=2)
    assert await found(message_type="ADT", trigger_event="A08", after=since) == ["ctl-4", "ctl-3", "ctl-2"]
    assert await found(after=since, before=at + timedelta(seconds=4)) == ["ctl-3", "ctl-2"]
    assert await found(order_key="o" * 26) == ["ctl-3", "ctl-1"]
    assert await found(order_key="o" * 26, visit_key="v" * 26) == ["ctl-1"]
    assert await found(visit_key="o" * 26) == []
    assert await found(finding_code="hl7.type-unsupported") == ["ctl-2"]
    assert await found(application="LAB", facility="NORTH") == ["ctl-4"]
    assert await found(application="EPIC", facility="NORTH") == []
    assert await found(connection_id="con_1") == ["ctl-4"]
    assert await found(before=at + timedelta(seconds=2), integration_id=INTEGRATION, channel="hl7-in") == ["ctl-1"]
    assert await found(channel="other") == []


async def test_a_control_id_that_names_another_message_is_flagged(store: SqlMessageStore, new: New) -> None:
    used = new(1).header
    await store.add([new(1)])
    await store.add([new(2, header=used), new(3, header=used), new(4), new(5, header=replace(used, facility="NORTH"))])
    await store.add([new(6, header=replace(used, control_id="")), new(7, header=replace(used, control_id=""))])
    await store.add([new(8, header=used, tenant=OTHER_TENANT)])
    page = await store.search(TENANT, MessageFilter(finding_code="hl7.control-id-reused"), None, 10)
    assert [message.id for message in page.items] == [new(3).id, new(2).id]
    assert [message.findings for message in page.items] == [("hl7.control-id-reused",)] * 2
    others = await store.search(OTHER_TENANT, MessageFilter(), None, 10)
    assert [message.findings for message in others.items] == [()]


async def test_what_is_known_of_old_messages_is_deleted(
    store: SqlMessageStore, database: Database, new: New, at: datetime
) -> None:
    old = at - timedelta(days=3)
    ids = [type_id("msg", uuid7(milliseconds_of(old) + number, number)) for number in range(4)]
    await store.add(
        [new(1, id=ids[0], received_at=old, keys=(("visit", "v" * 26),)), new(2, id=ids[1], received_at=old)]
    )
    await store.add([new(3, id=ids[2], received_at=old, tenant=OTHER_TENANT), new(4, keys=(("visit", "v" * 26),))])
    assert await store.forget(4 * 24 * 3600.0) == 0
    deleted = []
    while count := await store.forget(24 * 3600.0):
        deleted.append(count)
    assert sorted(deleted) == [1, 2]
    async with database.read() as session:
        assert list((await session.execute(select(MESSAGE.c.id))).scalars()) == [new(4).id]
        assert list((await session.execute(select(MESSAGE_KEY.c.message_id))).scalars()) == [new(4).id]


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
        (MessageFilter(application="EPIC", facility="CLINIC"), "message_by_sender"),
        (MessageFilter(message_type="ADT", trigger_event="A08"), "message_by_type"),
        (MessageFilter(connection_id="con_1"), "message_by_connection"),
        (MessageFilter(state="rejected"), "message_rejected"),
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
