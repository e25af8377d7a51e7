"""One class over both buses: what a module may rely on, whichever is under it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from common.models.errors import SuiteError
from common.models.events import Event
from common.runtime.bus import Bus, Delivery
from common.runtime.bus_kafka import KafkaBus
from common.runtime.bus_sqlite import SqliteBus
from common.runtime.system import SystemClock, SystemIds
from infrastructure.process_server import ProcessServer

TOPIC = "ps.sync.run.v1"
COMPACTED = "ps.integration.changed.v1"
BOUND_S = 40.0
CLOCK, IDS = SystemClock(), SystemIds()
NewBus = Callable[[], Awaitable[Bus]]


def event(key: str, number: int, kind: str = "ps.sync.run.progressed", *, deleted: bool = False) -> Event:
    data = {} if deleted else {"version": number} if kind == "ps.integration.changed" else {"pages": number}
    return Event(IDS.new("evt"), kind, "/test/r", key, CLOCK.now(), "ten_1", key, data, deleted=deleted)


class Collected:
    """A handler that keeps what it is given; `failures` batches are refused first."""

    def __init__(self, failures: int = 0) -> None:
        self.deliveries: list[Delivery] = []
        self.failures = failures
        self.changed = asyncio.Event()

    async def __call__(self, deliveries: Sequence[Delivery]) -> None:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("not now")
        self.deliveries += deliveries
        self.changed.set()

    @property
    def ids(self) -> list[str]:
        return [delivery.event.id for delivery in self.deliveries]

    def numbers(self, key: str) -> list[int]:
        return [row.event.data["pages"] for row in self.deliveries if row.event.key == key]

    async def until(self, enough: Callable[[], bool]) -> None:
        async with asyncio.timeout(BOUND_S):
            while not enough():
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture(params=["sqlite", "kafka"])
async def new_bus(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[NewBus]:
    """Makes buses on one file, or on one cluster under a prefix of its own: replicas of each other."""
    made: list[Bus] = []
    bootstrap = request.getfixturevalue("kafka_bootstrap") if request.param == "kafka" else ""
    prefix = f"t{secrets.token_hex(4)}."

    async def new() -> Bus:
        bus: Bus
        if request.param == "kafka":
            bus = KafkaBus(bootstrap, "test", CLOCK, IDS, topic_prefix=prefix)
        else:
            bus = SqliteBus(tmp_path, CLOCK, IDS, poll_s=0.02, heartbeat_s=0.1, member_life_s=1.0)
        await bus.start()
        made.append(bus)
        return bus

    yield new
    for bus in made:
        await bus.stop()


class TestBus:
    async def test_events_come_back_as_they_were_and_in_order_per_key(self, new_bus: NewBus) -> None:
        bus = await new_bus()
        sent = [event(f"int_{number % 7}", number) for number in range(140)]
        await bus.publish(sent)
        got = Collected()
        await bus.consume([TOPIC], "group", got)
        await got.until(lambda: len(got.deliveries) >= 140)
        assert {row.event.id: row.event for row in got.deliveries} == {one.id: one for one in sent}
        for key in range(7):
            assert got.numbers(f"int_{key}") == list(range(key, 140, 7))

    async def test_two_groups_both_get_all(self, new_bus: NewBus) -> None:
        bus = await new_bus()
        one, two = Collected(), Collected()
        await bus.consume([TOPIC], "one", one)
        await bus.consume([TOPIC], "two", two)
        sent = [event(f"int_{number}", number) for number in range(60)]
        await bus.publish(sent)
        await one.until(lambda: len(one.ids) >= 60)
        await two.until(lambda: len(two.ids) >= 60)
        wanted = sorted(row.id for row in sent)
        assert (sorted(one.ids), sorted(two.ids)) == (wanted, wanted)

    async def test_a_batch_that_is_refused_comes_again(self, new_bus: NewBus) -> None:
        bus = await new_bus()
        got = Collected(failures=2)
        await bus.consume([TOPIC], "group", got)
        await bus.publish([event("int_1", number) for number in range(5)])
        await got.until(lambda: len(got.ids) >= 5)
        assert got.numbers("int_1") == [0, 1, 2, 3, 4]

    async def test_what_was_not_committed_is_delivered_to_the_next_member(self, new_bus: NewBus) -> None:
        bus = await new_bus()
        refusing = Collected(failures=10_000)
        member = await bus.consume([TOPIC], "group", refusing)
        await bus.publish([event("int_1", 1)])
        await until_true(lambda: refusing.failures < 10_000)
        await member.stop()
        got = Collected()
        await (await new_bus()).consume([TOPIC], "group", got)
        await got.until(lambda: bool(got.ids))
        assert got.numbers("int_1") == [1]

    async def test_a_second_member_joins_and_leaves_and_nothing_is_lost_or_out_of_order(self, new_bus: NewBus) -> None:
        first, second = await new_bus(), await new_bus()
        got, by_second = Collected(), Collected()
        await first.consume([TOPIC], "group", got)

        async def both(deliveries: Sequence[Delivery]) -> None:
            await by_second(deliveries)
            await got(deliveries)

        sent = 0

        async def send(count: int) -> None:
            nonlocal sent
            for _ in range(count):
                await first.publish([event(f"int_{key}", sent) for key in range(12)])
                sent += 1

        await send(20)
        joined = await second.consume([TOPIC], "group", both)
        async with asyncio.timeout(BOUND_S):
            while not by_second.ids:  # until the second one has its share
                await send(5)
        await got.until(lambda: len(set(got.ids)) >= sent * 12)
        await joined.stop()
        await send(20)
        await got.until(lambda: len(set(got.ids)) >= sent * 12)
        for key in range(12):  # a batch may come twice around a rebalance, but never in another order
            assert list(dict.fromkeys(got.numbers(f"int_{key}"))) == list(range(sent))

    async def test_a_broadcast_reads_everything_to_the_end_then_follows(self, new_bus: NewBus) -> None:
        bus = await new_bus()
        kind = "ps.integration.changed"
        await bus.publish([event("int_1", 1, kind), event("int_2", 1, kind), event("int_1", 2, kind)])
        await bus.publish([event("int_2", 1, kind, deleted=True)])
        replicas = [Collected(), Collected()]
        for got in replicas:
            await (await new_bus()).broadcast([COMPACTED], got)
            state = {row.event.key: row.event for row in got.deliveries}
            assert state["int_1"].data == {"version": 2}
            assert "int_2" not in state or state["int_2"].deleted
        await bus.publish([event("int_3", 1, kind)])
        for got in replicas:
            await got.until(lambda got=got: any(row.event.key == "int_3" for row in got.deliveries))  # type: ignore[misc]
            assert got.deliveries[-1].event.data == {"version": 1}

    async def test_a_tail_begins_now(self, new_bus: NewBus) -> None:
        bus = await new_bus()
        await bus.publish([event("int_1", 1)])
        got = Collected()
        await (await new_bus()).tail([TOPIC], got)
        await bus.publish([event("int_1", 2)])
        await got.until(lambda: bool(got.ids))
        assert got.numbers("int_1") == [2]

    async def test_history_goes_from_an_instant_to_the_end_as_of_the_call(self, new_bus: NewBus) -> None:
        bus = await new_bus()
        sent = [event(f"int_{number}", number) for number in range(20)]
        await bus.publish(sent)
        whole = [row.event.id async for row in bus.history(TOPIC, CLOCK.now() - timedelta(minutes=5))]
        assert sorted(whole) == sorted(row.id for row in sent)
        assert [row async for row in bus.history(TOPIC, CLOCK.now() + timedelta(minutes=5))] == []

    async def test_dead_letters_have_a_topic_of_their_own(self, new_bus: NewBus) -> None:
        bus = await new_bus()
        dead = event("int_1", 1)
        await bus.publish([dead], topic=f"{TOPIC}.dlq")
        found = [row async for row in bus.history(f"{TOPIC}.dlq", CLOCK.now() - timedelta(minutes=5))]
        assert [row.event.id for row in found] == [dead.id]
        assert [row async for row in bus.history(TOPIC, CLOCK.now() - timedelta(minutes=5))] == []

    async def test_lag_falls_to_nothing(self, new_bus: NewBus) -> None:
        bus = await new_bus()
        await bus.publish([event(f"int_{number}", number) for number in range(10)])
        assert await bus.lag([TOPIC], "group") == 10
        got = Collected()
        await bus.consume([TOPIC], "group", got)
        await got.until(lambda: len(got.ids) >= 10)
        await until_no_lag(bus)

    async def test_a_stopped_bus_says_that_it_is_unavailable(self, new_bus: NewBus) -> None:
        bus = await new_bus()
        await bus.ping()
        await bus.stop()
        for call in (bus.ping(), bus.publish([event("int_1", 1)])):
            with pytest.raises(SuiteError) as refused:
                await call
            assert refused.value.code == "bus.unavailable"


async def test_the_broker_goes_and_comes_back(private_kafka: ProcessServer) -> None:
    """Publishing fails within its bound; reading goes on by itself once the broker is back."""
    bus = KafkaBus(private_kafka.address, "test", CLOCK, IDS, publish_timeout_ms=3_000)
    await bus.start()
    got = Collected()
    try:
        await bus.consume([TOPIC], "group", got)
        await bus.publish([event("int_1", 1)])
        await got.until(lambda: got.numbers("int_1") == [1])
        await asyncio.to_thread(private_kafka.stop)
        with pytest.raises(SuiteError) as refused:
            await bus.publish([event("int_1", 2)])
        assert refused.value.code == "bus.unavailable"
        await asyncio.to_thread(private_kafka.start)
        await until_published(bus, event("int_1", 3))
        await got.until(lambda: 3 in got.numbers("int_1"))
    finally:
        await bus.stop()


async def test_an_unreadable_record_is_skipped(tmp_path: Path) -> None:
    bus = SqliteBus(tmp_path, CLOCK, IDS)
    await bus.start()
    await bus.publish([event("int_1", 1), event("int_1", 2), event("int_1", 3)])
    await bus.run(lambda connection: connection.execute("UPDATE log SET headers = '{}' WHERE offset = 1"))
    got = Collected()
    await bus.consume([TOPIC], "group", got)
    await got.until(lambda: len(got.ids) >= 2)
    assert got.numbers("int_1") == [1, 3]
    await bus.stop()


async def until_true(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(BOUND_S):
        while not check():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.02)


async def until_no_lag(bus: Bus) -> None:
    async with asyncio.timeout(BOUND_S):
        while await bus.lag([TOPIC], "group"):  # noqa: ASYNC110 - a lag tells nobody that it fell
            await asyncio.sleep(0.1)


async def until_published(bus: Bus, one: Event) -> None:
    async with asyncio.timeout(BOUND_S):
        while True:
            try:
                await bus.publish([one])
            except SuiteError:
                await asyncio.sleep(0.1)
            else:
                return
