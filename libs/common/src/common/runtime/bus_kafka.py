"""The bus on Apache Kafka, by aiokafka; everything that matters is set explicitly, because defaults differ.

Producing: `acks=all`, idempotent. Consuming in a group: positions are committed by hand, after the handler returned;
each partition has a worker of its own, so that one failing partition holds up no other. When partitions are taken away
their workers finish the batch in hand and commit before the rebalance goes on (cooperation by the revoke callback).
Broadcast, tail and history read without a group, on partitions assigned by hand. A broker that is away is waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError

from common.models.clock import Clock, Ids
from common.models.errors import SuiteError
from common.models.events import Event, Topic, all_topics
from common.runtime.bus import (
    BACKOFF_MAX_S,
    BACKOFF_MIN_S,
    BATCH_EVENTS_MAX,
    BatchHandler,
    Delivery,
    UnreadableError,
    from_record,
    report_unreadable,
    to_record,
)

PUBLISH_TIMEOUT_MS: Final = 10_000
START_TIMEOUT_S: Final = 30.0
SESSION_TIMEOUT_MS: Final = 10_000
HEARTBEAT_MS: Final = 3_000
REVOKE_TIMEOUT_S: Final = 5.0
POLL_MS: Final = 500
PING_TIMEOUT_S: Final = 3.0
_CREATE_TRIES: Final = 20
_log = logging.getLogger("common.bus")


class KafkaBus:
    """`Bus` on a Kafka cluster."""

    def __init__(
        self,
        bootstrap: str,
        client_id: str,
        clock: Clock,
        ids: Ids,
        *,
        replication_factor: int = 1,
        security: Mapping[str, Any] | None = None,
        topic_prefix: str = "",
        publish_timeout_ms: int = PUBLISH_TIMEOUT_MS,
    ) -> None:
        self.clock = clock
        self.ids = ids
        self.prefix = topic_prefix
        self._replication_factor = replication_factor
        self._publish_timeout_s = publish_timeout_ms / 1000
        self._topics = {topic.name: topic for topic in all_topics()}
        self._connection: dict[str, Any] = {
            "bootstrap_servers": bootstrap,
            "client_id": client_id,
            "request_timeout_ms": publish_timeout_ms,
            "retry_backoff_ms": 100,
            **(security or {}),
        }
        self._producer: AIOKafkaProducer | None = None
        self._readers: set[_Reader] = set()

    async def start(self) -> None:
        """Create or check the topics, then connect the producer."""
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._check_topics()
                self._producer = AIOKafkaProducer(
                    **self._connection,
                    acks="all",
                    enable_idempotence=True,
                    linger_ms=5,
                    max_batch_size=256 * 1024,
                    compression_type=None,
                )
                await self._producer.start()
        except (KafkaError, OSError, TimeoutError) as error:
            await self.stop()
            raise SuiteError("bus.unavailable", type(error).__name__) from error

    async def stop(self) -> None:
        """Stop the readers, send what waits, disconnect."""
        for reader in list(self._readers):
            await reader.stop()
        if self._producer is not None:
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                async with asyncio.timeout(REVOKE_TIMEOUT_S):
                    await self._producer.stop()
            self._producer = None

    async def publish(self, events: Sequence[Event], *, topic: str | None = None) -> None:
        """Acknowledged by all in-sync replicas when it returns."""
        if not events:
            return
        producer = self._producer
        if producer is None:
            raise SuiteError("bus.unavailable", "The bus is not started.")
        try:
            async with asyncio.timeout(self._publish_timeout_s):
                futures = []
                for event in events:
                    headers, key, value = to_record(event)
                    name = self.prefix + (topic or event.topic)
                    futures.append(await producer.send(name, value=value, key=key, headers=list(headers.items())))
                await asyncio.gather(*futures)
        except (KafkaError, OSError, TimeoutError) as error:
            raise SuiteError("bus.unavailable", type(error).__name__) from error

    async def consume(
        self, topics: Sequence[str], group: str, handler: BatchHandler, *, batch_events_max: int = BATCH_EVENTS_MAX
    ) -> _Group:
        reader = _Group(self, topics, handler, batch_events_max, group)
        await reader.start()
        return reader

    async def broadcast(self, topics: Sequence[str], handler: BatchHandler) -> _Follower:
        reader = _Follower(self, topics, handler, from_beginning=True)
        await reader.start()
        await reader.caught_up()
        return reader

    async def tail(self, topics: Sequence[str], handler: BatchHandler) -> _Follower:
        reader = _Follower(self, topics, handler, from_beginning=False)
        await reader.start()
        return reader

    async def history(self, topic: str, since: datetime) -> AsyncIterator[Delivery]:
        consumer = self.consumer()
        try:
            await consumer.start()
            places = await self.places(consumer, [topic])
            ends = await consumer.end_offsets(places)
            starts = await consumer.offsets_for_times(dict.fromkeys(places, int(since.timestamp() * 1000)))
            wanted = {
                place: found.offset
                for place, found in starts.items()
                if found is not None and found.offset < ends[place]
            }
            consumer.assign(list(wanted))
            for place, offset in wanted.items():
                consumer.seek(place, offset)
            while wanted:
                batches = await consumer.getmany(timeout_ms=POLL_MS)
                for place, records in batches.items():
                    for delivery in self.deliveries(place, records):
                        if delivery.offset < ends[place]:
                            yield delivery
                for place in list(wanted):
                    if await consumer.position(place) >= ends[place]:
                        del wanted[place]
        except (KafkaError, OSError) as error:
            raise SuiteError("bus.unavailable", type(error).__name__) from error
        finally:
            await _stop_consumer(consumer)

    async def lag(self, topics: Sequence[str], group: str) -> int:
        consumer = self.consumer(group_id=group)
        try:
            await consumer.start()
            places = await self.places(consumer, topics)
            ends = await consumer.end_offsets(places)
            begins = await consumer.beginning_offsets(places)
            total = 0
            for place in places:
                committed = await consumer.committed(place)
                total += max(0, ends[place] - (begins[place] if committed is None else committed))
            return total
        except (KafkaError, OSError) as error:
            raise SuiteError("bus.unavailable", type(error).__name__) from error
        finally:
            await _stop_consumer(consumer)

    async def ping(self) -> None:
        producer = self._producer
        if producer is None:
            raise SuiteError("bus.unavailable", "The bus is not started.")
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                found = await producer.client.fetch_all_metadata()
        except (KafkaError, OSError, TimeoutError) as error:
            raise SuiteError("bus.unavailable", type(error).__name__) from error
        if not found.brokers():
            raise SuiteError("bus.unavailable")

    def consumer(self, **settings: Any) -> AIOKafkaConsumer:
        """A consumer with this bus's connection and nothing left to defaults that matter."""
        return AIOKafkaConsumer(
            **self._connection,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            session_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
            fetch_max_wait_ms=POLL_MS,
            metadata_max_age_ms=30_000,
            **settings,
        )

    async def places(self, consumer: AIOKafkaConsumer, topics: Sequence[str]) -> list[TopicPartition]:
        """All partitions of topics."""
        found: list[TopicPartition] = []
        for name in topics:
            partitions = consumer.partitions_for_topic(self.prefix + name)
            if not partitions:
                await consumer._client.force_metadata_update()
                partitions = consumer.partitions_for_topic(self.prefix + name)
            count = self._topics[name].partitions
            found += [TopicPartition(self.prefix + name, number) for number in sorted(partitions or range(count))]
        return found

    def deliveries(self, place: TopicPartition, records: Sequence[Any]) -> list[Delivery]:
        """The readable events of records; the others are reported and skipped."""
        topic = place.topic.removeprefix(self.prefix)
        found: list[Delivery] = []
        for record in records:
            try:
                event = from_record(dict(record.headers), record.key, record.value)
            except UnreadableError as error:
                report_unreadable(topic, place.partition, record.offset, str(error))
            else:
                found.append(Delivery(event, topic, place.partition, record.offset))
        return found

    def join(self, reader: _Reader) -> None:
        """Stopped with the bus."""
        self._readers.add(reader)

    def leave(self, reader: _Reader) -> None:
        """No longer."""
        self._readers.discard(reader)

    async def _check_topics(self) -> None:
        """Create what is missing; refuse what differs in a way that breaks a promise."""
        admin = AIOKafkaAdminClient(
            **{name: self._connection[name] for name in self._connection if name != "retry_backoff_ms"}
        )
        await admin.start()
        try:
            for _ in range(_CREATE_TRIES):
                present = set(await admin.list_topics())
                missing = [topic for topic in self._topics.values() if self.prefix + topic.name not in present]
                if not missing:
                    break
                with contextlib.suppress(TopicAlreadyExistsError):  # another replica was quicker
                    await admin.create_topics([self._new_topic(topic) for topic in missing])
                await asyncio.sleep(0.2)
            else:
                raise SuiteError("bus.unavailable", "Topics could not be created.")
            await self._compare(admin)
        finally:
            await admin.close()

    def _new_topic(self, topic: Topic) -> NewTopic:
        settings = {
            "cleanup.policy": "compact" if topic.compacted else "delete",
            "retention.ms": str(topic.retention_ms),
        }
        if topic.compacted:
            settings |= {"delete.retention.ms": str(24 * 60 * 60 * 1000), "min.cleanable.dirty.ratio": "0.1"}
        return NewTopic(self.prefix + topic.name, topic.partitions, self._replication_factor, topic_configs=settings)

    async def _compare(self, admin: AIOKafkaAdminClient) -> None:
        names = [self.prefix + name for name in self._topics]
        described = {row["topic"]: len(row["partitions"]) for row in await admin.describe_topics(names)}
        policies = await _cleanup_policies(admin, names)
        for topic in self._topics.values():
            name = self.prefix + topic.name
            if described.get(name, 0) < topic.partitions:
                raise SuiteError(
                    "bus.topic-mismatch",
                    f"{name} has {described.get(name, 0)} partitions, needed are {topic.partitions}: "
                    f"kafka-topics.sh --alter --topic {name} --partitions {topic.partitions}",
                )
            wanted = "compact" if topic.compacted else "delete"
            if policies.get(name, wanted) != wanted:
                raise SuiteError(
                    "bus.topic-mismatch",
                    f"{name} has cleanup.policy={policies[name]}, needed is {wanted}: "
                    f"kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config "
                    f"cleanup.policy={wanted}",
                )


async def _cleanup_policies(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, str]:
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, configs={"cleanup.policy": ""}) for name in names]
    policies: dict[str, str] = {}
    for response in await admin.describe_configs(resources):
        for resource in response.resources:
            error_code, _, _, name, entries = resource[:5]
            if not error_code:
                policies[name] = next((entry[1] for entry in entries if entry[0] == "cleanup.policy"), "delete")
    return policies


async def _stop_consumer(consumer: AIOKafkaConsumer) -> None:
    with contextlib.suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(REVOKE_TIMEOUT_S * 2):
            await consumer.stop()


class _Reader:
    """A consumer with a task that reads from it; connects again when the broker was away."""

    def __init__(self, bus: KafkaBus, topics: Sequence[str], handler: BatchHandler, batch_events_max: int) -> None:
        self.bus = bus
        self.topics = tuple(topics)
        self.handler = handler
        self.batch_events_max = batch_events_max
        self.stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def stop(self) -> None:
        """Finish the batch in hand, then stop."""
        self.stopping.set()
        self.bus.leave(self)
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def begin(self) -> None:
        """Read in the background."""
        self.bus.join(self)
        self._task = asyncio.create_task(self._forever(), name=f"kafka-{self.topics[0]}")

    async def _forever(self) -> None:
        backoff_s = BACKOFF_MIN_S
        while not self.stopping.is_set():
            try:
                await self.read()
                backoff_s = BACKOFF_MIN_S
            except (KafkaError, OSError, SuiteError) as error:
                _log.warning(
                    "bus is read again later", extra={"topic": self.topics[0], "error_type": type(error).__name__}
                )
            await self.pause(backoff_s * (0.5 + self.bus.ids.fraction()))
            backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)

    async def read(self) -> None:
        """Connect and read until stopping; raises when the broker is away."""
        raise SuiteError("internal.error", "A reader says how it reads.")

    async def pause(self, seconds: float) -> None:
        """Until stopping, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stopping.wait()


class _Follower(_Reader):
    """Reads all partitions without a group; its places live in memory and survive a lost connection."""

    def __init__(self, bus: KafkaBus, topics: Sequence[str], handler: BatchHandler, *, from_beginning: bool) -> None:
        super().__init__(bus, topics, handler, BATCH_EVENTS_MAX)
        self._from_beginning = from_beginning
        self._next: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._caught_up = asyncio.Event()

    async def start(self) -> None:
        """Note where everything ends now, then read."""
        consumer = self.bus.consumer()
        try:
            await consumer.start()
            places = await self.bus.places(consumer, self.topics)
            self._ends = dict(await consumer.end_offsets(places))
            self._next = dict(await consumer.beginning_offsets(places)) if self._from_beginning else dict(self._ends)
        except (KafkaError, OSError) as error:
            raise SuiteError("bus.unavailable", type(error).__name__) from error
        finally:
            await _stop_consumer(consumer)
        self._note_progress()
        self.begin()

    async def caught_up(self) -> None:
        """Until all that was there at the start has been handled."""
        await self._caught_up.wait()

    async def read(self) -> None:
        consumer = self.bus.consumer()
        try:
            await consumer.start()
            consumer.assign(list(self._next))
            for place, offset in self._next.items():
                consumer.seek(place, offset)
            while not self.stopping.is_set():
                batches = await consumer.getmany(timeout_ms=POLL_MS, max_records=self.batch_events_max)
                for place, records in batches.items():
                    await self._handle(place, records)
                for place in self._ends:
                    self._next[place] = max(self._next[place], await consumer.position(place))
                self._note_progress()
        finally:
            await _stop_consumer(consumer)

    async def _handle(self, place: TopicPartition, records: Sequence[Any]) -> None:
        found = self.bus.deliveries(place, records)
        backoff_s = BACKOFF_MIN_S
        while found and not self.stopping.is_set():
            try:
                await self.handler(found)
                break
            except Exception as error:  # noqa: BLE001 - whatever a handler raises, reading goes on
                _log.warning("handler failed", extra={"topic": self.topics[0], "error_type": type(error).__name__})
                if not self._from_beginning:
                    break  # a tail drops what its handler can not take
                await self.pause(backoff_s)
                backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)
        self._next[place] = records[-1].offset + 1

    def _note_progress(self) -> None:
        if all(self._next[place] >= end for place, end in self._ends.items()):
            self._caught_up.set()


class _Group(_Reader, ConsumerRebalanceListener):  # type: ignore[misc]
    """A member of a consumer group: a queue and a worker per partition."""

    def __init__(
        self, bus: KafkaBus, topics: Sequence[str], handler: BatchHandler, batch_events_max: int, group: str
    ) -> None:
        super().__init__(bus, topics, handler, batch_events_max)
        self._group = group
        self._consumer: AIOKafkaConsumer | None = None
        self._workers: dict[TopicPartition, _Worker] = {}

    async def start(self) -> None:
        """Join in the background: a broker that is away is waited for."""
        self.begin()

    async def read(self) -> None:
        consumer = self.bus.consumer(group_id=self._group)
        self._consumer = consumer
        consumer.subscribe([self.bus.prefix + topic for topic in self.topics], listener=self)
        try:
            await consumer.start()
            while not self.stopping.is_set():
                # A worker that has enough to do is paused, so that memory is bounded by two batches per partition.
                batches = await consumer.getmany(timeout_ms=POLL_MS, max_records=self.batch_events_max)
                for place, records in batches.items():
                    worker = self._workers.get(place)
                    if worker is None:
                        worker = self._workers[place] = _Worker(self, consumer, place)
                    await worker.put(records)
        finally:
            await self._end(list(self._workers))
            await _stop_consumer(consumer)
            self._consumer = None

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Before a rebalance goes on: batches in hand are finished and committed."""
        await self._end(list(revoked))

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """Nothing to prepare: workers begin with their first records."""

    async def _end(self, places: Sequence[TopicPartition]) -> None:
        workers = [self._workers.pop(place) for place in places if place in self._workers]
        await asyncio.gather(*(worker.end() for worker in workers))


class _Worker:
    """Handles one partition's records in order, and commits after each batch."""

    def __init__(self, group: _Group, consumer: AIOKafkaConsumer, place: TopicPartition) -> None:
        self._group = group
        self._consumer = consumer
        self._place = place
        self._waiting: list[Any] = []
        self._wake = asyncio.Event()
        self._ending = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=f"kafka-{place.topic}-{place.partition}")

    async def put(self, records: Sequence[Any]) -> None:
        """Records to handle; reading this partition pauses while a whole batch waits."""
        self._waiting += records
        if len(self._waiting) >= self._group.batch_events_max:
            self._consumer.pause(self._place)
        self._wake.set()

    async def end(self) -> None:
        """Finish the batch in hand; what still waits is another's."""
        self._ending.set()
        self._wake.set()
        done, late = await asyncio.wait({self._task}, timeout=REVOKE_TIMEOUT_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*done, *late, return_exceptions=True)

    async def _run(self) -> None:
        while not self._ending.is_set():
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
                continue
            size = self._group.batch_events_max
            batch, self._waiting = self._waiting[:size], self._waiting[size:]
            if len(self._waiting) < size and self._place in self._consumer.paused():
                self._consumer.resume(self._place)
            await self._handle(batch)

    async def _handle(self, records: Sequence[Any]) -> None:
        found = self._group.bus.deliveries(self._place, records)
        backoff_s = BACKOFF_MIN_S
        while not self._ending.is_set():
            try:
                if found:
                    await self._group.handler(found)
                await self._commit(records[-1].offset + 1)
                return
            except Exception as error:  # noqa: BLE001 - whatever a handler raises means: again, later
                code = error.code if isinstance(error, SuiteError) else "internal.error"
                _log.warning(
                    "batch will be delivered again",
                    extra={
                        "topic": self._place.topic, "partition": self._place.partition, "consumer": self._group._group,
                        "code": code, "error_type": type(error).__name__,
                    },
                )  # fmt: skip
                await self._pause(backoff_s * (0.5 + self._group.bus.ids.fraction()))
                backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)

    async def _commit(self, offset: int) -> None:
        """Failing to commit is no failure of the batch: it may be delivered again, which the inbox knows."""
        try:
            await self._consumer.commit({self._place: offset})
        except (KafkaError, OSError) as error:
            _log.info("position not committed", extra={"topic": self._place.topic, "error_type": type(error).__name__})

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ending.wait()
