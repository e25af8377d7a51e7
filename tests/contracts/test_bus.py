"""What both buses promise: durable, ordered per key, shared in a group, redelivered until handled."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import AsyncSession

from common.models.clock import FixedClock
from common.models.errors import SuiteError
from common.models.events import EVENT_BYTES_MAX, Event
from common.runtime.bus import Bus, Delivery, partition_of
from common.runtime.bus_sqlite import SqliteBus
from common.runtime.database import Database
from common.runtime.inbox import Consumer, Subscription, list_parked, replay_parked
from common.runtime.leases import Leases
from common.runtime.outbox import Relay
from common.runtime.system import SystemClock, SystemIds
from contracts.buses import (
    CHANGED,
    CREDENTIAL,
    DEAD,
    MEASURED,
    PARTITIONS,
    QUICK,
    TENANT,
    WAIT_S,
    Seen,
    make_bus,
    new_event,
    number_of,
    small_topics,
)
from infrastructure.process_server import ProcessServer, free_port

Place = Mapping[str, str]
TESTS = Path(__file__).parents[1]
KEYS = [f"k{number}" for number in range(12)]
CLOCK = SystemClock()


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where several buses are several replicas of one."""
    if request.param == "sqlite":
        return {"directory": f"{tmp_path / 'bus'}"}
    bootstrap, prefix = request.getfixturevalue("kafka_bootstrap"), request.getfixturevalue("topic_prefix")
    return {"bootstrap": bootstrap, "prefix": prefix}


@pytest.fixture
async def new_bus(place: Place) -> AsyncIterator[Callable[[], Any]]:
    """Starts one more replica; all are stopped at the end."""
    async with AsyncExitStack() as stack:

        async def start() -> Bus:
            return await stack.enter_async_context(started(make_bus(place)))

        yield start


@pytest.fixture
async def bus(new_bus: Callable[[], Any]) -> Bus:
    started_bus: Bus = await new_bus()
    return started_bus


@asynccontextmanager
async def started(bus: Bus) -> AsyncIterator[Bus]:
    await bus.start()
    try:
        yield bus
    finally:
        await bus.stop()


@asynccontextmanager
async def database_in(directory: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{directory}", "test", MetaData(), None)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


def several(start: int, stop: int, topic: str = CREDENTIAL) -> list[Event]:
    return [new_event(number, KEYS[number % len(KEYS)], topic) for number in range(start, stop)]


def expected_by_key(start: int, stop: int) -> dict[str, list[int]]:
    return {
        key: [number for number in range(start, stop) if KEYS[number % len(KEYS)] == key]
        for key in {KEYS[number % len(KEYS)] for number in range(start, stop)}
    }


async def wait_for_the_next_millisecond() -> datetime:
    """An instant after everything before the call and before everything after it."""
    await asyncio.sleep(0.003)
    now = CLOCK.now()
    await asyncio.sleep(0.003)
    return now


async def wait_until(condition: Callable[[], bool]) -> None:
    """For what more than one handler has to say."""
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - there is no one event for it
            await asyncio.sleep(0.01)


async def wait_until_shared(bus: Bus, members: Sequence[Seen], first: int) -> int:
    """Publish to all partitions until every member has seen something of its own; the next free number."""
    async with asyncio.timeout(30):
        while not all(seen.deliveries for seen in members):
            await bus.publish(several(first, first + len(KEYS)))
            first += len(KEYS)
            await asyncio.sleep(0.05)
    return first


async def write_unreadable(place: Place, partition: int) -> None:
    """Records that nobody of ours wrote."""
    records = [({}, b"k", b"{}"), ({"ce_id": b"\xff"}, None, b"\x00"), ({"ce_specversion": b"1.0"}, b"k", None)]
    if "bootstrap" in place:
        async with AIOKafkaProducer(bootstrap_servers=place["bootstrap"]) as producer:
            for headers, key, value in records:
                name = place["prefix"] + CREDENTIAL
                await producer.send_and_wait(name, value, key, partition, headers=list(headers.items()))
        return
    with closing(sqlite3.connect(Path(place["directory"]) / "bus.sqlite3")) as connection, connection:
        row = connection.execute("SELECT next FROM head WHERE topic = ? AND partition = ?", (CREDENTIAL, partition))
        following = row.fetchone()[0]
        for offset, (_, key, value) in enumerate(records, following):
            wrong = b"{}" if offset == following else b'{"ce_id":1}' if value else b"no JSON"
            at = CLOCK.now().isoformat()
            connection.execute(
                "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?)", (CREDENTIAL, partition, offset, key, wrong, value, at)
            )
        connection.execute(
            "UPDATE head SET next = ? WHERE topic = ? AND partition = ?",
            (following + len(records), CREDENTIAL, partition),
        )


class TestBus:
    async def test_the_order_of_a_key_is_kept(self, bus: Bus) -> None:
        seen = Seen()
        await bus.consume([CREDENTIAL], "g", seen)
        for first in range(0, 1_300, 100):
            await bus.publish(several(first, first + 100))
        await seen.wait_for(*range(1_300))
        assert seen.by_key == expected_by_key(0, 1_300)
        for delivery in seen.deliveries:
            assert delivery.partition == partition_of(delivery.event.key.encode(), PARTITIONS)
            assert delivery.topic == CREDENTIAL

    async def test_what_arrives_is_what_was_published(self, bus: Bus) -> None:
        seen = Seen()
        trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        first = new_event(1, data={"integration_id": "int_1"}, generation=2, traceparent=trace)
        second = new_event(2, "", MEASURED, data={"value": 1.5})
        await bus.publish([first, second])
        await bus.consume([CREDENTIAL, MEASURED], "g", seen)
        await seen.wait_for(1, 2)
        assert sorted((delivery.event for delivery in seen.deliveries), key=lambda event: event.id) == [first, second]

    async def test_publishing_at_once_loses_nothing(self, bus: Bus) -> None:
        await asyncio.gather(*(bus.publish([new_event(number, KEYS[number % 5])]) for number in range(200)))
        seen = Seen()
        await bus.consume([CREDENTIAL], "g", seen)
        await seen.wait_for(*range(200))
        assert sorted(seen.numbers) == list(range(200))

    async def test_events_without_a_key_are_spread(self, bus: Bus) -> None:
        seen = Seen()
        await bus.publish([new_event(number, "", MEASURED) for number in range(100)])
        await bus.consume([MEASURED], "g", seen)
        await seen.wait_for(*range(100))
        assert {delivery.partition for delivery in seen.deliveries} == set(range(PARTITIONS))

    async def test_a_group_shares_the_work_and_gets_each_event_once(self, bus: Bus, new_bus: Callable[[], Any]) -> None:
        one, two = Seen(), Seen()
        await bus.consume([CREDENTIAL], "g", one)
        await (await new_bus()).consume([CREDENTIAL], "g", two)
        first = await wait_until_shared(bus, [one, two], 0)
        await bus.publish(several(first, first + 200))
        both = set(range(first, first + 200))
        await wait_until(lambda: both <= {*one.numbers, *two.numbers})
        counted = [number for number in (*one.numbers, *two.numbers) if number in both]
        assert sorted(counted) == sorted(both)
        assert both & set(one.numbers)
        assert both & set(two.numbers)

    async def test_every_group_gets_everything_from_the_oldest(self, bus: Bus) -> None:
        one, two = Seen(), Seen()
        await bus.publish(several(0, 20))
        await bus.consume([CREDENTIAL], "one", one)
        await one.wait_for(*range(20))
        await bus.publish(several(20, 40))
        await bus.consume([CREDENTIAL], "two", two)
        await one.wait_for(*range(40))
        await two.wait_for(*range(40))
        assert one.by_key == two.by_key == expected_by_key(0, 40)

    async def test_a_batch_that_raises_comes_again_and_holds_up_no_other_partition(self, bus: Bus) -> None:
        bad = partition_of(KEYS[0].encode(), PARTITIONS)
        others = {partition_of(key.encode(), PARTITIONS) for key in KEYS} - {bad}
        seen = Seen()
        seen.refuse = lambda batch: batch[0].partition == bad and len(seen.refused) < 3
        await bus.publish(several(0, 40))
        await bus.consume([CREDENTIAL], "g", seen, batch_events_max=5)
        await seen.wait_for(*range(40))
        assert seen.by_key == expected_by_key(0, 40)
        assert len(seen.refused) == 3
        assert len({tuple(numbers) for numbers in seen.refused}) == 1
        first_again = next(at for at, delivery in enumerate(seen.deliveries) if delivery.partition == bad)
        assert {delivery.partition for delivery in seen.deliveries[:first_again]} >= others
        assert max(len(batch) for batch in seen.batches) <= 5

    async def test_a_stop_finishes_the_batch_in_hand(self, bus: Bus) -> None:
        begun, go_on, after = asyncio.Event(), asyncio.Event(), Seen()
        handled: list[int] = []

        async def slow(batch: Sequence[Delivery]) -> None:
            begun.set()
            await go_on.wait()
            handled.extend(number_of(delivery) for delivery in batch)

        await bus.publish([new_event(number) for number in range(3)])
        consumption = await bus.consume([CREDENTIAL], "g", slow)
        await asyncio.wait_for(begun.wait(), 20)
        stopping = asyncio.create_task(consumption.stop())
        await asyncio.sleep(0)
        go_on.set()
        await stopping
        await bus.publish([new_event(3)])
        await bus.consume([CREDENTIAL], "g", after)
        await after.wait_for(3)
        assert handled == [0, 1, 2]
        assert after.numbers == [3]

    async def test_what_a_killed_member_had_in_hand_comes_again(self, bus: Bus, place: Place) -> None:
        await bus.publish([new_event(number) for number in range(10)])
        command = [sys.executable, "-m", "contracts.crashing_consumer", json.dumps(place), CREDENTIAL, "g"]
        child = await asyncio.create_subprocess_exec(
            *command, env=os.environ | {"PYTHONPATH": f"{TESTS}"}, stdout=asyncio.subprocess.PIPE
        )
        assert child.stdout is not None
        in_hand = await asyncio.wait_for(child.stdout.readline(), 30)
        child.kill()
        await child.wait()
        seen = Seen()
        await bus.consume([CREDENTIAL], "g", seen)
        await seen.wait_for(*range(10))
        assert int(in_hand) > 0
        assert seen.numbers == list(range(10))

    async def test_a_group_goes_on_where_it_was(self, bus: Bus, place: Place) -> None:
        before, after = Seen(), Seen()
        async with started(make_bus(place)) as other:
            await other.publish(several(0, 20))
            await other.consume([CREDENTIAL], "g", before)
            await before.wait_for(*range(20))
        await bus.publish(several(20, 30))
        await bus.consume([CREDENTIAL], "g", after)
        await after.wait_for(*range(20, 30))
        assert sorted(after.numbers) == list(range(20, 30))

    async def test_members_come_and_go_under_load(self, bus: Bus, new_bus: Callable[[], Any]) -> None:
        one, two = Seen(), Seen()
        order: list[Delivery] = []

        def noted(seen: Seen) -> Any:
            async def handle(batch: Sequence[Delivery]) -> None:
                order.extend(batch)
                await seen(batch)

            return handle

        published = 0

        async def publish(until: Callable[[], bool]) -> None:
            nonlocal published
            while not until():
                await bus.publish(several(published, published + 24))
                published += 24
                await wait_a_moment()

        async with asyncio.timeout(60):
            await bus.consume([CREDENTIAL], "g", noted(one), batch_events_max=20)
            await publish(lambda: len(one.deliveries) > 100)
            joined = await (await new_bus()).consume([CREDENTIAL], "g", noted(two), batch_events_max=20)
            await publish(lambda: len(two.deliveries) > 100)
            await joined.stop()
            left_at = len(one.deliveries)
            moved = {delivery.partition for delivery in two.deliveries}
            await publish(lambda: moved <= {delivery.partition for delivery in one.deliveries[left_at:]})
            await wait_until(lambda: {number_of(each) for each in order} == set(range(published)))
        seen: dict[str, list[int]] = {}
        for delivery in order:
            numbers = seen.setdefault(delivery.event.key, [])
            if number_of(delivery) not in numbers:
                numbers.append(number_of(delivery))
        assert seen == expected_by_key(0, published)
        # Nobody crashed, so that nothing had to come twice.
        assert len(order) == published

    async def test_a_broadcast_gives_every_replica_the_newest_of_each_key_then_what_follows(
        self, bus: Bus, new_bus: Callable[[], Any]
    ) -> None:
        for version in range(3):
            await bus.publish([new_event(10 * version + n, f"int_{n}", CHANGED) for n in range(5)])
        await bus.publish([new_event(30, "int_4", CHANGED, deleted=True)])
        for replica, newest_of_0, number in ((bus, "20", 31), (await new_bus(), "31", 32)):
            seen = Seen()
            await replica.broadcast([CHANGED], seen)
            newest = {delivery.event.key: delivery.event for delivery in seen.deliveries}
            assert {key: event.id[-2:] for key, event in newest.items()} == {
                "int_0": newest_of_0, "int_1": "21", "int_2": "22", "int_3": "23", "int_4": "30",
            }  # fmt: skip
            assert [key for key, event in newest.items() if event.deleted] == ["int_4"]
            await bus.publish([new_event(number, "int_0", CHANGED)])
            await seen.wait_for(number)

    async def test_a_broadcast_of_nothing_is_at_its_end(self, bus: Bus) -> None:
        seen = Seen()
        async with asyncio.timeout(10):
            await bus.broadcast([CHANGED], seen)
        await bus.publish([new_event(1, topic=CHANGED)])
        await seen.wait_for(1)
        assert seen.numbers == [1]

    async def test_a_broadcast_waits_for_its_handler(self, bus: Bus) -> None:
        seen = Seen()
        seen.refuse = lambda _: len(seen.refused) < 2
        await bus.publish([new_event(1, topic=CHANGED)])
        async with asyncio.timeout(20):
            await bus.broadcast([CHANGED], seen)
        assert seen.numbers == [1]
        assert seen.refused == [[1], [1]]

    async def test_a_tail_begins_now(self, bus: Bus) -> None:
        seen = Seen()
        await bus.publish(several(0, 20))
        tail = await bus.tail([CREDENTIAL, CHANGED], seen)
        await bus.publish([new_event(number, "k") for number in range(20, 1_300)])
        await bus.publish([new_event(1_300, "k", CHANGED)])
        await seen.wait_for(*range(20, 1_301))
        await tail.stop()
        assert seen.by_key == {"k": seen.numbers}
        assert sorted(seen.numbers) == list(range(20, 1_301))
        assert [number for number in seen.numbers if number < 1_300] == list(range(20, 1_300))

    async def test_a_tail_drops_what_its_handler_refuses(self, bus: Bus) -> None:
        seen = Seen()
        seen.refuse = lambda _: not seen.refused
        await bus.tail([CREDENTIAL], seen)
        await bus.publish([new_event(1)])
        await seen.wait_until(lambda: bool(seen.refused))
        await bus.publish([new_event(2)])
        await seen.wait_for(2)
        assert seen.numbers == [2]

    async def test_history_is_what_there_was_since_an_instant(self, bus: Bus) -> None:
        begin = await wait_for_the_next_millisecond()
        await bus.publish(several(0, 700))
        since = await wait_for_the_next_millisecond()
        await bus.publish(several(700, 710))
        later = [number_of(delivery) async for delivery in bus.history(CREDENTIAL, since)]
        assert sorted(later) == list(range(700, 710))
        everything = Seen()
        async for delivery in bus.history(CREDENTIAL, begin):
            if not everything.deliveries:
                await bus.publish(several(710, 720))  # after the call: not of this history
            await everything([delivery])
        assert everything.by_key == expected_by_key(0, 710)
        assert [each async for each in bus.history(CREDENTIAL, CLOCK.now() + timedelta(hours=1))] == []
        assert [each async for each in bus.history(DEAD, begin)] == []

    async def test_a_dead_letter_has_a_topic_of_its_own(self, bus: Bus) -> None:
        begin = CLOCK.now() - timedelta(minutes=1)
        await bus.publish([new_event(1)], topic=DEAD)
        found = [(each.topic, number_of(each)) async for each in bus.history(DEAD, begin)]
        assert found == [(DEAD, 1)]
        assert [each async for each in bus.history(CREDENTIAL, begin)] == []

    async def test_an_unreadable_record_is_reported_and_skipped(
        self, bus: Bus, place: Place, caplog: pytest.LogCaptureFixture
    ) -> None:
        await bus.publish([new_event(1)])
        partition = partition_of(b"k", PARTITIONS)
        await write_unreadable(place, partition)
        await bus.publish([new_event(2)])
        seen, followed = Seen(), Seen()
        await bus.consume([CREDENTIAL], "g", seen)
        await seen.wait_for(1, 2)
        await bus.broadcast([CREDENTIAL], followed)
        assert seen.numbers == followed.numbers == [1, 2]
        reports = [record for record in caplog.records if record.getMessage() == "unreadable record skipped"]
        assert {(vars(report)["topic"], vars(report)["partition"]) for report in reports} == {(CREDENTIAL, partition)}
        assert len(reports) == 6
        assert bus.unreadable == {CREDENTIAL: 6}
        await wait_until_lag(bus, "g", 0)

    async def test_an_event_that_is_too_large_is_refused_and_the_others_with_it(self, bus: Bus) -> None:
        begin = SystemClock().now() - timedelta(seconds=1)
        large = new_event(2, data={"credential": "x" * EVENT_BYTES_MAX})
        with pytest.raises(SuiteError) as raised:
            await bus.publish([new_event(1), large, new_event(3)])
        assert (raised.value.code, raised.value.transient) == ("bus.event-too-large", False)
        assert "xxx" not in str(raised.value)
        fits = new_event(4, data={"credential": "x" * (EVENT_BYTES_MAX - 30)})
        await bus.publish([fits])
        assert [number_of(each) async for each in bus.history(CREDENTIAL, begin)] == [4]

    async def test_the_lag_is_what_a_group_has_not_handled(self, bus: Bus) -> None:
        assert await bus.lag([CREDENTIAL, MEASURED], "g") == 0
        await bus.publish(several(0, 30))
        assert await bus.lag([CREDENTIAL, MEASURED], "g") == 30
        seen = Seen()
        consumption = await bus.consume([CREDENTIAL], "g", seen)
        await seen.wait_for(*range(30))
        await consumption.stop()
        assert await bus.lag([CREDENTIAL], "g") == 0
        await bus.publish(several(30, 35))
        assert await bus.lag([CREDENTIAL], "g") == 5
        assert await bus.lag([CREDENTIAL], "other") == 35

    async def test_a_dead_letter_parks_its_key_and_a_replay_is_a_generation(self, bus: Bus, tmp_path: Path) -> None:
        begin = CLOCK.now() - timedelta(minutes=1)
        handled: list[tuple[int, int]] = []
        broken = {5}

        async def handle(session: AsyncSession, events: Sequence[Event]) -> None:
            numbers = [int(event.id.removeprefix("evt_")) for event in events]
            if broken & set(numbers):
                raise ValueError
            database.after_commit(
                session,
                lambda: handled.extend(
                    (number, event.generation) for number, event in zip(numbers, events, strict=True)
                ),
            )

        async def wait_until_handled(count: int) -> None:
            async with asyncio.timeout(30):
                while len(handled) < count:  # noqa: ASYNC110 - what is waited for tells nobody
                    await asyncio.sleep(0.02)

        async with database_in(tmp_path) as database:
            consumer = Consumer(bus, database, CLOCK, SystemIds(), Subscription((CREDENTIAL,), "test.consumer", handle))
            relay = Relay(database, bus, Leases(database, CLOCK, SystemIds()), CLOCK, lease_ttl_s=1.0)
            await relay.start()
            await consumer.start()
            await bus.publish([new_event(number, f"k{number % 3}") for number in range(12)])
            await wait_until_handled(9)
            await wait_until_published(bus, DEAD, 1)
            # 5 is broken: 8 and 11 have its key and wait behind it.
            assert sorted(handled) == [(number, 0) for number in (0, 1, 2, 3, 4, 6, 7, 9, 10)]
            async with database.read() as session:
                dead = (await list_parked(session, TENANT, None, 50)).items
            assert [(row["event"]["id"][-2:], row["state"]) for row in dead] == [
                ("05", "failed"), ("08", "waiting"), ("11", "waiting"),
            ]  # fmt: skip
            broken.clear()
            await replay_parked(database, {"test.consumer": consumer}, TENANT, dead[0]["id"])
            assert handled[9:] == [(5, 1), (8, 1), (11, 1)]
            handled.clear()
            generation = await consumer.replay(begin)
            assert sorted(handled) == [(number, generation) for number in range(12)]
            await consumer.stop()
            await relay.stop()

    async def test_a_bus_that_is_not_started_says_so(self, place: Place) -> None:
        bus = make_bus(place)
        for attempt in (bus.publish([new_event(1)]), bus.ping(), bus.lag([CREDENTIAL], "g")):
            with pytest.raises(SuiteError) as raised:
                await attempt
            assert raised.value.code == "bus.unavailable"
        await bus.start()
        await bus.ping()
        await bus.stop()
        with pytest.raises(SuiteError):
            await bus.publish([new_event(1)])


async def wait_a_moment() -> None:
    """Between two publishes of a load that lasts as long as it has to."""
    await asyncio.sleep(0.02)


async def wait_until_lag(bus: Bus, group: str, lag: int) -> None:
    async with asyncio.timeout(15):
        while await bus.lag([CREDENTIAL], group) != lag:  # noqa: ASYNC110 - a lag tells nobody
            await asyncio.sleep(0.02)


async def wait_until_published(bus: Bus, topic: str, count: int) -> None:
    begin = CLOCK.now() - timedelta(minutes=1)
    async with asyncio.timeout(15):
        while len([each async for each in bus.history(topic, begin)]) < count:  # noqa: ASYNC110 - a log tells nobody
            await asyncio.sleep(0.02)


async def publish_until_refused(bus: Bus, event: Event) -> None:
    """A broker goes by a changed setting a moment later."""
    async with asyncio.timeout(WAIT_S):
        while True:
            await bus.publish([event])


class TestKafka:
    """What only a broker can do: go away, and hold topics that somebody else made."""

    async def test_a_broker_that_goes_away_and_comes_back(
        self, private_kafka: ProcessServer, topic_prefix: str
    ) -> None:
        place = {"bootstrap": private_kafka.address, "prefix": topic_prefix}
        grouped, followed, tailed = Seen(), Seen(), Seen()
        tasks = asyncio.all_tasks()
        async with started(make_bus(place, publish_timeout_ms=2_000)) as bus:
            await bus.consume([CREDENTIAL], "g", grouped)
            await bus.broadcast([CREDENTIAL], followed)
            await bus.tail([CREDENTIAL], tailed)
            await bus.publish(several(0, 20))
            for seen in (grouped, followed, tailed):
                await seen.wait_for(*range(20))
            await asyncio.to_thread(private_kafka.stop)
            asked = CLOCK.monotonic()
            for attempt in (bus.publish(several(20, 30)), bus.ping(), anext(bus.history(CREDENTIAL, CLOCK.now()))):
                with pytest.raises(SuiteError) as raised:
                    await attempt
                assert raised.value.code == "bus.unavailable"
            assert CLOCK.monotonic() - asked < 8
            await asyncio.to_thread(private_kafka.start)
            await wait_until_accepted(bus, several(30, 40))
            for seen in (grouped, followed, tailed):
                await seen.wait_for(*range(30, 40))
            await bus.ping()
            for seen in (grouped, followed, tailed):
                in_order = {key: first_sights(numbers, 30) for key, numbers in seen.by_key.items()}
                assert {key: numbers for key, numbers in in_order.items() if numbers} == expected_by_key(30, 40)
            await asyncio.to_thread(private_kafka.kill)
            async with asyncio.timeout(20):
                await bus.stop()
            assert asyncio.all_tasks() == tasks

    async def test_a_broker_that_is_not_there(self) -> None:
        bus = make_bus({"bootstrap": f"127.0.0.1:{free_port()}", "prefix": ""})
        with pytest.raises(SuiteError) as raised:
            await bus.start()
        assert raised.value.code == "bus.unavailable"

    @pytest.mark.parametrize(
        ("change", "said"),
        [({"partitions": PARTITIONS + 1}, "--partitions 5"), ({"compacted": True}, "cleanup.policy=compact")],
    )
    async def test_a_topic_that_differs_is_refused(
        self, kafka_bootstrap: str, topic_prefix: str, change: dict[str, Any], said: str
    ) -> None:
        place = {"bootstrap": kafka_bootstrap, "prefix": topic_prefix}
        async with started(make_bus(place)):
            wanted = [replace(row, **change) if row.name == CREDENTIAL else row for row in small_topics()]
            other = make_bus(place, topics=wanted)
            with pytest.raises(SuiteError) as raised:
                await other.start()
            assert raised.value.code == "bus.topic-mismatch"
            assert said in f"{raised.value.detail}"
            assert topic_prefix + CREDENTIAL in f"{raised.value.detail}"

    async def test_topics_have_their_retention_and_two_replicas_may_start_at_once(
        self, kafka_bootstrap: str, topic_prefix: str
    ) -> None:
        place = {"bootstrap": kafka_bootstrap, "prefix": topic_prefix}
        async with AsyncExitStack() as stack:
            async with asyncio.TaskGroup() as group:
                for _ in range(2):
                    group.create_task(stack.enter_async_context(started(make_bus(place))))
            admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
            await admin.start()
            names = [topic_prefix + row.name for row in small_topics()]
            asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
            (answer,) = await admin.describe_configs(asked)
            await admin.close()
            found = {row[3]: {entry[0]: entry[1] for entry in row[4]} for row in answer.resources}
            for row in small_topics():
                settings = found[topic_prefix + row.name]
                assert settings["retention.ms"] == str(row.retention_ms)
                assert settings["cleanup.policy"] == ("compact" if row.compacted else "delete")

    async def test_a_replication_that_the_cluster_can_not_give_is_named(
        self, kafka_bootstrap: str, topic_prefix: str
    ) -> None:
        bus = make_bus({"bootstrap": kafka_bootstrap, "prefix": topic_prefix}, replication_factor=9)
        with pytest.raises(SuiteError, match="PS_BUS_REPLICATION_FACTOR=9") as raised:
            await bus.start()
        assert raised.value.code == "start.bad-setting"

    async def test_a_topic_that_takes_less_than_an_event_is_refused_and_named_later(
        self, kafka_bootstrap: str, topic_prefix: str
    ) -> None:
        place = {"bootstrap": kafka_bootstrap, "prefix": topic_prefix}
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
        async with started(make_bus(place)) as bus:
            await admin.start()
            small = ConfigResource(
                ConfigResourceType.TOPIC, topic_prefix + CREDENTIAL, configs={"max.message.bytes": "1000"}
            )
            await admin.alter_configs([small])
            await admin.close()
            with pytest.raises(SuiteError, match=r"max\.message\.bytes"):
                await publish_until_refused(bus, new_event(1, data={"credential": "x" * 5000}))
            other = make_bus(place)
            with pytest.raises(SuiteError, match=r"max\.message\.bytes=1000") as raised:
                await other.start()
            assert raised.value.code == "bus.topic-mismatch"


class TestSqlite:
    """What Kafka does by itself: compaction, retention, a file that is shared by processes."""

    async def test_compaction_leaves_the_newest_of_each_key_and_young_tombstones(self, tmp_path: Path) -> None:
        clock = FixedClock(datetime(2026, 3, 1, tzinfo=UTC))
        async with started(SqliteBus(tmp_path, clock, SystemIds(), topics=small_topics())) as bus:
            assert isinstance(bus, SqliteBus)
            for number in range(30):
                await bus.publish([new_event(number, f"int_{number % 3}", CHANGED)])
            await bus.publish([new_event(30, "int_0", CHANGED, deleted=True)])
            await bus.clean()
            assert await kept(bus) == [28, 29, 30]
            clock.advance(25 * 60 * 60)
            await bus.clean()
            assert await kept(bus) == [28, 29]
            seen = Seen()
            await bus.broadcast([CHANGED], seen)
            await bus.publish([new_event(31, "int_1", CHANGED)])
            await seen.wait_for(31)
            assert seen.numbers == [28, 29, 31]

    async def test_what_is_past_its_retention_is_gone_and_readers_go_on(self, tmp_path: Path) -> None:
        clock = FixedClock(datetime(2026, 3, 1, tzinfo=UTC))
        async with started(SqliteBus(tmp_path, clock, SystemIds(), topics=small_topics(), **QUICK)) as bus:
            assert isinstance(bus, SqliteBus)
            await bus.publish(several(0, 2_500))
            clock.advance(15 * 24 * 60 * 60)
            await bus.clean()
            assert await bus.lag([CREDENTIAL], "g") == 0
            seen, followed = Seen(), Seen()
            await bus.consume([CREDENTIAL], "g", seen)
            async with asyncio.timeout(10):
                await bus.broadcast([CREDENTIAL], followed)
            await bus.publish(several(2_500, 2_520))
            await seen.wait_for(*range(2_500, 2_520))
            await followed.wait_for(*range(2_500, 2_520))
            assert seen.by_key == followed.by_key == expected_by_key(2_500, 2_520)

    async def test_a_member_that_was_taken_for_dead_comes_back(self, tmp_path: Path) -> None:
        late = FixedClock(CLOCK.now() - timedelta(minutes=1))
        one, two = Seen(), Seen()
        topics = small_topics()
        async with (
            started(SqliteBus(tmp_path, late, SystemIds(), topics=topics, **QUICK)) as stalled,
            started(SqliteBus(tmp_path, CLOCK, SystemIds(), topics=topics, **QUICK)) as alive,
        ):
            await stalled.consume([CREDENTIAL], "g", one)
            await alive.consume([CREDENTIAL], "g", two)
            await alive.publish(several(0, 40))
            await two.wait_for(*range(40))
            late.advance(60)
            first = await wait_until_shared(alive, [one, two], 40)
            await wait_until(lambda: {*one.numbers, *two.numbers} == set(range(first)))
        assert two.by_key.keys() == set(KEYS)

    async def test_the_directory_must_be_writable(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("", "utf-8")
        with pytest.raises(SuiteError) as raised:
            await make_bus({"directory": f"{tmp_path / 'file'}"}).start()
        assert raised.value.code == "bus.unavailable"


async def kept(bus: Bus) -> list[int]:
    return [number_of(each) async for each in bus.history(CHANGED, datetime(2020, 1, 1, tzinfo=UTC))]


def first_sights(numbers: Sequence[int], first: int) -> list[int]:
    """First sights from a number on: after a broker's death events may have come twice."""
    return list(dict.fromkeys(number for number in numbers if number >= first))


async def wait_until_accepted(bus: Bus, events: Sequence[Event]) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                return await bus.publish(events)
            except SuiteError:
                await asyncio.sleep(0.1)
