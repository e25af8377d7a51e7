"""Sending over real sockets, to receivers that behave as they do in the field, from a queue in a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import hl7_gateway
from common.models.access import Role
from common.models.errors import SuiteError
from common.models.identifiers import type_id, uuid7
from common.runtime.authentication import Caller
from common.runtime.database import Database
from common.runtime.keyring import StaticKeyRing
from common.runtime.leases import Leases
from common.runtime.outbound import AddressPolicy
from common.runtime.system import SystemClock, SystemIds
from common.testing import TENANT
from hl7_gateway.adapters.connection_store import SqlConnectionStore
from hl7_gateway.adapters.mllp_sender import MllpConnector
from hl7_gateway.adapters.outbound_store import SqlOutboundStore
from hl7_gateway.adapters.tables import Base
from hl7_gateway.adapters.tls_material import server_context
from hl7_gateway.core.connection_configuration import Connection, ConnectionDocument, ConnectionState, TlsMaterial
from hl7_gateway.core.delivery import (
    CUT,
    ERROR,
    FOREIGN,
    NO_ACKNOWLEDGMENT,
    REJECTED,
    UNREADABLE,
    State,
    lease_name,
)
from hl7_gateway.core.outbound_message import NewOutbound
from hl7_gateway.ports import OutboundFilter
from hl7_gateway.use_cases.deliver_messages import Destination
from hl7_gateway.use_cases.run_destinations import Destinations
from hl7v2 import mllp

MIGRATIONS = Path(hl7_gateway.__file__).parent / "migrations"
CALLER = Caller(TENANT, "ann", frozenset({Role.OPERATOR}))
WAIT_S = 20.0
Behaviour = Callable[[Any, str], Awaitable[None]]


def body(control_id: str, modes: str = "|") -> bytes:
    return f"MSH|^~\\&|PS|HERE|EPIC|CLINIC|20260301||ADT^A08|{control_id}|P|2.5.1|||{modes}\rPID|1\r".encode()


async def accept(visit: Any, control_id: str) -> None:
    visit.answer("AA", control_id)


async def wait_until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            found = condition()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.005)


class FakeJournal:
    def __init__(self) -> None:
        self.tries: list[Any] = []

    def tried(self, delivered: Any) -> None:
        self.tries.append(delivered)


class Office:
    """Queues on SQLite, and the tasks that work them."""

    def __init__(self, database: Database) -> None:
        clock, ids = SystemClock(), SystemIds()
        self.clock, self.ids = clock, ids
        self.journal = FakeJournal()
        self.leases = Leases(database, clock, ids)
        self.connections = SqlConnectionStore(database, StaticKeyRing(), clock)
        self.store = SqlOutboundStore(
            database, self.leases, StaticKeyRing(), clock, ids, "/hl7-gateway/test", "rep_test"
        )
        self.number = 0
        self.stop_timeout_s = 5.0

    async def connection(self, port: int, material: TlsMaterial | None = None, **changed: Any) -> Connection:
        self.number += 1
        sending = {
            "ack_timeout_ms": 400,
            "connect_timeout_ms": 2000,
            "backoff": {"first_ms": 10, "max_ms": 40},
            **changed.pop("sending", {}),
        }
        document = {
            "name": f"Out {self.number}",
            "direction": "sender",
            "integration_id": type_id("int", uuid7(1_700_000_000_000, 1)),
            "host": "127.0.0.1",
            "port": port,
            "sending": sending,
            **changed,
        }
        now = self.clock.now()
        made = Connection(
            id=self.ids.new("con"),
            tenant=TENANT,
            state=ConnectionState.ACTIVE,
            version=1,
            configuration=ConnectionDocument.model_validate(document).completed(),
            tls_facts={},
            author="ann",
            reason="created",
            created_at=now,
            updated_at=now,
        )
        await self.connections.add(CALLER, made, material or TlsMaterial())
        return made

    async def put(self, connection: Connection, *keys: str, modes: str = "|", prefix: str = "m") -> list[str]:
        keyring = await StaticKeyRing().tenant(TENANT)
        made = []
        for key in keys:
            self.number += 1
            message_id, control_id = self.ids.new("obm"), f"{prefix}{self.number}"
            new = NewOutbound(
                id=message_id,
                order_key=key,
                patient_key=None,
                control_id=control_id,
                message_type="ADT",
                trigger_event="A08",
                size_bytes=1,
                sealed_body=keyring.seal(body(control_id, modes), record=message_id, field="outbound"),
                traceparent="",
            )
            made.append(new)
        await self.store.enqueue(connection, made)
        return [one.control_id for one in made]

    def destinations(self) -> Destinations:
        connector = MllpConnector(AddressPolicy(["127.0.0.0/8"]))

        def make(connection: Connection, material: TlsMaterial) -> Destination:
            return Destination(
                connection,
                material,
                self.store,
                connector,
                self.journal,
                self.clock,
                self.ids.fraction,
                stop_timeout_s=self.stop_timeout_s,
            )

        async def active() -> Any:
            return await self.connections.active("sender")

        made = Destinations(active, self.connections.material, make, self.leases.hold, retry_s=0.05, lease_wait_s=0.2)
        self.connections.changed.append(made.look)
        self.store.queued.append(made.wake)
        self.store.released.append(made.rescan)
        return made

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Destinations]:
        destinations = self.destinations()
        running = asyncio.create_task(destinations.run())
        try:
            yield destinations
        finally:
            async with asyncio.timeout(WAIT_S):
                await destinations.stop()
                await running

    async def states(self, connection: Connection) -> dict[str, State]:
        page = await self.store.search(TENANT, OutboundFilter(connection_id=connection.id), None, 500)
        return {message.control_id: message.state for message in reversed(page.items)}

    async def tries(self, control_id: str) -> list[tuple[str, str | None]]:
        page = await self.store.search(TENANT, OutboundFilter(control_id=control_id), None, 1)
        _, attempts = await self.store.get(TENANT, page.items[0].id)
        return [(attempt.outcome, attempt.error_code) for attempt in attempts]

    async def wait_for(self, connection: Connection, *states: State) -> None:
        async def there() -> bool:
            return list((await self.states(connection)).values()) == list(states)

        try:
            await wait_until(there)
        except TimeoutError:
            raise AssertionError(f"{await self.states(connection)} instead of {states}") from None

    async def wait_delivered(self, connection: Connection) -> None:
        async def there() -> bool:
            return set((await self.states(connection)).values()) == {State.DELIVERED}

        await wait_until(there)


BOTH = pytest.mark.parametrize(
    "office", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)], indirect=True
)


@pytest.fixture
async def office(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Office]:
    on_postgres = getattr(request, "param", "sqlite") == "postgresql"
    url = request.getfixturevalue("postgres_database") if on_postgres else f"sqlite:///{tmp_path}"
    database = Database(url, "hl7-gateway", Base.metadata, MIGRATIONS)
    await database.open()
    yield Office(database)
    await database.close()


Start = Callable[..., Awaitable[Any]]


@BOTH
async def test_messages_arrive_in_order_on_one_connection(office: Office, receiver: Start) -> None:
    there = await receiver()
    connection = await office.connection(there.port)
    sent = await office.put(connection, "a", "b", "a")
    async with office.open():
        await office.wait_delivered(connection)
        sent += await office.put(connection, "b", "c")
        await office.wait_delivered(connection)
        live = await office.store.live(connection)
    assert (there.seen, there.visits) == (sent, 1)
    assert (live.owned, live.depth, live.link and live.link["state"]) == (True, 0, "up")
    counted = {name: live.counters[name] for name in ("queued", "sent", "delivered", "acknowledged", "connects")}
    assert counted == {"queued": 5, "sent": 5, "delivered": 5, "acknowledged": 5, "connects": 1}
    assert [one.operation for one in office.journal.tries] == ["ADT^A08"] * 5
    after = await office.store.live(connection)
    assert (after.owned, after.link and after.link["state"]) == (False, "down")


async def say_nothing(visit: Any, control_id: str) -> None:
    pass


async def close_before(visit: Any, control_id: str) -> None:
    visit.close()


async def reset_before(visit: Any, control_id: str) -> None:
    visit.abort()


async def half(visit: Any, control_id: str) -> None:
    visit.writer.write(visit.acknowledgment("AA", control_id)[:40])
    await visit.writer.drain()
    visit.close()


async def junk(visit: Any, control_id: str) -> None:
    visit.writer.write(b"\x00\xffGET / HTTP/1.1\r\n\r\n" + mllp.encode(b"HELLO WORLD"))


async def foreign(visit: Any, control_id: str) -> None:
    visit.answer("AA", "somebody-else")


async def slowly(visit: Any, control_id: str) -> None:
    for byte in visit.acknowledgment("AA", control_id):
        visit.writer.write(bytes([byte]))
        await visit.writer.drain()


async def error(visit: Any, control_id: str) -> None:
    visit.answer("AE", control_id)


async def reject(visit: Any, control_id: str) -> None:
    visit.answer("AR", control_id)


async def twice(visit: Any, control_id: str) -> None:
    visit.answer("AA", control_id)
    visit.answer("AA", control_id)


@pytest.mark.parametrize(
    ("behaviour", "first"),
    [
        (say_nothing, ("no-answer", NO_ACKNOWLEDGMENT)),
        (close_before, ("no-answer", CUT)),
        (reset_before, ("no-answer", CUT)),
        (half, ("no-answer", CUT)),
        (junk, ("no-answer", UNREADABLE)),
        (foreign, ("no-answer", FOREIGN)),
        (error, ("refused", ERROR)),
    ],
)
async def test_what_failed_is_sent_again_with_the_same_control_id(
    office: Office, receiver: Start, behaviour: Behaviour, first: tuple[str, str]
) -> None:
    there = await receiver(behaviour, accept)
    connection = await office.connection(there.port)
    one, other = await office.put(connection, "a", "a")
    async with office.open():
        await office.wait_delivered(connection)
    assert there.seen == [one, one, other]
    assert await office.tries(one) == [first, ("delivered", None)]
    assert await office.tries(other) == [("delivered", None)]


async def test_an_acknowledgement_in_single_bytes_counts(office: Office, receiver: Start) -> None:
    there = await receiver(slowly)
    connection = await office.connection(there.port, sending={"ack_timeout_ms": 5000})
    (one,) = await office.put(connection, "a")
    async with office.open():
        await office.wait_delivered(connection)
    assert there.seen == [one]


async def test_an_acknowledgement_said_twice_is_not_credited_to_the_next(office: Office, receiver: Start) -> None:
    there = await receiver(twice, say_nothing, accept)
    connection = await office.connection(there.port)
    one, other = await office.put(connection, "a", "b")
    async with office.open():
        await office.wait_delivered(connection)
        counters = (await office.store.live(connection)).counters
    assert there.seen == [one, other, other]
    assert await office.tries(other) == [("no-answer", NO_ACKNOWLEDGMENT), ("delivered", None)]
    assert counters["answers_repeated"] == 1


async def test_a_late_acknowledgement_finds_nobody(office: Office, receiver: Start) -> None:
    """The receiver answers the first message only when it is sent again, on the connection of the first try."""
    first: list[Any] = []

    async def keep(visit: Any, control_id: str) -> None:
        first.append(visit)

    async def answer_on_the_first(visit: Any, control_id: str) -> None:
        first[0].answer("AA", control_id)

    there = await receiver(keep, answer_on_the_first, accept)
    connection = await office.connection(there.port)
    (one,) = await office.put(connection, "a")
    async with office.open():
        await office.wait_delivered(connection)
    assert there.seen == [one, one, one]
    assert await office.tries(one) == [("no-answer", NO_ACKNOWLEDGMENT)] * 2 + [("delivered", None)]
    assert there.visits == 3


@BOTH
async def test_refusals_go_by_their_policies(office: Office, receiver: Start) -> None:
    async def by_message(visit: Any, control_id: str) -> None:
        visit.answer({"m2": "AE", "m4": "AR"}.get(control_id, "AA"), control_id)

    there = await receiver(by_message)
    sending = {"on_error": {"action": "retry", "retries": 2}, "on_reject": {"action": "drop"}}
    connection = await office.connection(there.port, sending=sending)
    await office.put(connection, "a", "a", "b", "c")
    async with office.open():
        await office.wait_for(connection, State.PARKED, State.HELD, State.DROPPED, State.DELIVERED)
        live = await office.store.live(connection)
        assert (live.parked, live.held, live.depth) == (1, 1, 2)
        assert (live.counters["retried"], live.counters["parked"], live.counters["dropped"]) == (2, 1, 1)
        assert await office.tries("m2") == [("refused", ERROR)] * 3
        assert await office.tries("m4") == [("refused", REJECTED)]
        there.behaviours = [accept]
        page = await office.store.search(TENANT, OutboundFilter(state="parked"), None, 1)
        await office.store.retry(CALLER, page.items[0].id, "receiver mended")
        await office.wait_for(connection, State.DELIVERED, State.DELIVERED, State.DROPPED, State.DELIVERED)
    assert there.seen[-2:] == ["m2", "m3"]


async def test_what_is_dropped_is_reported(office: Office, receiver: Start) -> None:
    there = await receiver(reject, accept)
    connection = await office.connection(there.port, sending={"on_reject": {"action": "drop"}})
    one, _ = await office.put(connection, "a", "a")
    async with office.open():
        await office.wait_for(connection, State.DROPPED, State.DELIVERED)
    assert await office.tries(one) == [("refused", REJECTED)]


async def test_enhanced_mode_waits_for_both_acknowledgements(office: Office, receiver: Start) -> None:
    accepted = asyncio.Event()
    go_on = asyncio.Event()

    async def both(visit: Any, control_id: str) -> None:
        visit.answer("CA", control_id)
        accepted.set()
        await go_on.wait()
        visit.answer("AA", control_id)

    there = await receiver(both)
    connection = await office.connection(there.port, sending={"ack_timeout_ms": 10_000})
    await office.put(connection, "a", modes="AL|AL")
    async with office.open():
        await accepted.wait()
        assert set((await office.states(connection)).values()) == {State.IN_FLIGHT}
        go_on.set()
        await office.wait_delivered(connection)


@BOTH
async def test_several_are_in_flight_across_keys_only(office: Office, receiver: Start) -> None:
    waiting: list[tuple[Any, str]] = []

    async def keep(visit: Any, control_id: str) -> None:
        waiting.append((visit, control_id))

    there = await receiver(keep)
    connection = await office.connection(there.port, sending={"in_flight_max": 3, "ack_timeout_ms": 10_000})
    sent = await office.put(connection, "a", "a", "b", "c", "d")
    async with office.open():
        await wait_until(lambda: len(waiting) == 3)
        assert there.seen == [sent[0], sent[2], sent[3]]
        for visit, control_id in reversed(waiting):  # answered in another order than sent
            visit.answer("AA", control_id)
        await wait_until(lambda: len(waiting) == 5)
        for visit, control_id in waiting[3:]:
            visit.answer("AA", control_id)
        await office.wait_delivered(connection)
    assert there.visits == 1
    assert there.seen.index(sent[0]) < there.seen.index(sent[1])


async def test_a_receiver_that_is_away_holds_up_nobody_else(office: Office, receiver: Start, free_port: int) -> None:
    silent, well = await receiver(say_nothing), await receiver()
    dead = await office.connection(free_port)
    stuck = await office.connection(silent.port, sending={"ack_timeout_ms": 60_000})
    healthy = await office.connection(well.port)
    for connection in (dead, stuck, healthy):
        await office.put(connection, *"abcabc")
    office.stop_timeout_s = 0.2
    async with office.open():
        await office.wait_delivered(healthy)

        async def told() -> bool:
            link = (await office.store.live(dead)).link
            return link is not None and link["code"] == "peer.connect"

        await wait_until(told)
        assert State.DELIVERED not in (await office.states(stuck)).values()
        await receiver(port=free_port)
        await office.wait_delivered(dead)
    assert set((await office.states(stuck)).values()) == {State.QUEUED}
    assert len(silent.seen) == 1


@BOTH
async def test_a_change_is_applied_without_losing_a_message(office: Office, receiver: Start) -> None:
    old, new = await receiver(), await receiver()
    connection = await office.connection(old.port)
    await office.put(connection, *"abc" * 20)
    async with office.open():
        await wait_until(lambda: len(old.seen) >= 5)
        moved = connection.configuration.model_copy(update={"port": new.port})
        after = replace(connection, version=2, configuration=moved)
        await office.connections.save(CALLER, connection, after, None, "connection.changed")
        await office.wait_delivered(connection)
    assert len(new.seen) > 0
    assert sorted(old.seen + new.seen) == sorted(await office.states(connection))


async def test_paused_it_finishes_what_is_in_flight_and_keeps_the_rest(office: Office, receiver: Start) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def hold(visit: Any, control_id: str) -> None:
        reached.set()
        await go_on.wait()
        visit.answer("AA", control_id)

    there = await receiver(hold, accept)
    connection = await office.connection(there.port, sending={"ack_timeout_ms": 10_000})
    await office.put(connection, "a", "b")
    async with office.open():
        await reached.wait()
        paused = replace(connection, version=2, state=ConnectionState.PAUSED)
        await office.connections.save(CALLER, connection, paused, None, "connection.paused")
        await office.wait_for(connection, State.IN_FLIGHT, State.QUEUED)
        go_on.set()
        await office.wait_for(connection, State.DELIVERED, State.QUEUED)

        async def free() -> bool:
            return not (await office.store.live(connection)).owned

        await wait_until(free)
        await office.put(connection, "c")
        resumed = replace(paused, version=3, state=ConnectionState.ACTIVE)
        await office.connections.save(CALLER, paused, resumed, None, "connection.resumed")
        await office.wait_delivered(connection)
    assert len(there.seen) == 3


async def test_a_stop_gives_back_what_nobody_answers(office: Office, receiver: Start) -> None:
    there = await receiver(say_nothing)
    office.stop_timeout_s = 0.05
    connection = await office.connection(there.port, sending={"ack_timeout_ms": 60_000})
    (one,) = await office.put(connection, "a")
    async with office.open():
        await wait_until(lambda: there.seen == [one])
    assert await office.states(connection) == {one: State.QUEUED}
    assert await office.tries(one) == [("interrupted", "hl7.delivery-interrupted")]
    there.behaviours = [accept]
    async with office.open():
        await office.wait_delivered(connection)


@BOTH
async def test_of_two_replicas_one_owns_a_queue(office: Office, receiver: Start) -> None:
    there = await receiver()
    connection = await office.connection(there.port)
    async with office.open(), office.open():
        for _ in range(5):
            await office.put(connection, *"abcd")
        await office.wait_delivered(connection)
    assert len(there.seen) == len(set(there.seen)) == 20
    assert there.visits == 1


async def test_tls_with_certificates_on_both_sides(office: Office, receiver: Start, authority: Any) -> None:
    served = TlsMaterial(*authority.issue(), authority.pem)
    there = await receiver(tls=server_context(served, mutual=True))
    mine = TlsMaterial(*authority.issue("gateway.example"), authority.pem)
    connection = await office.connection(there.port, mine, tls={"mode": "mutual"})
    sent = await office.put(connection, "a", "b")
    async with office.open():
        await office.wait_delivered(connection)
    assert there.seen == sent


@pytest.mark.parametrize(
    ("mutual", "trusts", "tls", "codes"),
    [
        (False, False, {"mode": "tls"}, {"peer.tls"}),  # the receiver's certificate is of an authority we do not trust
        (False, True, {"mode": "tls", "server_name": "other.example"}, {"peer.tls"}),
        (True, True, {"mode": "tls"}, {"peer.tls", CUT}),  # we show no certificate; it may close without saying why
        (None, True, {"mode": "tls"}, {"peer.tls"}),  # it does not speak TLS
    ],
)
async def test_tls_refused_is_named_and_nothing_is_lost(
    office: Office,
    receiver: Start,
    authority: Any,
    mutual: bool | None,
    trusts: bool,
    tls: dict[str, Any],
    codes: set[str],
) -> None:
    served = TlsMaterial(*authority.issue(), authority.pem)
    there = await receiver(tls=None if mutual is None else server_context(served, mutual=mutual))
    stranger = type(authority)()
    connection = await office.connection(
        there.port,
        TlsMaterial(ca_pem=authority.pem if trusts else stranger.pem),
        tls=tls,
        sending={"connect_timeout_ms": 500},
    )
    (one,) = await office.put(connection, "a")
    async with office.open():

        async def named() -> bool:
            link = (await office.store.live(connection)).link
            return link is not None and link["code"] in codes

        await wait_until(named)
    assert await office.states(connection) == {one: State.QUEUED}
    assert there.seen == []


async def test_addresses_that_are_not_allowed_are_not_connected_to(office: Office) -> None:
    connection = await office.connection(6000, host="169.254.169.254")
    with pytest.raises(SuiteError, match=r"peer\.address-refused"):
        await MllpConnector(AddressPolicy(["127.0.0.0/8", "public"])).connect(connection, TlsMaterial())


@BOTH
async def test_a_killed_owner_leaves_its_messages_to_the_next(office: Office, receiver: Start) -> None:
    there = await receiver(say_nothing)
    connection = await office.connection(there.port, sending={"ack_timeout_ms": 60_000})
    (one,) = await office.put(connection, "a")
    _, _, running, _ = await _working(office, connection, office.store, ttl_s=0.3)
    await wait_until(lambda: there.seen == [one])
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await office.states(connection) == {one: State.IN_FLIGHT}
    there.behaviours = [accept]
    async with office.open():
        await office.wait_delivered(connection)
    assert await office.tries(one) == [("interrupted", "hl7.delivery-interrupted"), ("delivered", None)]


class Flaky:
    """A queue whose database is away now and then: before a write, and after one that was stored."""

    def __init__(self, queue: Any) -> None:
        self.queue = queue
        self.writes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.queue, name)

    async def write(self, *arguments: Any) -> Any:
        self.writes += 1
        if self.writes % 3 == 1:
            raise SuiteError("database.unavailable")
        bodies = await self.queue.write(*arguments)
        if self.writes % 3 == 2:
            raise SuiteError("database.unavailable")
        return bodies


async def _working(
    office: Office, connection: Connection, queue: Any, *, ttl_s: float = 60.0
) -> tuple[Any, Any, asyncio.Task[None], asyncio.Event]:
    """A destination at work under a lease of its own: it, the lease, its task, and what stops it."""
    lease = await office.leases.acquire(lease_name(connection.id), owner="me", ttl_s=ttl_s)
    assert lease is not None
    destination = Destination(
        connection,
        TlsMaterial(),
        queue,
        MllpConnector(AddressPolicy(["127.0.0.0/8"])),
        office.journal,
        office.clock,
        office.ids.fraction,
        stop_timeout_s=1.0,
    )
    stop = asyncio.Event()
    return destination, lease, asyncio.create_task(destination.run(lease, stop)), stop


async def test_a_database_that_comes_and_goes_loses_and_doubles_nothing(office: Office, receiver: Start) -> None:
    there = await receiver()
    connection = await office.connection(there.port)
    sent = await office.put(connection, *"abcab")
    queue = Flaky(office.store)
    _, _, running, stop = await _working(office, connection, queue)
    await office.wait_delivered(connection)
    stop.set()
    await running
    live = await office.store.live(connection)
    assert sorted(there.seen) == sorted(sent)
    assert (live.counters["delivered"], live.counters["sent"], live.depth) == (5, 5, 0)
    assert queue.writes > 3


async def test_an_owner_that_lost_its_lease_says_no_more(office: Office, receiver: Start) -> None:
    there = await receiver(say_nothing)
    connection = await office.connection(there.port, sending={"ack_timeout_ms": 60_000})
    (one,) = await office.put(connection, "a")
    _, lease, running, _ = await _working(office, connection, office.store)
    await wait_until(lambda: there.seen == [one])
    lease.lost.set()
    async with asyncio.timeout(WAIT_S):
        await running
    await wait_until(lambda: not there.open)
    assert await office.states(connection) == {one: State.IN_FLIGHT}


async def test_a_failure_that_is_no_passing_one_is_told(office: Office, receiver: Start) -> None:
    class Broken(Flaky):
        async def write(self, *arguments: Any) -> Any:
            raise SuiteError("tenant.not-found")

    there = await receiver()
    connection = await office.connection(there.port)
    await office.put(connection, "a")
    _, _, running, _ = await _working(office, connection, Broken(office.store))
    with pytest.raises(SuiteError, match=r"tenant\.not-found"):
        await running
