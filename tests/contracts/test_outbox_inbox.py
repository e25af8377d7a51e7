"""Outbox, relay, inbox, parked keys: nothing lost, nothing handled twice, order per key."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from common.models.clock import FixedClock, SequenceIds
from common.models.errors import SuiteError
from common.models.events import EVENT_BYTES_MAX, Event
from common.runtime import inbox, outbox
from common.runtime.bus_sqlite import SqliteBus
from common.runtime.database import Database
from common.runtime.event_text import event_text, parse_event
from common.runtime.inbox import Consumer, Subscription, discard_parked, list_parked, replay_parked
from common.runtime.leases import Leases
from common.runtime.outbox import Relay, outbox_age
from common.runtime.system import SystemClock, SystemIds
from common.runtime.tables import INBOX, OUTBOX, PARKED
from contracts.conftest import NewDatabase
from contracts.recorded_bus import (
    AT,
    CREDENTIAL,
    MEASURED,
    RECEIVED,
    TENANT,
    RecordedBus,
    deliveries,
    new_event,
)

OTHER_TENANT = "ten_01h455vb4pex5vsknk084sn02r"


@asynccontextmanager
async def relaying(database: Database, bus: Any, clock: Any = None) -> AsyncIterator[Relay]:
    clock = clock or SystemClock()
    relay = Relay(database, bus, Leases(database, clock, SystemIds()), clock, lease_ttl_s=1.0)
    await relay.start()
    try:
        yield relay
    finally:
        await relay.stop()


async def add(database: Database, *events: Event) -> None:
    async with database.write() as session:
        await outbox.add(session, events)


async def count(database: Database, table: Any) -> int:
    async with database.read() as session:
        return int((await session.execute(select(func.count()).select_from(table))).scalar_one())


async def wait_until_marked(database: Database, relay: Relay) -> None:
    async with asyncio.timeout(10):
        while await relay.pending():  # noqa: ASYNC110 - only the rows tell
            await asyncio.sleep(0.01)


class TestOutbox:
    async def test_an_event_that_no_bus_takes_fails_its_transaction(self, database: Database) -> None:
        large = replace(new_event(1), data={"credential": "x" * EVENT_BYTES_MAX})
        with pytest.raises(SuiteError, match=r"bus\.event-too-large") as raised:
            await add(database, new_event(2), large)
        assert not raised.value.transient
        assert await count(database, OUTBOX) == 0

    async def test_what_is_committed_is_published_in_order_of_the_key(self, database: Database) -> None:
        bus = RecordedBus()
        async with relaying(database, bus) as relay:
            for first in range(0, 50, 10):
                await add(database, *(new_event(n, f"k{n % 3}") for n in range(first, first + 10)))
            await bus.wait_until_published(50)
            await wait_until_marked(database, relay)
        assert bus.ids(CREDENTIAL) == [new_event(n).id for n in range(50)]
        assert bus.published[7][1] == new_event(7, "k1")

    async def test_what_is_rolled_back_is_not(self, database: Database) -> None:
        bus = RecordedBus()
        async with relaying(database, bus):
            with pytest.raises(RuntimeError):  # noqa: PT012 - the block is one transaction
                async with database.write() as session:
                    await outbox.add(session, [new_event(1)])
                    raise RuntimeError
            await add(database, new_event(2))
            await bus.wait_until_published(1)
        assert bus.ids(CREDENTIAL) == [new_event(2).id]

    async def test_more_than_a_batch(self, database: Database) -> None:
        bus = RecordedBus()
        total = outbox.BATCH_EVENTS_MAX * 2 + 3
        await add(database, *(new_event(n) for n in range(total)))
        async with relaying(database, bus) as relay:
            await bus.wait_until_published(total)
            await wait_until_marked(database, relay)
        assert bus.ids(CREDENTIAL) == [new_event(n).id for n in range(total)]

    async def test_a_topic_that_is_refused_holds_up_no_other_and_is_caught_up(self, database: Database) -> None:
        bus = RecordedBus(refused={CREDENTIAL})
        async with relaying(database, bus) as relay:
            await add(database, new_event(1), new_event(2, topic=RECEIVED), new_event(3))
            await bus.wait_until_published(1)
            await bus.wait_until_refused(2)
            assert [topic for topic, _ in bus.published] == [RECEIVED]
            bus.refused.clear()
            await bus.wait_until_published(3)
            await wait_until_marked(database, relay)
        assert bus.ids(CREDENTIAL) == [new_event(1).id, new_event(3).id]

    async def test_a_row_that_this_code_can_not_read_waits_and_holds_up_its_topic_only(
        self, database: Database
    ) -> None:
        bus = RecordedBus()
        await add(database, new_event(1), new_event(2, topic=RECEIVED))
        newer = event_text(new_event(1)).replace("ps.credential.refreshed", "ps.credential.of-a-newer-version")
        async with database.write() as session:
            await session.execute(update(OUTBOX).where(OUTBOX.c.topic == CREDENTIAL).values(event=newer))
        async with relaying(database, bus) as relay:
            await bus.wait_until_published(1)
            assert await relay.pending() >= 1
        assert bus.ids(CREDENTIAL) == []

    async def test_a_crash_before_the_mark_publishes_again(self, new_database: NewDatabase) -> None:
        database = new_database()
        await database.open()
        published = asyncio.Event()

        class DyingBus(RecordedBus):
            async def publish(self, events: Sequence[Event], *, topic: str | None = None) -> None:
                await super().publish(events, topic=topic)
                await database.close()  # this replica gets no further
                published.set()

        dying = DyingBus()
        await add(database, new_event(1), new_event(2))
        async with relaying(database, dying):
            await published.wait()
        database = new_database()
        await database.open()
        bus = RecordedBus()
        async with relaying(database, bus):
            await bus.wait_until_published(2)
        await database.close()
        assert dying.ids(CREDENTIAL) == bus.ids(CREDENTIAL) == [new_event(1).id, new_event(2).id]

    async def test_of_two_relays_one_works(self, new_database: NewDatabase) -> None:
        bus = RecordedBus()
        first, second = new_database(), new_database()
        await first.open()
        await second.open()
        async with relaying(first, bus), relaying(second, bus) as relay:
            for number in range(20):
                await add(second if number % 2 else first, new_event(number))
            await bus.wait_until_published(20)
            await wait_until_marked(second, relay)
        assert bus.ids(CREDENTIAL) == [new_event(n).id for n in range(20)]
        await first.close()
        await second.close()

    async def test_age_and_count_of_what_waits(self, database: Database) -> None:
        async with database.read() as session:
            assert await outbox_age(session, AT) == 0.0
        earlier = replace(new_event(2, topic=RECEIVED), time=AT - timedelta(seconds=30))
        await add(database, new_event(1), earlier)
        async with database.read() as session:
            assert await outbox_age(session, AT + timedelta(seconds=60)) == 90.0
        assert (
            await Relay(
                database, RecordedBus(), Leases(database, FixedClock(AT), SequenceIds()), FixedClock(AT)
            ).pending()
            == 2
        )

    async def test_published_rows_go_after_an_hour(self, database: Database) -> None:
        bus, clock = RecordedBus(), FixedClock(SystemClock().now())
        await add(database, new_event(1), new_event(2))
        async with relaying(database, bus, clock) as relay:
            await bus.wait_until_published(2)
            await wait_until_marked(database, relay)
            clock.advance(outbox.KEPT_S + 1)
            database.outbox_added.set()
            async with asyncio.timeout(10):
                while await count(database, OUTBOX):
                    await asyncio.wait({asyncio.create_task(relay.pending())})
        assert await count(database, OUTBOX) == 0


class Handled:
    """A handler that notes what it handled, and fails for the events it is told to."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.events: list[Event] = []
        self.broken: dict[str, Exception] = {}
        self.batches: list[int] = []

    async def __call__(self, session: AsyncSession, events: Sequence[Event]) -> None:
        self.batches.append(len(events))
        for event in events:
            if event.id in self.broken:
                raise self.broken[event.id]
        handled = list(events)
        self.database.after_commit(session, lambda: self.events.extend(handled))

    @property
    def numbers(self) -> list[int]:
        return [int(event.id.removeprefix("evt_")) for event in self.events]


@pytest.fixture
def handled(database: Database) -> Handled:
    return Handled(database)


@pytest.fixture
def consumer(database: Database, handled: Handled) -> Consumer:
    return new_consumer(database, handled)


def new_consumer(database: Database, handled: Handled, name: str = "test.consumer") -> Consumer:
    topics = (CREDENTIAL, RECEIVED, MEASURED)
    subscription = Subscription(topics=topics, consumer=name, handler=handled)
    return Consumer(RecordedBus(), database, FixedClock(AT), SystemIds(), subscription)  # type: ignore[arg-type]


async def parked(database: Database, tenant: str = TENANT) -> list[dict[str, Any]]:
    async with database.read() as session:
        return list((await list_parked(session, tenant, None, 500)).items)


def broken(number: int, error: Exception | None = None) -> dict[str, Exception]:
    return {new_event(number).id: error or ValueError("a patient's name")}


class TestInbox:
    async def test_a_batch_is_one_transaction_and_redelivery_does_nothing(
        self, consumer: Consumer, handled: Handled, database: Database
    ) -> None:
        batch = deliveries(*(new_event(n, f"k{n % 2}") for n in range(5)), new_event(2))
        await consumer.handle(batch)
        await consumer.handle(batch)
        assert handled.numbers == [0, 1, 2, 3, 4]
        assert handled.batches == [5]
        await new_consumer(database, handled, "another").handle(batch[:1])
        assert handled.numbers == [0, 1, 2, 3, 4, 0]

    async def test_changes_and_events_of_the_handler_commit_with_the_batch(self, database: Database) -> None:
        async def answer(session: AsyncSession, events: Sequence[Event]) -> None:
            await outbox.add(session, [replace(event, id=event.id.replace("evt_0", "evt_1")) for event in events])
            if len(events) > 1:
                raise ValueError("only one at a time")

        subscription = Subscription(topics=(CREDENTIAL,), consumer="test.answer", handler=answer)
        await Consumer(RecordedBus(), database, FixedClock(AT), SystemIds(), subscription).handle(  # type: ignore[arg-type]
            deliveries(new_event(1), new_event(2))
        )
        assert await count(database, OUTBOX) == 2
        assert await count(database, INBOX) == 2

    async def test_one_bad_event_is_found_parked_and_reported(
        self, consumer: Consumer, handled: Handled, database: Database
    ) -> None:
        handled.broken = broken(5)
        await consumer.handle(deliveries(*(new_event(n, f"k{n}") for n in range(16))))
        assert handled.numbers == [n for n in range(16) if n != 5]
        (dead,) = await parked(database)
        assert (dead["event"]["id"], dead["state"], dead["error_code"]) == (new_event(5).id, "failed", "internal.error")
        assert (dead["consumer"], dead["topic"], dead["attempts"]) == ("test.consumer", CREDENTIAL, 3)
        assert "patient" not in str(dead)
        async with database.read() as session:
            row = (await session.execute(select(OUTBOX))).one()
        assert (row.topic, row.reason, row.created_at) == (f"{CREDENTIAL}.dlq", "internal.error", AT)
        assert parse_event(row.event) == new_event(5, "k5")
        assert await parked(database, OTHER_TENANT) == []

    @pytest.mark.parametrize(
        "error", [SuiteError("peer.unavailable"), SuiteError("database.unavailable"), ConnectionResetError()], ids=repr
    )
    async def test_a_transient_failure_is_raised_and_parks_nothing(
        self, consumer: Consumer, handled: Handled, database: Database, error: Exception
    ) -> None:
        handled.broken = broken(1, error)
        batch = deliveries(new_event(0), new_event(1), new_event(2))
        for _ in range(5):
            with pytest.raises((SuiteError, OSError)):
                await consumer.handle(batch)
        assert (handled.numbers, await count(database, PARKED), await count(database, INBOX)) == ([], 0, 0)
        handled.broken = {}
        await consumer.handle(batch)
        assert handled.numbers == [0, 1, 2]

    async def test_later_events_of_a_parked_key_wait_behind_it_on_every_replica(
        self, consumer: Consumer, handled: Handled, database: Database
    ) -> None:
        handled.broken = broken(1)
        await consumer.handle(deliveries(new_event(1, "a"), new_event(2, "b"), new_event(3, "a")))
        other = new_consumer(database, handled)
        await other.handle(
            deliveries(
                new_event(4, "a"),
                new_event(5, "b"),
                new_event(6, "a", RECEIVED),
                new_event(7, "a", tenant=OTHER_TENANT),
            )
        )
        assert handled.numbers == [2, 5, 6, 7]
        waiting = [(item["event"]["id"][-1], item["state"], item["error_code"]) for item in await parked(database)]
        assert waiting == [("1", "failed", "internal.error"), ("3", "waiting", None), ("4", "waiting", None)]

    async def test_an_event_without_a_key_parks_nothing_but_itself(
        self, consumer: Consumer, handled: Handled, database: Database
    ) -> None:
        handled.broken = broken(1)
        await consumer.handle(deliveries(new_event(1, ""), new_event(2, "")))
        await consumer.handle(deliveries(new_event(3, "")))
        assert handled.numbers == [2, 3]
        assert len(await parked(database)) == 1

    async def test_telemetry_that_can_not_be_handled_is_dropped(
        self, consumer: Consumer, handled: Handled, database: Database
    ) -> None:
        handled.broken = broken(1)
        await consumer.handle(deliveries(new_event(1, "", MEASURED), new_event(2, "", MEASURED)))
        assert handled.numbers == [2]
        assert (await count(database, PARKED), await count(database, OUTBOX)) == (0, 0)

    async def test_replay_of_a_key_goes_on_until_one_fails(
        self, consumer: Consumer, handled: Handled, database: Database
    ) -> None:
        handled.broken = broken(1) | broken(3, SuiteError("hl7.authority-unmapped"))
        await consumer.handle(deliveries(*(new_event(n, "a") for n in range(1, 6))))
        dead = await parked(database)
        consumers = {consumer.name: consumer}
        outcome = await replay_parked(database, consumers, TENANT, dead[2]["id"])
        assert (outcome.handled, outcome.remaining, outcome.error_code) == (0, 5, "internal.error")
        del handled.broken[new_event(1).id]
        outcome = await replay_parked(database, consumers, TENANT, dead[0]["id"])
        assert (outcome.handled, outcome.remaining, outcome.error_code) == (2, 3, "hl7.authority-unmapped")
        assert [(event.id[-1], event.generation) for event in handled.events] == [("1", 1), ("2", 1)]
        assert (await parked(database))[0]["error_code"] == "hl7.authority-unmapped"
        await consumer.handle(deliveries(new_event(6, "a")))
        handled.broken = {}
        outcome = await replay_parked(database, consumers, TENANT, dead[2]["id"])
        assert (outcome.handled, outcome.remaining, outcome.error_code) == (4, 0, None)
        await consumer.handle(deliveries(new_event(6, "a"), new_event(7, "a")))
        assert handled.numbers == [1, 2, 3, 4, 5, 6, 7]

    async def test_discard_drops_one_and_lets_the_key_go_on(
        self, consumer: Consumer, handled: Handled, database: Database
    ) -> None:
        handled.broken = broken(1)
        await consumer.handle(deliveries(*(new_event(n, "a") for n in range(1, 5))))
        dead = await parked(database)
        consumers = {consumer.name: consumer}
        outcome = await discard_parked(database, consumers, TENANT, dead[2]["id"])
        assert (outcome.handled, outcome.remaining) == (0, 3)
        outcome = await discard_parked(database, consumers, TENANT, dead[0]["id"])
        assert (outcome.handled, outcome.remaining) == (2, 0)
        assert handled.numbers == [2, 4]
        assert await parked(database) == []

    async def test_dead_letters_of_others_do_not_exist(
        self, consumer: Consumer, handled: Handled, database: Database
    ) -> None:
        handled.broken = broken(1)
        await consumer.handle(deliveries(new_event(1)))
        (dead,) = await parked(database)
        for act in (replay_parked, discard_parked):
            with pytest.raises(SuiteError) as caught:
                await act(database, {consumer.name: consumer}, OTHER_TENANT, dead["id"])
            assert caught.value.code == "dead-letter.not-found"
        with pytest.raises(SuiteError) as caught:
            await replay_parked(database, {}, TENANT, dead["id"])
        assert caught.value.code == "request.conflict"
        assert (await discard_parked(database, {}, TENANT, dead["id"])).remaining == 0

    async def test_dead_letters_come_in_pages(self, consumer: Consumer, handled: Handled, database: Database) -> None:
        handled.broken = {new_event(n).id: SuiteError("keys.cannot-open") for n in range(5)}
        await consumer.handle(deliveries(*(new_event(n, f"k{n}") for n in range(5))))
        found, cursor = [], None
        for _ in range(3):
            async with database.read() as session:
                page = await list_parked(session, TENANT, cursor, 2)
            found += [item["event"]["id"][-1] for item in page.items]
            cursor = page.next
        assert (found, cursor) == (["0", "1", "2", "3", "4"], None)

    async def test_replay_of_history_is_a_generation_of_its_own(self, database: Database, handled: Handled) -> None:
        bus = RecordedBus()
        await bus.publish([new_event(n, f"k{n}") for n in range(5)])
        subscription = Subscription((CREDENTIAL,), "test.consumer", handled, batch_events_max=2)
        consumer = Consumer(bus, database, FixedClock(AT), SystemIds(), subscription)  # type: ignore[arg-type]
        await consumer.handle(deliveries(*(event for _, event in bus.published)))
        assert await consumer.replay(AT) == 1
        assert await consumer.replay(AT) == 2
        assert [(event.id[-1], event.generation) for event in handled.events] == [
            (str(n), generation) for generation in range(3) for n in range(5)
        ]
        assert await consumer.replay(AT + timedelta(seconds=1)) == 3
        assert len(handled.events) == 15

    async def test_old_ids_are_forgotten_in_small_batches(
        self, consumer: Consumer, handled: Handled, database: Database
    ) -> None:
        await consumer.handle(deliveries(*(new_event(n, "") for n in range(inbox.PRUNE_ROWS_MAX + 5))))
        assert await inbox.prune(database, AT) == 0
        assert await inbox.prune(database, AT + timedelta(seconds=1)) == inbox.PRUNE_ROWS_MAX + 5
        assert await count(database, INBOX) == 0

    async def test_a_replay_and_new_events_of_the_key_keep_order(self, new_database: NewDatabase) -> None:
        first, second = new_database(), new_database()
        await first.open()
        await second.open()
        handled = Handled(first)
        handled.broken = broken(0)
        consumer, replayer = new_consumer(first, handled), new_consumer(second, handled)
        await consumer.handle(deliveries(*(new_event(n, "a") for n in range(20))))
        (dead, *_) = await parked(first)
        handled.broken = {}

        async def deliver() -> None:
            for number in range(20, 40):
                await consumer.handle(deliveries(new_event(number, "a")))

        outcome, _ = await asyncio.gather(
            replay_parked(second, {replayer.name: replayer}, TENANT, dead["id"]), deliver()
        )
        assert outcome.error_code is None
        assert handled.numbers == list(range(40))
        assert await count(first, PARKED) == 0
        await first.close()
        await second.close()

    @given(data=st.data())
    @settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
    async def test_every_key_is_handled_in_order_and_once_whatever_fails(
        self, database: Database, data: st.DataObject
    ) -> None:
        async with database.write() as session:
            for table in (INBOX, PARKED, OUTBOX):
                await session.execute(delete(table))
        handled = Handled(database)
        consumer = new_consumer(database, handled)
        keys = data.draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=20))
        bad = data.draw(st.sets(st.integers(0, len(keys) - 1), max_size=3))
        handled.broken = {new_event(n).id: SuiteError("hl7.field-missing") for n in bad}
        events = [new_event(n, key) for n, key in enumerate(keys)]
        at = 0
        while at < len(events):
            size = data.draw(st.integers(1, 6))
            again = data.draw(st.integers(0, at))
            await consumer.handle(deliveries(*events[again : at + size]))
            at += size
        for _ in range(len(bad) + 1):
            for dead in await parked(database):
                if dead["state"] == "failed":
                    handled.broken.pop(dead["event"]["id"], None)
                    await replay_parked(database, {consumer.name: consumer}, TENANT, dead["id"])
        by_key: dict[str, list[int]] = defaultdict(list)
        for event in handled.events:
            by_key[event.key].append(int(event.id.removeprefix("evt_")))
        expected = {key: [n for n, other in enumerate(keys) if other == key] for key in set(keys)}
        assert by_key == expected
        assert await parked(database) == []


async def test_from_an_outbox_over_the_bus_into_an_inbox(database: Database, tmp_path: Path) -> None:
    ids, clock = SystemIds(), SystemClock()
    bus = SqliteBus(tmp_path / "bus", clock, ids)
    await bus.start()
    handled, done = Handled(database), asyncio.Event()
    total = 300

    async def handle(session: AsyncSession, events: Sequence[Event]) -> None:
        await handled(session, events)
        database.after_commit(session, lambda: done.set() if len(handled.events) == total - 1 else None)

    handled.broken = broken(17)
    consumer = Consumer(bus, database, clock, ids, Subscription((CREDENTIAL,), "test.consumer", handle))
    await consumer.start()
    async with relaying(database, bus) as relay:
        for first in range(0, total, 50):
            await add(database, *(new_event(n, f"k{n}") for n in range(first, first + 50)))
        async with asyncio.timeout(20):
            await done.wait()
            while not await parked(database):
                await asyncio.wait({asyncio.create_task(relay.pending())})
        await wait_until_marked(database, relay)
    await consumer.stop()
    assert sorted(handled.numbers) == [n for n in range(total) if n != 17]
    assert [dead["event"]["id"] for dead in await parked(database)] == [new_event(17).id]
    letters = [delivery.event.id async for delivery in bus.history(f"{CREDENTIAL}.dlq", AT - timedelta(days=1))]
    assert letters == [new_event(17).id]
    await bus.stop()
