"""Queues of outbound messages, in both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text

import hl7_gateway
from common.models.access import Role
from common.models.clock import FixedClock
from common.models.errors import SuiteError
from common.models.identifiers import type_id, uuid7
from common.runtime import audit
from common.runtime.authentication import Caller
from common.runtime.database import Database
from common.runtime.event_text import parse_event
from common.runtime.keyring import StaticKeyRing
from common.runtime.leases import Lease, Leases
from common.runtime.system import SystemIds
from common.runtime.tables import OUTBOX
from common.testing import OTHER_TENANT, TENANT
from hl7_gateway.adapters.connection_store import SqlConnectionStore
from hl7_gateway.adapters.outbound_store import COUNTER, MESSAGE, SqlOutboundStore, outbound_search, read_statement
from hl7_gateway.adapters.tables import Base
from hl7_gateway.core.connection_configuration import Connection, ConnectionDocument, ConnectionState, TlsMaterial
from hl7_gateway.core.delivery import ERROR, REJECTED, End, Settlement, State, Write, lease_name
from hl7_gateway.core.outbound_message import NewOutbound
from hl7_gateway.core.outbound_window import Candidate, Fetch, FetchKey
from hl7_gateway.ports import OutboundFilter

MIGRATIONS = Path(hl7_gateway.__file__).parent / "migrations"
CALLER = Caller(TENANT, "ann", frozenset({Role.OPERATOR}))
BENCH_ID = type_id("con", uuid7(1_700_000_000_001, 1))
INTEGRATION = type_id("int", uuid7(1_700_000_000_000, 1))


def connection_of(at: datetime, number: int = 1, tenant: str = TENANT, **sending: Any) -> Connection:
    document = {
        "name": f"Out {number}",
        "direction": "sender",
        "integration_id": INTEGRATION,
        "host": "127.0.0.1",
        "port": 6000,
        "sending": sending,
    }
    return Connection(
        id=type_id("con", uuid7(1_700_000_000_000 + number, number)),
        tenant=tenant,
        state=ConnectionState.ACTIVE,
        version=1,
        configuration=ConnectionDocument.model_validate(document).completed(),
        tls_facts={},
        author="ann",
        reason="created",
        created_at=at,
        updated_at=at,
    )


@dataclass
class Bench:
    """A store, its clock, one connection and the lease on it."""

    database: Database
    clock: FixedClock
    leases: Leases
    connections: SqlConnectionStore
    store: SqlOutboundStore
    connection: Connection
    lease: Lease
    number: int = 0

    async def put(self, *keys: str, connection: Connection | None = None, **changed: Any) -> list[str]:
        """Queue a message per key; their ids."""
        connection = connection or self.connection
        keyring = await StaticKeyRing().tenant(connection.tenant)
        made = []
        for key in keys:
            self.number += 1
            message_id = type_id("obm", uuid7(1_700_000_000_000 + self.number, self.number))
            new = NewOutbound(
                id=message_id,
                order_key=key,
                patient_key=None,
                control_id=f"ctl-{self.number}",
                message_type="ADT",
                trigger_event="A08",
                size_bytes=4,
                sealed_body=keyring.seal(f"body {self.number}".encode(), record=message_id, field="outbound"),
                traceparent="",
            )
            made.append(replace(new, **changed))
        await self.store.enqueue(connection, made)
        return [one.id for one in made]

    async def queued(self) -> list[Candidate]:
        return list(await self.store.read(self.connection, Fetch(0, 1000)))

    async def write(
        self, *settlements: Settlement, begin: tuple[Candidate, ...] = (), **counted: int
    ) -> dict[str, bytes]:
        return dict(await self.store.write(self.lease, self.connection, Write(settlements, begin), counted))

    async def begun(self, key: str) -> Candidate:
        """The first queued message of a key, in flight."""
        candidate = next(one for one in await self.queued() if one.key == key)
        assert list(await self.write(begin=(candidate,))) == [candidate.id]
        return candidate

    async def states(self) -> dict[str, str]:
        page = await self.store.search(TENANT, OutboundFilter(), None, 100)
        return {message.control_id: message.state.value for message in page.items}


def end(candidate: Candidate, state: State, **changed: Any) -> Settlement:
    """How a try of a candidate ended, as the core says it."""
    how = {State.DELIVERED: (End.DELIVERED, "AA", None), State.PARKED: (End.REFUSED, "AR", REJECTED)}
    outcome, code, error = how.get(state, (End.REFUSED, "AE", ERROR))
    tried = replace(candidate, attempts=candidate.attempts + 1)
    made = Settlement(tried, outcome, state, 1.0, 3.0, acknowledgment_code=code, error_code=error)
    return replace(made, **changed)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    url = f"sqlite:///{tmp_path}" if request.param == "sqlite" else request.getfixturevalue("postgres_database")
    opened = Database(url, "hl7-gateway", Base.metadata, MIGRATIONS)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def make(database: Database, at: datetime) -> Callable[..., Any]:
    async def made(**sending: Any) -> Bench:
        clock = FixedClock(at)
        leases = Leases(database, clock, SystemIds())
        connections = SqlConnectionStore(database, StaticKeyRing(), clock)
        source = "/hl7-gateway/test"
        store = SqlOutboundStore(database, leases, StaticKeyRing(), clock, SystemIds(), source, "rep_test")
        connection = connection_of(at, **sending)
        await connections.add(CALLER, connection, TlsMaterial())
        lease = await leases.acquire(lease_name(BENCH_ID), owner="me", ttl_s=60.0)
        assert lease is not None
        return Bench(database, clock, leases, connections, store, connection, lease)

    return made


async def test_what_is_queued_is_read_in_order_and_by_key(make: Any) -> None:
    bench = await make()
    await bench.put("a", "b", "a")
    await bench.put("a")
    found = await bench.queued()
    assert [(one.key, one.control_id) for one in found] == [
        ("a", "ctl-1"),
        ("b", "ctl-2"),
        ("a", "ctl-3"),
        ("a", "ctl-4"),
    ]
    place = found[0].sequence
    read = bench.store.read
    assert [one.control_id for one in await read(bench.connection, Fetch(place, 2))] == ["ctl-2", "ctl-3"]
    assert [one.key for one in await read(bench.connection, Fetch(0, 10, ("a",)))] == ["b"]
    one_key = FetchKey("a", place, found[2].sequence, 10)
    assert [one.control_id for one in await read(bench.connection, one_key)] == ["ctl-3"]


async def test_a_message_is_begun_delivered_counted_and_told(make: Any, at: datetime) -> None:
    bench = await make()
    (message_id,) = await bench.put("a", patient_key="p" * 26)
    (candidate,) = await bench.queued()
    assert await bench.write(begin=(candidate,)) == {message_id: b"body 1"}
    assert await bench.queued() == []
    assert await bench.write(end(candidate, State.DELIVERED), connects=1) == {}
    message, attempts = await bench.store.get(TENANT, message_id)
    assert (message.state, message.attempts, message.acknowledgment_code) == (State.DELIVERED, 1, "AA")
    assert message.settled_at == at
    assert [(one.number, one.outcome, one.ended_at - one.began_at) for one in attempts] == [
        (1, "delivered", timedelta(seconds=2))
    ]
    live = await bench.store.live(bench.connection)
    assert (live.depth, live.oldest_queued_at, live.owned) == (0, None, True)
    bench.clock.advance(120)
    assert not (await bench.store.live(bench.connection)).owned
    assert live.counters == {"queued": 1, "sent": 1, "delivered": 1, "acknowledged": 1, "connects": 1}
    async with bench.database.read() as session:
        (row,) = (await session.execute(select(OUTBOX.c.event))).scalars()
    event = parse_event(row)
    assert (event.topic, event.key, event.subject) == ("ps.hl7.delivery.v1", "p" * 26, message_id)
    assert (event.data["state"], event.data["channel"], event.data["attempt"]) == ("delivered", "hl7-out", 1)


async def test_the_same_write_twice_counts_once(make: Any) -> None:
    bench = await make()
    await bench.put("a", "b")
    first, second = await bench.queued()
    await bench.write(begin=(first,))
    for _ in range(2):
        bodies = await bench.write(end(first, State.DELIVERED), begin=(second,))
        assert list(bodies) == [second.id]
    live = await bench.store.live(bench.connection)
    assert (live.counters["delivered"], live.depth) == (1, 1)
    assert len((await bench.store.get(TENANT, first.id))[1]) == 1


async def test_nothing_is_begun_before_the_earlier_of_its_key(make: Any) -> None:
    bench = await make()
    await bench.put("a", "a", "b")
    first, second, other = await bench.queued()
    assert list(await bench.write(begin=(second, other))) == [other.id]
    assert await bench.states() == {"ctl-1": "queued", "ctl-2": "queued", "ctl-3": "in-flight"}
    await bench.write(begin=(first,))
    assert await bench.write(begin=(second,)) == {}
    assert list(await bench.write(end(first, State.DELIVERED), begin=(second,))) == [second.id]


async def test_what_waits_for_its_next_try_says_how_long(make: Any) -> None:
    bench = await make()
    await bench.put("a")
    candidate = await bench.begun("a")
    tried = replace(candidate, refusals=1)
    await bench.write(end(tried, State.QUEUED, delay_s=30.0))
    bench.clock.advance(10)
    (again,) = await bench.queued()
    assert (again.wait_s, again.attempts, again.refusals) == (20.0, 1, 1)
    bench.clock.advance(60)
    assert (await bench.queued())[0].wait_s == 0.0


async def test_a_parked_message_holds_its_key_until_it_is_retried(make: Any) -> None:
    bench = await make()
    (parked_id, *_) = await bench.put("a", "a", "b")
    candidate = await bench.begun("a")
    await bench.write(end(candidate, State.PARKED))
    await bench.put("a", "b")
    assert await bench.states() == {
        "ctl-1": "parked",
        "ctl-2": "held",
        "ctl-3": "queued",
        "ctl-4": "held",
        "ctl-5": "queued",
    }
    live = await bench.store.live(bench.connection)
    assert (live.parked, live.held, live.depth) == (1, 2, 5)
    released: list[str] = []
    bench.store.released.append(released.append)
    before = await bench.store.signals(bench.connection)
    message = await bench.store.retry(CALLER, parked_id, "receiver mended")
    assert (message.state, message.attempts, message.error_code) == (State.QUEUED, 1, REJECTED)
    assert set((await bench.states()).values()) == {"queued"}
    assert [one.control_id for one in await bench.queued()] == [f"ctl-{number}" for number in range(1, 6)]
    assert released == [bench.connection.id]
    assert (await bench.store.signals(bench.connection)).revision == before.revision + 1
    with pytest.raises(SuiteError, match=r"request\.conflict"):
        await bench.store.retry(CALLER, parked_id, "again")


async def test_a_discarded_message_lets_its_key_go_on(make: Any) -> None:
    bench = await make()
    first, second, _ = await bench.put("a", "a", "a")
    candidate = await bench.begun("a")
    with pytest.raises(SuiteError, match=r"request\.conflict"):
        await bench.store.discard(CALLER, first, "it is on its way")
    await bench.write(end(candidate, State.PARKED))
    assert (await bench.store.discard(CALLER, second, "not needed")).state is State.DISCARDED
    assert await bench.states() == {"ctl-1": "parked", "ctl-2": "discarded", "ctl-3": "held"}
    await bench.store.discard(CALLER, first, "wrong patient")
    assert await bench.states() == {"ctl-1": "discarded", "ctl-2": "discarded", "ctl-3": "queued"}
    assert (await bench.store.live(bench.connection)).depth == 1
    async with bench.database.read() as session:
        entries = (await audit.search(session, TENANT, {"action": "outbound.discarded"}, None, 10)).items
    assert [(entry["subject"], entry["reason"]) for entry in entries] == [
        (first, "wrong patient"),
        (second, "not needed"),
    ]
    with pytest.raises(SuiteError, match=r"request\.conflict"):
        await bench.store.discard(CALLER, first, "again")


async def test_parked_messages_are_retried_together_the_oldest_first(make: Any) -> None:
    bench = await make()
    await bench.put("a", "b", "c")
    for key in ("a", "b", "c"):
        await bench.write(end(await bench.begun(key), State.PARKED))
    assert await bench.store.retry_parked(CALLER, bench.connection, "mended", 2) == 2
    assert await bench.states() == {"ctl-1": "queued", "ctl-2": "queued", "ctl-3": "parked"}
    assert await bench.store.retry_parked(CALLER, bench.connection, "mended", 2) == 1
    assert await bench.store.retry_parked(CALLER, bench.connection, "mended", 2) == 0


async def test_a_later_message_goes_on_when_parked_ones_do_not_hold(make: Any) -> None:
    bench = await make(parked_holds_key=False)
    await bench.put("a", "a")
    first, second = await bench.queued()
    await bench.write(begin=(first,))
    assert list(await bench.write(end(first, State.PARKED), begin=(second,))) == [second.id]


async def test_a_queue_that_begins_to_hold_keys_holds_what_was_queued_before(make: Any, at: datetime) -> None:
    bench = await make(parked_holds_key=False)
    await bench.put("a", "a")
    first, second = await bench.queued()
    await bench.write(begin=(first,))
    await bench.write(end(first, State.PARKED))
    bench.connection = connection_of(at, parked_holds_key=True)
    assert await bench.write(begin=(second,)) == {}
    assert await bench.states() == {"ctl-1": "parked", "ctl-2": "held"}
    bench.connection = connection_of(at, parked_holds_key=False)
    await bench.store.recover(bench.lease, bench.connection)
    assert await bench.states() == {"ctl-1": "parked", "ctl-2": "queued"}


async def test_a_new_owner_takes_up_what_was_in_flight_and_the_old_one_writes_no_more(make: Any) -> None:
    bench = await make()
    await bench.put("a")
    candidate = await bench.begun("a")
    bench.clock.advance(120)
    newer = await bench.leases.acquire(lease_name(BENCH_ID), owner="other", ttl_s=60.0)
    await bench.store.recover(newer, bench.connection)
    with pytest.raises(SuiteError, match=r"lease\.lost"):
        await bench.write(end(candidate, State.DELIVERED))
    (again,) = await bench.queued()
    assert (again.attempts, again.refusals, again.silences) == (1, 0, 0)
    _, attempts = await bench.store.get(TENANT, again.id)
    assert [(one.number, one.outcome) for one in attempts] == [(1, "interrupted")]


async def test_what_was_begun_and_not_sent_is_given_back_without_a_try(make: Any) -> None:
    bench = await make()
    await bench.put("a")
    candidate = await bench.begun("a")
    await bench.write(Settlement(candidate, End.RETURNED, State.QUEUED, None, 3.0))
    (again,) = await bench.queued()
    assert (again.attempts, (await bench.store.get(TENANT, again.id))[1]) == (0, [])


async def test_a_body_that_cannot_be_opened_is_parked_and_the_others_go_on(make: Any) -> None:
    bench = await make(in_flight_max=2)
    broken, _, good = await bench.put("a", "a", "b")
    async with bench.database.write() as session:
        await session.execute(MESSAGE.update().where(MESSAGE.c.id == broken).values(sealed_body=b"nonsense"))
    first, _, other = await bench.queued()
    assert await bench.write(begin=(first, other)) == {good: b"body 3"}
    assert await bench.states() == {"ctl-1": "parked", "ctl-2": "held", "ctl-3": "in-flight"}
    assert (await bench.store.get(TENANT, broken))[0].error_code == "keys.cannot-open"


async def test_a_full_disabled_or_removed_queue_takes_nothing(make: Any) -> None:
    bench = await make(queue_messages_max=2)
    await bench.put("a", "b")
    with pytest.raises(SuiteError, match=r"connection\.queue-full"):
        await bench.put("a")
    assert (await bench.store.live(bench.connection)).depth == 2
    with pytest.raises(SuiteError, match=r"connection\.has-messages"):
        await bench.connections.remove(CALLER, bench.connection, "gone")
    disabled = replace(bench.connection, version=2, state=ConnectionState.DISABLED)
    await bench.connections.save(CALLER, bench.connection, disabled, None, "connection.disabled")
    with pytest.raises(SuiteError, match=r"connection\.not-sending"):
        await bench.put("a")
    for message_id in [one.id for one in await bench.queued()]:
        await bench.store.discard(CALLER, message_id, "not needed")
    await bench.connections.remove(CALLER, disabled, "gone")
    with pytest.raises(SuiteError, match=r"connection\.not-found"):
        await bench.put("a")


async def test_messages_become_visible_in_the_order_of_their_sequence(make: Any) -> None:
    """A reader's place only moves on: what it has passed must never appear behind it."""
    bench = await make()
    seen: list[int] = []

    async def reader() -> None:
        while len(seen) < 120:
            place = seen[-1] if seen else 0
            seen.extend(one.sequence for one in await bench.store.read(bench.connection, Fetch(place, 50)))
            await asyncio.sleep(0)

    async def writer() -> None:
        for _ in range(15):
            await bench.put("a", "b")

    async with asyncio.timeout(30):
        await asyncio.gather(reader(), *(writer() for _ in range(4)))
    async with bench.database.read() as session:
        stored = list((await session.execute(select(MESSAGE.c.sequence).order_by(MESSAGE.c.sequence))).scalars())
    assert seen == stored


async def test_who_queues_waits_for_whoever_does_so_before(make: Any) -> None:
    """A sequence is given out before its transaction commits: two at once could become visible the wrong way round."""
    bench = await make()
    await bench.put("a")
    row = select(COUNTER).where(COUNTER.c.connection_id == bench.connection.id, COUNTER.c.name == "queued")
    async with bench.database.write() as session:
        await session.execute(row.with_for_update())
        queueing = asyncio.create_task(bench.put("b"))
        done, _ = await asyncio.wait({queueing}, timeout=0.3)
        assert done == set()
        assert len(await bench.queued()) == 1
    await queueing
    assert len(await bench.queued()) == 2


async def test_search_by_every_filter_and_page(make: Any, at: datetime) -> None:
    bench = await make()
    other = connection_of(at, 2, OTHER_TENANT)
    await bench.connections.add(Caller(OTHER_TENANT, "eve", frozenset()), other, TlsMaterial())
    await bench.put("x", connection=other)
    ids = await bench.put("a", "b", "c")
    await bench.put("d", patient_key="p" * 26, message_type="ORU", trigger_event="R01")
    await bench.write(end(await bench.begun("b"), State.PARKED))

    async def found(**filters: Any) -> list[str]:
        page = await bench.store.search(TENANT, OutboundFilter(**filters), None, 10)
        return [message.control_id for message in page.items]

    assert await found() == ["ctl-5", "ctl-4", "ctl-3", "ctl-2"]
    assert await found(state="parked", connection_id=bench.connection.id) == ["ctl-3"]
    assert await found(error_code=REJECTED) == ["ctl-3"]
    assert await found(control_id="ctl-2") == ["ctl-2"]
    assert await found(message_type="ORU", trigger_event="R01", integration_id=INTEGRATION) == ["ctl-5"]
    assert await found(patient_keys=("p" * 26, "q" * 26)) == ["ctl-5"]
    assert await found(after=at + timedelta(seconds=1)) == []
    assert await found(before=at) == []
    page = await bench.store.search(TENANT, OutboundFilter(), None, 3)
    rest = await bench.store.search(TENANT, OutboundFilter(), page.next, 3)
    assert ([one.id for one in rest.items], rest.next) == ([ids[0]], None)
    with pytest.raises(SuiteError, match=r"outbound\.not-found"):
        await bench.store.get(OTHER_TENANT, ids[0])
    for action in (bench.store.retry, bench.store.discard):
        with pytest.raises(SuiteError, match=r"outbound\.not-found"):
            await action(Caller(OTHER_TENANT, "eve", frozenset()), ids[1], "mine")


async def test_the_link_is_shown_as_it_was_last_seen(make: Any, at: datetime) -> None:
    bench = await make()
    assert (await bench.store.live(bench.connection)).link is None
    await bench.store.note_link(bench.connection, "down", "peer.connect")
    await bench.store.note_link(bench.connection, "up", None)
    link = (await bench.store.live(bench.connection)).link
    assert (link["state"], link["code"], link["replica"], link["since"]) == ("up", None, "rep_test", at)


async def test_settled_messages_are_forgotten_after_their_time(make: Any) -> None:
    bench = await make()
    await bench.put("a", "b")
    await bench.write(end(await bench.begun("a"), State.DELIVERED))
    bench.clock.advance(100)
    assert await bench.store.forget_settled(200.0) == 0
    assert await bench.store.forget_settled(50.0) == 1
    assert await bench.states() == {"ctl-2": "queued"}
    async with bench.database.read() as session:
        assert (await session.execute(text("SELECT count(*) FROM outbound_attempt"))).scalar_one() == 0
        assert (await session.execute(select(func.count()).select_from(MESSAGE))).scalar_one() == 1


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (read_statement("con_x", Fetch(5, 100, ("a",))), "outbound_next"),
        (read_statement("con_x", FetchKey("a", 5, 9, 100)), "outbound_of_key"),
        (outbound_search("ten_x", OutboundFilter(state="parked", connection_id="con_x")).limit(10), "outbound_stopped"),
        (outbound_search("ten_x", OutboundFilter(control_id="x")).limit(10), "outbound_by_control_id"),
        (outbound_search("ten_x", OutboundFilter(patient_keys=("x",))).limit(10), "outbound_by_patient"),
        (outbound_search("ten_x", OutboundFilter()).limit(10), "outbound_by_tenant"),
    ],
)
async def test_hot_statements_use_their_index(tmp_path: Path, statement: Any, index: str) -> None:
    database = Database(f"sqlite:///{tmp_path}", "hl7-gateway", Base.metadata, MIGRATIONS)
    await database.open()
    try:
        async with database.read() as session:
            engine = (await session.connection()).engine
            compiled = statement.compile(engine, compile_kwargs={"literal_binds": True})
            plan = " ".join(str(row[-1]) for row in await session.execute(text(f"EXPLAIN QUERY PLAN {compiled}")))
    finally:
        await database.close()
    assert index in plan
    assert "TEMP B-TREE" not in plan
