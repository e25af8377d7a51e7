"""The bus on Apache Kafka, by aiokafka; everything that matters is set explicitly, because defaults differ.

Producing: `acks=all`, idempotent. Consuming in a group: each partition has a worker of its own that takes a batch,
handles it and commits by hand, so that one failing partition holds up no other and nothing waits in memory but what
the client has fetched. When partitions are taken away their workers finish the batch in hand and commit before the
rebalance goes on. Broadcast, tail and history read without a group, on partitions assigned by hand. A broker that is
away is waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    InvalidReplicationFactorError,
    KafkaError,
    MessageSizeTooLargeError,
    TopicAlreadyExistsError,
    for_code,
)

from common.models.clock import Clock, Ids
from common.models.errors import SuiteError
from common.models.events import EVENT_BYTES_MAX, Event, Topic, all_topics
from common.runtime.bus import (
    BACKOFF_MAX_S,
    BACKOFF_MIN_S,
    BATCH_EVENTS_MAX,
    BATCH_TIMEOUT_S,
    BatchHandler,
    Delivery,
    UnreadableError,
    end_tasks,
    from_record,
    report_again,
    report_unreadable,
    to_record,
)

PUBLISH_TIMEOUT_MS: Final = 10_000
RECORD_BYTES_MAX: Final = 2 * EVENT_BYTES_MAX
"""The largest event with its headers, and room for what a batch adds."""
BATCH_BYTES_MAX: Final = 1024 * 1024
START_TIMEOUT_S: Final = 30.0
SESSION_TIMEOUT_MS: Final = 10_000
HEARTBEAT_MS: Final = 1_000  # a member learns of a rebalance by its heartbeat
REBALANCE_TIMEOUT_MS: Final = 30_000
# Handlers may take as long as they need: the heartbeat alone says whether a member is alive.
HANDLING_MS_MAX: Final = 24 * 60 * 60 * 1000
COMMIT_TIMEOUT_S: Final = 5.0
STOP_TIMEOUT_S: Final = 5.0
POLL_MS: Final = 500
WORKER_POLL_MS: Final = 60_000
GROUP_POLL_MS: Final = 5_000
PING_TIMEOUT_S: Final = 3.0
_CREATE_TRIES: Final = 50
_CREATE_PAUSE_S: Final = 0.1
_ANSWERED_WITH: Final = (KafkaError, OSError, TimeoutError)
_NOWHERE: Final = TopicPartition("", 0)
_log = logging.getLogger("common.bus")
T = TypeVar("T")


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
        topics: Sequence[Topic] | None = None,
        topic_prefix: str = "",
        publish_timeout_ms: int = PUBLISH_TIMEOUT_MS,
        session_timeout_ms: int = SESSION_TIMEOUT_MS,
    ) -> None:
        self.clock = clock
        self.ids = ids
        self.prefix = topic_prefix
        self._replication_factor = replication_factor
        self._publish_timeout_s = publish_timeout_ms / 1000
        self._session_timeout_ms = session_timeout_ms
        self._topics = {topic.name: topic for topic in topics or all_topics()}
        self._connection: dict[str, Any] = {
            "bootstrap_servers": bootstrap,
            "client_id": client_id,
            "request_timeout_ms": publish_timeout_ms,
            "retry_backoff_ms": 100,
            **(security or {}),
        }
        self._producer: AIOKafkaProducer | None = None
        self._readers: set[_Reader] = set()
        self.unreadable: Counter[str] = Counter()

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
                    max_batch_size=RECORD_BYTES_MAX,
                    max_request_size=BATCH_BYTES_MAX,
                    compression_type=None,
                )
                await self._producer.start()
        except _ANSWERED_WITH as error:
            await self.stop()
            raise SuiteError("bus.unavailable", type(error).__name__) from error
        except SuiteError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop the readers, send what waits, disconnect."""
        await asyncio.gather(*(reader.stop() for reader in list(self._readers)))
        if self._producer is not None:
            await end_tasks([asyncio.create_task(self._producer.stop())], STOP_TIMEOUT_S)
            self._producer = None

    async def publish(self, events: Sequence[Event], *, topic: str | None = None) -> None:
        """Acknowledged by all in-sync replicas when it returns."""
        if not events:
            return
        producer = self._started()
        records = [(self.prefix + (topic or event.topic), *to_record(event)) for event in events]
        try:
            async with asyncio.timeout(self._publish_timeout_s):
                futures = [
                    await producer.send(name, value=value, key=key, headers=list(headers.items()))
                    for name, headers, key, value in records
                ]
                await asyncio.gather(*futures)
        except MessageSizeTooLargeError as error:
            # The topic's limit was lowered below ours since the start.
            detail = f"A topic's max.message.bytes is below {RECORD_BYTES_MAX}."
            raise SuiteError("bus.topic-mismatch", detail) from error
        except _ANSWERED_WITH as error:
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
        try:
            await reader.caught_up.wait()
        except asyncio.CancelledError:
            await reader.stop()
            raise
        return reader

    async def tail(self, topics: Sequence[str], handler: BatchHandler) -> _Follower:
        reader = _Follower(self, topics, handler, from_beginning=False)
        await reader.start()
        return reader

    async def history(self, topic: str, since: datetime) -> AsyncIterator[Delivery]:
        async with self.connected() as consumer:
            places = await self.places([topic])
            ends = await consumer.end_offsets(places)
            starts = await consumer.offsets_for_times(dict.fromkeys(places, int(since.timestamp() * 1000)))
            wanted = {
                place: found.offset
                for place, found in starts.items()
                if found is not None and found.offset < ends[place]
            }
            if wanted:
                consumer.assign(list(wanted))
                for place, offset in wanted.items():
                    consumer.seek(place, offset)
            silent_s = 0.0
            while wanted:
                batches = await consumer.getmany(timeout_ms=POLL_MS)
                for place, records in batches.items():
                    for delivery in self.deliveries(place, records):
                        if delivery.offset < ends[place]:
                            yield delivery
                silent_s = 0.0 if batches else silent_s + POLL_MS / 1000
                if silent_s > self._publish_timeout_s:
                    raise TimeoutError
                for place in list(wanted):
                    if await self.position(consumer, place) >= ends[place]:
                        del wanted[place]

    async def lag(self, topics: Sequence[str], group: str) -> int:
        async with self.connected(group_id=self.prefix + group) as consumer:
            places = await self.places(topics)
            ends = await consumer.end_offsets(places)
            begins = await consumer.beginning_offsets(places)
            total = 0
            for place in places:
                committed = await consumer.committed(place)
                total += max(0, ends[place] - max(begins[place], committed or 0))
            return total

    async def ping(self) -> None:
        producer = self._started()
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                found = await producer.client.fetch_all_metadata()
        except _ANSWERED_WITH as error:
            raise SuiteError("bus.unavailable", type(error).__name__) from error
        if not found.brokers():
            raise SuiteError("bus.unavailable")

    def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise SuiteError("bus.unavailable", "The bus is not started.")
        return self._producer

    def consumer(self, **settings: Any) -> AIOKafkaConsumer:
        """A consumer with this bus's connection and nothing left to defaults that matter."""
        return AIOKafkaConsumer(
            **self._connection,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            session_timeout_ms=self._session_timeout_ms,
            heartbeat_interval_ms=HEARTBEAT_MS,
            rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
            max_poll_interval_ms=HANDLING_MS_MAX,
            fetch_max_wait_ms=POLL_MS,
            metadata_max_age_ms=30_000,
            **settings,
        )

    @asynccontextmanager
    async def connected(self, **settings: Any) -> AsyncIterator[AIOKafkaConsumer]:
        """A consumer for a look; what the broker (or its absence) answers becomes SuiteError `bus.unavailable`."""
        self._started()
        consumer = self.consumer(**settings)
        try:
            async with asyncio.timeout(self._publish_timeout_s):
                await consumer.start()
            yield consumer
        except _ANSWERED_WITH as error:
            raise SuiteError("bus.unavailable", type(error).__name__) from error
        finally:
            await _stop_consumer(consumer)

    async def position(self, consumer: AIOKafkaConsumer, place: TopicPartition) -> int:
        """Where a consumer is; raises TimeoutError when its broker does not say so."""
        async with asyncio.timeout(self._publish_timeout_s):
            return int(await consumer.position(place))

    async def places(self, topics: Sequence[str]) -> list[TopicPartition]:
        """All partitions of topics."""
        producer = self._started()
        found: list[TopicPartition] = []
        for name in topics:
            async with asyncio.timeout(self._publish_timeout_s):
                numbers = await producer.partitions_for(self.prefix + name)
            found += [TopicPartition(self.prefix + name, number) for number in sorted(numbers)]
        return found

    def deliveries(self, place: TopicPartition, records: Sequence[Any]) -> list[Delivery]:
        """The readable events of records; the others are reported and skipped."""
        topic = place.topic.removeprefix(self.prefix)
        found: list[Delivery] = []
        for record in records:
            try:
                event = from_record(dict(record.headers), record.key, record.value)
            except UnreadableError as error:
                report_unreadable(self.unreadable, topic, place.partition, record.offset, str(error))
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
            await self._compare(admin, await self._create_missing(admin))
        finally:
            await admin.close()

    async def _create_missing(self, admin: AIOKafkaAdminClient) -> dict[str, int]:
        """Partitions by topic, once all are there."""
        asked = False
        for _ in range(_CREATE_TRIES):
            # All topics are asked for: naming one that is missing would make some brokers create it, in their own way.
            present = {row["topic"]: len(row["partitions"]) for row in await admin.describe_topics()}
            missing = [topic for topic in self._topics.values() if self.prefix + topic.name not in present]
            if not missing:
                return present
            if not asked:
                response = await admin.create_topics([self._new_topic(topic) for topic in missing])
                asked = True
                for name, code, *_ in response.topic_errors:
                    # Another replica may have been quicker.
                    if code == InvalidReplicationFactorError.errno:
                        setting = f"PS_BUS_REPLICATION_FACTOR={self._replication_factor}"
                        raise SuiteError("start.bad-setting", f"{setting}: the cluster has fewer brokers")
                    if code not in (0, TopicAlreadyExistsError.errno):
                        raise SuiteError("bus.unavailable", f"{name} was not created: {for_code(code).__name__}")
            await asyncio.sleep(_CREATE_PAUSE_S)
        raise SuiteError("bus.unavailable", "Topics could not be created.")

    def _new_topic(self, topic: Topic) -> NewTopic:
        settings = {
            "cleanup.policy": "compact" if topic.compacted else "delete",
            "retention.ms": str(topic.retention_ms),
            "max.message.bytes": str(BATCH_BYTES_MAX),
        }
        if topic.compacted:
            settings |= {"delete.retention.ms": str(24 * 60 * 60 * 1000), "min.cleanable.dirty.ratio": "0.1"}
        return NewTopic(self.prefix + topic.name, topic.partitions, self._replication_factor, topic_configs=settings)

    async def _compare(self, admin: AIOKafkaAdminClient, described: Mapping[str, int]) -> None:
        settings = await _topic_settings(admin, [self.prefix + name for name in self._topics])
        for topic in self._topics.values():
            name = self.prefix + topic.name
            if described.get(name, 0) < topic.partitions:
                raise SuiteError(
                    "bus.topic-mismatch",
                    f"{name} has {described.get(name, 0)} partitions, needed are {topic.partitions}: "
                    f"kafka-topics.sh --alter --topic {name} --partitions {topic.partitions}",
                )
            wanted = "compact" if topic.compacted else "delete"
            present = settings.get(name, {})
            if present.get("cleanup.policy", wanted) != wanted:
                raise _differs(name, "cleanup.policy", present["cleanup.policy"], wanted)
            if int(present.get("max.message.bytes", RECORD_BYTES_MAX)) < RECORD_BYTES_MAX:
                raise _differs(name, "max.message.bytes", present["max.message.bytes"], str(BATCH_BYTES_MAX))


def _differs(topic: str, setting: str, present: str, wanted: str) -> SuiteError:
    return SuiteError(
        "bus.topic-mismatch",
        f"{topic} has {setting}={present}, needed is {wanted}: "
        f"kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config {setting}={wanted}",
    )


async def _topic_settings(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    asked = {"cleanup.policy": "", "max.message.bytes": ""}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, configs=asked) for name in names]
    found: dict[str, dict[str, str]] = {}
    for response in await admin.describe_configs(resources):
        for resource in response.resources:
            error_code, _, _, name, entries = resource[:5]
            if not error_code:
                found[name] = {entry[0]: entry[1] for entry in entries if entry[0] in asked}
    return found


async def _stop_consumer(consumer: AIOKafkaConsumer) -> None:
    # In a task of its own: while the broker is away, aiokafka's fetcher ends with a CancelledError that nobody asked
    # for. It would end our reader too, and leave the client's own task behind.
    stopping = asyncio.create_task(consumer.stop())
    await end_tasks([stopping], STOP_TIMEOUT_S)
    if stopping.cancelled() or stopping.exception() is not None:
        await end_tasks([asyncio.create_task(consumer._client.close())], STOP_TIMEOUT_S)


class _Reader:
    """A consumer with a task that reads from it; connects again when the broker was away."""

    def __init__(self, bus: KafkaBus, topics: Sequence[str], handler: BatchHandler, batch_events_max: int) -> None:
        self.bus = bus
        self.topics = tuple(topics)
        self.handler = handler
        self.batch_events_max = batch_events_max
        self.stopping = asyncio.Event()
        self._waiting = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read in the background: a broker that is away is waited for."""
        self.bus.join(self)
        self._task = asyncio.create_task(self._forever(), name=f"kafka-{self.topics[0]}")

    async def stop(self) -> None:
        """Finish the batch in hand, then stop."""
        self.stopping.set()
        self.bus.leave(self)
        if self._task is not None:
            if self._waiting:
                self._task.cancel()
            await end_tasks([self._task], BATCH_TIMEOUT_S + COMMIT_TIMEOUT_S + STOP_TIMEOUT_S)
            self._task = None

    async def _forever(self) -> None:
        backoff_s = BACKOFF_MIN_S
        while not self.stopping.is_set():
            began = self.bus.clock.monotonic()
            try:
                await self.read()
            except Exception as error:  # noqa: BLE001 - whatever the client raises, it is tried again
                names = {"topic": self.topics[0], "error_type": type(error).__name__, "code": "bus.unavailable"}
                _log.warning("bus is read again later", extra=names)
            if self.bus.clock.monotonic() - began > BACKOFF_MAX_S:
                backoff_s = BACKOFF_MIN_S
            await self.pause(backoff_s)
            backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)

    async def read(self) -> None:
        """Connect and read until stopping; raises when the broker is away."""
        raise NotImplementedError

    async def wait_for_broker(self, answer: Awaitable[T]) -> T:
        """Await what only the broker can end: a stop need not wait for it."""
        self._waiting = True
        try:
            return await answer
        finally:
            self._waiting = False

    async def pause(self, seconds: float) -> None:
        """Until stopping, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds * (0.5 + self.bus.ids.fraction())):
                await self.stopping.wait()


class _Follower(_Reader):
    """Reads all partitions without a group; its places live in memory and survive a lost connection."""

    def __init__(self, bus: KafkaBus, topics: Sequence[str], handler: BatchHandler, *, from_beginning: bool) -> None:
        super().__init__(bus, topics, handler, BATCH_EVENTS_MAX)
        self.caught_up = asyncio.Event()
        self._from_beginning = from_beginning
        self._next: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}

    async def start(self) -> None:
        """Note where everything ends now, then read."""
        async with self.bus.connected() as consumer:
            places = await self.bus.places(self.topics)
            self._ends = dict(await consumer.end_offsets(places))
            self._next = dict(await consumer.beginning_offsets(places)) if self._from_beginning else dict(self._ends)
        self._note_progress()
        await super().start()

    async def read(self) -> None:
        consumer = self.bus.consumer()
        try:
            await self.wait_for_broker(consumer.start())
            consumer.assign(list(self._next))
            for place, offset in self._next.items():
                consumer.seek(place, offset)
            while not self.stopping.is_set():
                batches = await self.wait_for_broker(
                    consumer.getmany(timeout_ms=POLL_MS, max_records=self.batch_events_max)
                )
                for place, records in batches.items():
                    await self._handle(place, records)
                if not self.caught_up.is_set():
                    # What compaction left out at the end is no record, but a position.
                    for place in self._ends:
                        self._next[place] = max(self._next[place], await self.bus.position(consumer, place))
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
                report_again(place.topic, place.partition, "", error)
                if not self._from_beginning:
                    break  # a tail drops what its handler can not take
                await self.pause(backoff_s)
                backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)
        self._next[place] = records[-1].offset + 1

    def _note_progress(self) -> None:
        if all(self._next[place] >= end for place, end in self._ends.items()):
            self.caught_up.set()


class _Group(_Reader, ConsumerRebalanceListener):  # type: ignore[misc]
    """A member of a consumer group, with a worker per partition."""

    def __init__(
        self, bus: KafkaBus, topics: Sequence[str], handler: BatchHandler, batch_events_max: int, group: str
    ) -> None:
        super().__init__(bus, topics, handler, batch_events_max)
        self.group = group
        self.failure: Exception | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self._workers: dict[TopicPartition, _Worker] = {}

    async def read(self) -> None:
        consumer = self._consumer = self.bus.consumer(group_id=self.bus.prefix + self.group)
        self.failure = None
        consumer.subscribe([self.bus.prefix + topic for topic in self.topics], listener=self)
        try:
            await self.wait_for_broker(consumer.start())
            while not self.stopping.is_set() and self.failure is None:
                # The workers read. This waits on no partition of theirs, for what the group itself has to report.
                await self.wait_for_broker(consumer.getmany(_NOWHERE, timeout_ms=GROUP_POLL_MS))
            if self.failure is not None:
                raise self.failure
        finally:
            await self._end(list(self._workers))
            await _stop_consumer(consumer)

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Before a rebalance goes on: batches in hand are finished and committed."""
        await self._end(list(revoked))

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """Begin with what is ours now."""
        for place in assigned:
            if not self.stopping.is_set() and place not in self._workers:
                self._workers[place] = _Worker(self, self._consumer, place)

    async def _end(self, places: Sequence[TopicPartition]) -> None:
        workers = [self._workers.pop(place) for place in places if place in self._workers]
        await end_tasks([worker.end() for worker in workers], BATCH_TIMEOUT_S)


class _Worker:
    """Takes one partition's records in order, and commits after each batch."""

    def __init__(self, group: _Group, consumer: AIOKafkaConsumer, place: TopicPartition) -> None:
        self._group = group
        self._consumer = consumer
        self._place = place
        self._ending = asyncio.Event()
        self._waiting = False
        self._task = asyncio.create_task(self._run(), name=f"kafka-{place.topic}-{place.partition}")

    def end(self) -> asyncio.Task[None]:
        """Finish the batch in hand; the task that does."""
        self._ending.set()
        if self._waiting:
            self._task.cancel()
        return self._task

    async def _run(self) -> None:
        try:
            while not self._ending.is_set():
                self._waiting = True
                # Nothing is awaited between the records' return and the handler's call: what this worker got before
                # its partition is taken away is in hand, and finished or abandoned before another member begins.
                batches = await self._consumer.getmany(
                    self._place, timeout_ms=WORKER_POLL_MS, max_records=self._group.batch_events_max
                )
                self._waiting = False
                for records in batches.values():
                    await self._handle(records)
        except Exception as error:  # noqa: BLE001 - the group reports it, and connects again
            self._group.failure = error

    async def _handle(self, records: Sequence[Any]) -> None:
        found = self._group.bus.deliveries(self._place, records)
        backoff_s = BACKOFF_MIN_S
        while not self._ending.is_set():
            try:
                if found:
                    await self._group.handler(found)
            except Exception as error:  # noqa: BLE001 - whatever a handler raises means: again, later
                report_again(self._place.topic, self._place.partition, self._group.group, error)
                await self._pause(backoff_s)
                backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)
            else:
                await self._commit(records[-1].offset + 1)
                return

    async def _commit(self, offset: int) -> None:
        """Failing to commit is no failure of the batch: it may be delivered again, which the inbox knows."""
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT_S):
                await self._consumer.commit({self._place: offset})
        except _ANSWERED_WITH as error:
            names = {"topic": self._place.topic, "partition": self._place.partition, "consumer": self._group.group}
            _log.info("position not committed", extra={**names, "error_type": type(error).__name__})

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds * (0.5 + self._group.bus.ids.fraction())):
                await self._ending.wait()
