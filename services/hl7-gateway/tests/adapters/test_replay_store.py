"""Replays and edits in the database, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
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
from hl7_gateway.adapters.edit_store import SqlEditStore
from hl7_gateway.adapters.memory_intake import MemoryIntake
from hl7_gateway.adapters.message_store import SqlMessageStore
from hl7_gateway.adapters.outbound_store import MESSAGE as OUTBOUND
from hl7_gateway.adapters.outbound_store import SqlOutboundStore
from hl7_gateway.adapters.replay_store import REPLAY, SqlReplayStore, page_statement
from hl7_gateway.adapters.tables import Base
from hl7_gateway.core.connection_configuration import Connection, ConnectionDocument, ConnectionState, TlsMaterial
from hl7_gateway.core.delivery import REJECTED, End, Settlement, Write
from hl7_gateway.core.delivery import State as Sent
from hl7_gateway.core.edit import EditRecord
from hl7_gateway.core.message import Header, MessageState, NewMessage, TakenMessage
from hl7_gateway.core.outbound_message import NewOutbound
from hl7_gateway.core.outbound_window import Fetch
from hl7_gateway.core.replay import Replay, Sorted, State, Step, Target, sort_page
from hl7_gateway.ports import HandedTo, MessageFilter, OutboundFilter

MIGRATIONS = Path(hl7_gateway.__file__).parent / "migrations"
CALLER = Caller(TENANT, "ann", frozenset({Role.INTEGRATION_ADMIN}))
INTEGRATION = type_id("int", uuid7(1_700_000_000_000, 1))


@dataclass
class Bench:
    """Stores on one database, a clock, and the lease on the replays."""

    database: Database
    clock: FixedClock
    leases: Leases
    intake: MemoryIntake
    messages: SqlMessageStore
    connections: SqlConnectionStore
    outbound: SqlOutboundStore
    store: SqlReplayStore
    edits: SqlEditStore
    lease: Lease

    async def received(self, *numbers: int, body: bool = True, **changed: Any) -> list[NewMessage]:
        """Messages in the catalogue; the intake counts their places from 1."""
        keys = await StaticKeyRing().tenant(TENANT)
        made = []
        for number in numbers:
            message_id = type_id("msg", uuid7(1_700_000_000_000, 1_000 - number))  # later ones have smaller ids
            sealed = keys.seal(b"MSH", record=message_id, field="body")
            taken = TakenMessage(message_id, TENANT, INTEGRATION, "in", "p", 0, "", sealed, message_id.encode())
            await self.intake.save([taken])
            new = NewMessage(
                id=message_id,
                sequence=number if body else 10_000 + number,
                tenant=TENANT,
                integration_id=INTEGRATION,
                channel="in",
                peer="p",
                header=Header("EPIC", "CLINIC", "2026", f"ctl-{number}", "ADT", "A08", "2.5.1", "", ""),
                patient_key="p" * 26,
                received_at=self.clock.now() + timedelta(seconds=number),
                state=MessageState.RECEIVED,
                acknowledgment_code="AA",
                size_bytes=3,
                findings=(),
                traceparent="",
            )
            made.append(replace(new, **changed))
        await self.messages.add(made)
        return made

    async def replay(self, number: int = 1, **changed: Any) -> Replay:
        counted = await self.store.counted(TENANT, MessageFilter())
        now = self.clock.now()
        made = Replay(
            id=type_id("rpl", uuid7(1_700_000_000_000 + number, number)),
            tenant=TENANT,
            target=Target(),
            filter={},
            rate_per_s=10.0,
            state=State.RUNNING,
            total=counted.total,
            done=0,
            skipped={},
            cursor=0,
            up_to=counted.up_to,
            waiting_code=None,
            error_code=None,
            author="ann",
            reason="repair",
            created_at=now,
            updated_at=now,
        )
        made = replace(made, **changed)
        await self.store.add(CALLER, made, 100)
        return made

    async def hand_over(self, replay: Replay, limit: int = 100, lease: Lease | None = None) -> bool:
        page = await self.store.page(replay, limit)
        found = sort_page(page, replay.target)
        keys = HandedTo(keys={one.message.id: "key" for one in found.going})
        return await self.store.hand_over(lease or self.lease, replay, page, found, keys, 5)

    async def told(self) -> list[str]:
        """The control ids of replayed events, in the order of the outbox."""
        async with self.database.read() as session:
            rows = (await session.execute(select(OUTBOX.c.event).order_by(OUTBOX.c.id))).scalars()
            events = [event for event in map(parse_event, rows) if event.data.get("replay_id")]
        return [(await self.messages.get(TENANT, event.subject)).control_id for event in events]

    async def sender(self, at: datetime, **sending: Any) -> Connection:
        document = {
            "name": "Out",
            "direction": "sender",
            "integration_id": INTEGRATION,
            "host": "127.0.0.1",
            "port": 6000,
            "sending": sending,
        }
        connection = Connection(
            id=type_id("con", uuid7(1_700_000_000_000, 1)),
            tenant=TENANT,
            state=ConnectionState.ACTIVE,
            version=1,
            configuration=ConnectionDocument.model_validate(document).completed(),
            tls_facts={},
            author="ann",
            reason="created",
            created_at=at,
            updated_at=at,
        )
        await self.connections.add(CALLER, connection, TlsMaterial())
        return connection

    async def states(self) -> dict[str, str]:
        page = await self.outbound.search(TENANT, OutboundFilter(), None, 100)
        return {message.control_id: message.state.value for message in page.items}


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    url = f"sqlite:///{tmp_path}" if request.param == "sqlite" else request.getfixturevalue("postgres_database")
    opened = Database(url, "hl7-gateway", Base.metadata, MIGRATIONS)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def bench(database: Database, at: datetime) -> Bench:
    clock, ids, keys = FixedClock(at), SystemIds(), StaticKeyRing()
    leases, intake = Leases(database, clock, ids), MemoryIntake()
    messages = SqlMessageStore(database, intake, keys, clock, ids, "/x")
    outbound = SqlOutboundStore(database, leases, keys, clock, ids, "/x", "rep_x")
    store = SqlReplayStore(database, leases, messages, outbound, clock, ids, "/x", page_bytes_max=100)
    lease = await leases.acquire("hl7.replays", owner="a", ttl_s=60)
    assert lease is not None
    connections = SqlConnectionStore(database, keys, clock)
    edits = SqlEditStore(database, outbound)
    return Bench(database, clock, leases, intake, messages, connections, outbound, store, edits, lease)


def _outbound(number: int, key: str = "key", control_id: str = "") -> NewOutbound:
    message_id = type_id("obm", uuid7(1_700_000_000_000 + number, number))
    return NewOutbound(message_id, key, None, control_id or f"ctl-{number}", "ADT", "A08", 1, b"sealed", "")


async def test_messages_are_counted_by_type_with_the_first_and_the_last(bench: Bench) -> None:
    assert (await bench.store.counted(TENANT, MessageFilter())).total == 0
    first, *_, last = await bench.received(1, 2, 3)
    await bench.received(4, tenant=OTHER_TENANT)
    await bench.received(5, state=MessageState.REJECTED, rejection="hl7.type-unsupported")
    counted = await bench.store.counted(TENANT, MessageFilter(state="received"))
    assert (counted.total, counted.rejected, counted.up_to) == (3, 0, 3)
    assert counted.first is not None
    assert counted.last is not None
    assert (counted.first.id, counted.last.id) == (first.id, last.id)
    everything = await bench.store.counted(TENANT, MessageFilter())
    assert [row["count"] for row in everything.by_type()] == [3, 1]
    assert everything.rejected == 1


async def test_a_page_and_the_cursor_behind_it_are_one(bench: Bench) -> None:
    await bench.received(*range(1, 6))
    replay = await bench.replay()
    assert await bench.hand_over(replay, 2)
    assert not await bench.hand_over(replay, 2)  # an owner from before, that did not hear of its commit
    (replay,) = await bench.store.running(10)
    assert (replay.cursor, replay.done, replay.worked_ms) == (2, 2, 5)
    assert await bench.hand_over(replay)
    assert await bench.told() == ["ctl-1", "ctl-2", "ctl-3", "ctl-4", "ctl-5"]


async def test_who_lost_the_lease_hands_nothing_over(bench: Bench) -> None:
    await bench.received(1)
    replay = await bench.replay()
    bench.clock.advance(61)
    assert await bench.leases.acquire("hl7.replays", owner="b", ttl_s=60) is not None
    with pytest.raises(SuiteError, match=r"lease\.lost"):
        await bench.hand_over(replay)
    with pytest.raises(SuiteError, match=r"lease\.lost"):
        await bench.store.end(bench.lease, replay, Step.FINISH, None)
    assert await bench.told() == []
    assert (await bench.store.get(TENANT, replay.id)).cursor == 0


async def test_what_came_after_the_start_does_not_belong_to_it(bench: Bench) -> None:
    await bench.received(1, 2)
    replay = await bench.replay()
    await bench.received(3)
    assert await bench.hand_over(replay)
    (replay,) = await bench.store.running(10)
    assert await bench.store.page(replay, 10) == []
    await bench.store.end(bench.lease, replay, Step.FINISH, None)
    assert await bench.store.running(10) == []
    done = await bench.store.get(TENANT, replay.id)
    assert (done.state, done.remaining, done.ended_at) == (State.DONE, 0, bench.clock.now())


async def test_bodies_that_retention_took_are_skipped_and_counted(bench: Bench) -> None:
    await bench.received(1)
    await bench.received(2, body=False)
    replay = await bench.replay()
    assert await bench.hand_over(replay)
    after = await bench.store.get(TENANT, replay.id)
    assert (after.done, after.skipped, after.remaining) == (1, {"message.body-deleted": 1}, 0)
    gone = await bench.messages.get(TENANT, (await bench.received(3, body=False))[0].id)
    with pytest.raises(SuiteError, match=r"message\.body-deleted"):
        await bench.store.tell_again(CALLER, gone, "key", replay.id, "repair")


async def test_a_page_has_a_size(bench: Bench) -> None:
    await bench.received(1, 2, 3, size_bytes=60)
    replay = await bench.replay()
    assert len(await bench.store.page(replay, 10)) == 1
    assert len(await bench.store.page(replace(replay, cursor=3), 10)) == 0


async def test_a_replay_that_was_paused_meanwhile_hands_nothing_over(bench: Bench) -> None:
    await bench.received(1)
    replay = await bench.replay()
    paused = await bench.store.move(CALLER, replay.id, Step.PAUSE, "night")
    assert paused.state is State.PAUSED
    assert not await bench.hand_over(replay)
    await bench.store.wait(bench.lease, replay, "bus.unavailable")
    assert (await bench.store.get(TENANT, replay.id)).waiting_code is None
    with pytest.raises(SuiteError, match=r"replay\.not-found"):
        await bench.store.move(replace(CALLER, tenant=OTHER_TENANT), replay.id, Step.CANCEL, "theirs")
    async with bench.database.read() as session:
        page = await audit.search(session, TENANT, {}, None, 10)
    assert [entry["action"] for entry in page.items] == ["replay.paused", "replay.created"]


async def test_an_old_outbox_makes_it_wait(bench: Bench) -> None:
    await bench.received(1)
    replay = await bench.replay()
    bench.clock.advance(40)  # the event of the message itself was not published yet
    with pytest.raises(SuiteError, match=r"bus\.unavailable"):
        await bench.hand_over(replay)
    await bench.store.wait(bench.lease, replay, "bus.unavailable")
    waiting = await bench.store.get(TENANT, replay.id)
    assert (waiting.state, waiting.waiting_code, waiting.cursor) == (State.RUNNING, "bus.unavailable", 0)


async def test_only_so_many_are_not_ended(bench: Bench) -> None:
    await bench.received(1)
    replay = await bench.replay(1)
    other = replace(replay, id=type_id("rpl", uuid7(1_700_000_000_002, 2)))
    with pytest.raises(SuiteError, match=r"replay\.too-many"):
        await bench.store.add(CALLER, other, 1)
    await bench.store.move(CALLER, replay.id, Step.CANCEL, "enough")
    await bench.store.add(CALLER, other, 1)
    async with bench.database.read() as session:
        assert (await session.execute(select(func.count()).select_from(REPLAY))).scalar_one() == 2


async def test_two_starts_at_once_do_not_pass_the_limit(bench: Bench) -> None:
    await bench.received(1)
    replay = await bench.replay(1)
    others = [replace(replay, id=type_id("rpl", uuid7(1_700_000_000_002, number))) for number in range(2, 8)]
    results = await asyncio.gather(*(bench.store.add(CALLER, other, 2) for other in others), return_exceptions=True)
    assert sum(result is None for result in results) == 1


async def test_a_full_queue_moves_no_cursor(bench: Bench, at: datetime) -> None:
    connection = await bench.sender(at, queue_messages_max=1)
    await bench.received(1, 2)
    replay = await bench.replay(target=Target(connection.id))
    page = await bench.store.page(replay, 10)
    to = HandedTo(connection=connection, messages=[_outbound(1), _outbound(2)])
    with pytest.raises(SuiteError, match=r"connection\.queue-full"):
        await bench.store.hand_over(bench.lease, replay, page, Sorted(), to, 0)
    assert await bench.states() == {}
    one = HandedTo(connection=connection, messages=[_outbound(1)])
    assert await bench.store.hand_over(bench.lease, replay, page[:1], Sorted(), one, 0)
    assert await bench.states() == {"ctl-1": "queued"}
    assert (await bench.store.get(TENANT, replay.id)).cursor == 1


async def test_pages_use_their_index(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}", "hl7-gateway", Base.metadata, MIGRATIONS)
    await database.open()
    try:
        async with database.read() as session:
            compiled = (
                page_statement(TENANT, MessageFilter(message_type="ADT"), 5, 10)
                .limit(10)
                .compile((await session.connection()).engine, compile_kwargs={"literal_binds": True})
            )
            plan = " ".join(str(row[-1]) for row in await session.execute(text(f"EXPLAIN QUERY PLAN {compiled}")))
    finally:
        await database.close()
    assert "message_by_sequence" in plan
    assert "TEMP B-TREE" not in plan


async def _park(bench: Bench, connection: Connection, *messages: NewOutbound) -> Lease:
    """The first is parked, the others of its key are held behind it."""
    await bench.outbound.enqueue(connection, messages)
    lease = await bench.leases.acquire("sending", owner="a", ttl_s=600)
    assert lease is not None
    candidate = (await bench.outbound.read(connection, Fetch(0, 1)))[0]
    flown = replace(candidate, attempts=1)
    parked = Settlement(flown, End.REFUSED, Sent.PARKED, 0.0, 1.0, 0.0, "AR", REJECTED)
    async with bench.database.write() as session:
        in_flight = {"state": Sent.IN_FLIGHT.value}
        await session.execute(OUTBOUND.update().where(OUTBOUND.c.sequence == candidate.sequence).values(**in_flight))
    await bench.outbound.write(lease, connection, Write((parked,), ()), {})
    return lease


def _record(bench: Bench, new: NewOutbound, old: NewOutbound, connection: Connection) -> EditRecord:
    return EditRecord(new.id, TENANT, old.id, connection.id, ("PID-5",), "ann", "typo", bench.clock.now())


async def test_an_edited_message_takes_the_parked_ones_place(bench: Bench, at: datetime) -> None:
    connection = await bench.sender(at)
    old, behind, new = _outbound(1), _outbound(2), _outbound(3, control_id="better")
    await _park(bench, connection, old, behind)
    assert await bench.states() == {"ctl-1": "parked", "ctl-2": "held"}
    record = _record(bench, new, old, connection)
    await bench.edits.replace_parked(CALLER, record, connection, new)
    assert await bench.states() == {"ctl-1": "discarded", "better": "queued", "ctl-2": "queued"}
    queue = await bench.outbound.read(connection, Fetch(0, 10))
    assert [candidate.id for candidate in queue] == [new.id, behind.id]
    (_, tries), (_, none) = [await bench.outbound.get(TENANT, one.id) for one in (old, new)]
    assert ([one.error_code for one in tries], none) == ([REJECTED], [])
    live = await bench.outbound.live(connection)
    assert (live.depth, live.counters["queued"], live.counters["discarded"]) == (2, 3, 1)
    assert await bench.edits.of(TENANT, new.id) == (record, [])
    assert await bench.edits.of(TENANT, old.id) == (None, [record])
    assert await bench.edits.of(OTHER_TENANT, old.id) == (None, [])
    async with bench.database.read() as session:
        entry = (await audit.search(session, TENANT, {}, None, 10)).items[0]
    assert (entry["action"], entry["subject"], entry["reason"]) == ("outbound.edited", old.id, "typo")


async def test_another_order_key_goes_to_the_end(bench: Bench, at: datetime) -> None:
    connection = await bench.sender(at)
    old, behind, other, new = _outbound(1), _outbound(2), _outbound(3, "other"), _outbound(4, "other")
    await _park(bench, connection, old, behind, other)
    await bench.edits.replace_parked(CALLER, _record(bench, new, old, connection), connection, new)
    queue = await bench.outbound.read(connection, Fetch(0, 10))
    assert [candidate.id for candidate in queue] == [behind.id, other.id, new.id]
    assert (await bench.outbound.live(connection)).depth == 3


async def test_what_is_not_parked_is_not_replaced_and_nothing_is_recorded(bench: Bench, at: datetime) -> None:
    connection = await bench.sender(at)
    old, new = _outbound(1), _outbound(2)
    await bench.outbound.enqueue(connection, [old])
    with pytest.raises(SuiteError, match=r"request\.conflict"):
        await bench.edits.replace_parked(CALLER, _record(bench, new, old, connection), connection, new)
    with pytest.raises(SuiteError, match=r"outbound\.not-found"):
        await bench.edits.replace_parked(CALLER, _record(bench, old, new, connection), connection, old)
    assert await bench.states() == {"ctl-1": "queued"}
    assert await bench.edits.of(TENANT, old.id) == (None, [])
