"""The bus as every module sees it: publish, consume in groups, broadcast, tail, history.

Both adapters keep the same promises (tests/contracts/test_bus.py): an event is durable when `publish` returns; the
order per key is kept; a group shares the partitions of a topic and sees each event at least once, and its place moves
on only after the handler returned; a broadcast gives every replica the newest event of each key, then all that follow.
A record that is no event of ours is reported and skipped.

Events travel as CloudEvents 1.0; the Kafka binding in binary mode is also what the SQLite bus stores.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import orjson
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary, to_binary
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from common.models.errors import SuiteError
from common.models.events import EVENT_BYTES_MAX, EVENT_TYPES, Event

BATCH_EVENTS_MAX: Final = 500
BACKOFF_MIN_S: Final = 0.1
BACKOFF_MAX_S: Final = 5.0
BATCH_TIMEOUT_S: Final = 10.0  # how long a stop or a rebalance waits for the batch in hand
_FORMAT: Final = JSONFormat()
_REQUIRED_HEADERS: Final = ("ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_tenant")
_log = logging.getLogger("common.bus")


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event and where it lies: topic, partition, offset."""

    event: Event
    topic: str
    partition: int
    offset: int


BatchHandler = Callable[[Sequence[Delivery]], Awaitable[None]]
"""Gets events of one partition in order. Returning means done with all of them; raising means: again, later."""


class Consumption(Protocol):
    """Something that reads in the background."""

    async def stop(self) -> None:
        """Finish the batch in hand, then stop."""


class Bus(Protocol):
    """See the module's text."""

    unreadable: Counter[str]
    """Records that were skipped because they are no events of ours, by topic, since the start."""

    async def start(self) -> None:
        """Connect; create or check the topics. Raises SuiteError `bus.unavailable` or `bus.topic-mismatch`."""

    async def stop(self) -> None:
        """Stop what is left of consumptions and disconnect."""

    async def publish(self, events: Sequence[Event], *, topic: str | None = None) -> None:
        """Durable when it returns. `topic` only for dead letters.

        Raises SuiteError `bus.unavailable`, or `bus.event-too-large`: then none of them was published.
        """

    async def consume(
        self, topics: Sequence[str], group: str, handler: BatchHandler, *, batch_events_max: int = BATCH_EVENTS_MAX
    ) -> Consumption:
        """Join a group; a new group begins with the oldest event."""

    async def broadcast(self, topics: Sequence[str], handler: BatchHandler) -> Consumption:
        """Read everything without a group; returns once all that was there at the call has been handled."""

    async def tail(self, topics: Sequence[str], handler: BatchHandler) -> Consumption:
        """From now on, without a group; an event whose handler raises is dropped."""

    def history(self, topic: str, since: datetime) -> AsyncIterator[Delivery]:
        """What the bus still holds since an instant, up to the end as of the call."""

    async def lag(self, topics: Sequence[str], group: str) -> int:
        """How many events the group has not handled yet."""

    async def ping(self) -> None:
        """Raises SuiteError `bus.unavailable`."""


class UnreadableError(ValueError):
    """A record that is no event of ours; its text says which part."""


def to_record(event: Event) -> tuple[dict[str, bytes], bytes | None, bytes | None]:
    """(headers, key, value) of an event in the Kafka binding's binary mode; a tombstone has no value.

    Raises SuiteError `bus.event-too-large`.
    """
    attributes: dict[str, Any] = {
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "time": event.time,
        "specversion": "1.0",
        "datacontenttype": "application/json",
        "dataschema": event.schema,
        "tenant": event.tenant,
        "generation": str(event.generation),
    }
    if event.subject:  # CloudEvents has absent attributes, no empty ones
        attributes["subject"] = event.subject
    if event.key:
        attributes["partitionkey"] = event.key
    if event.traceparent:
        attributes["traceparent"] = event.traceparent
    message = to_binary(CloudEvent(attributes, None), _FORMAT)
    key = event.key.encode() or None
    return dict(message.headers), key, None if event.deleted else event_data(event)


def event_data(event: Event) -> bytes:
    """Its data as JSON; raises SuiteError `bus.event-too-large`."""
    data = orjson.dumps(dict(event.data))
    if len(data) > EVENT_BYTES_MAX:
        raise SuiteError("bus.event-too-large", f"{event.type}: {len(data)} bytes, at most {EVENT_BYTES_MAX}.")
    return data


def from_record(headers: Mapping[str, bytes], key: bytes | None, value: bytes | None) -> Event:
    """The event of a record; raises UnreadableError when it is none of ours."""
    try:
        _require(headers)
        cloud_event = from_binary(KafkaMessage(dict(headers), None, b""), _HEADERS_ONLY, CloudEvent)
        data = _object(orjson.loads(value) if value else {})
        known = EVENT_TYPES[cloud_event.get_type()].fields
        time = _present(cloud_event.get_time())
        return Event(
            id=cloud_event.get_id(),
            type=cloud_event.get_type(),
            source=cloud_event.get_source(),
            subject=cloud_event.get_subject() or "",
            time=time.astimezone(UTC),
            tenant=str(cloud_event.get_extension("tenant") or ""),
            key=key.decode() if key else "",
            # Schemas only grow: a field that a newer version added is not ours to know.
            data={name: field for name, field in data.items() if name in known},
            traceparent=str(cloud_event.get_extension("traceparent") or ""),
            generation=int(cloud_event.get_extension("generation") or 0),
            deleted=value is None,
        )
    except UnreadableError:
        raise
    except Exception as error:
        raise UnreadableError(type(error).__name__) from error


def _require(headers: Mapping[str, bytes]) -> None:
    """The library makes up an id or a time where one is missing, another one at each delivery: refused here."""
    for name in _REQUIRED_HEADERS:
        if name not in headers:
            raise UnreadableError(name)


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UnreadableError("data")
    return value


def _present(time: datetime | None) -> datetime:
    if time is None:
        raise UnreadableError("time")
    return time


class _HeadersOnly(JSONFormat):
    """Leaves the value alone: it is read apart, because a tombstone has none."""

    def read_data(self, data: bytes, content_type: str | None) -> Any:
        return None


_HEADERS_ONLY: Final = _HeadersOnly()


def report_unreadable(skipped: Counter[str], topic: str, partition: int, offset: int, reason: str) -> None:
    """Count a record that was skipped, and say where it lies, not what it holds."""
    skipped[topic] += 1
    _log.error(
        "unreadable record skipped", extra={"topic": topic, "partition": partition, "offset": offset, "code": reason}
    )


def report_again(topic: str, partition: int, group: str, error: Exception) -> None:
    """Say that a batch was not handled; a group (and a broadcast) gets it again."""
    names = {"topic": topic, "partition": partition, "consumer": group, "error_type": type(error).__name__}
    _log.warning("batch not handled", extra={**names, "code": getattr(error, "code", "internal.error")})


async def end_tasks(tasks: Sequence[asyncio.Task[None]], timeout_s: float) -> None:
    """Wait for tasks that were told to end; cancel those that do not in time."""
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=timeout_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def murmur2(data: bytes) -> int:
    """Kafka's hash of a key (32 bits), so that both buses put a key into the same partition number."""
    length = len(data)
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = 0x9747B28C ^ length
    for start in range(0, length - length % 4, 4):
        k = int.from_bytes(data[start : start + 4], "little") * m & mask
        k = (k ^ (k >> 24)) * m & mask
        h = (h * m & mask) ^ k
    rest = data[length - length % 4 :]
    if len(rest) == 3:
        h ^= rest[2] << 16
    if len(rest) >= 2:
        h ^= rest[1] << 8
    if rest:
        h = (h ^ rest[0]) * m & mask
    h = (h ^ (h >> 13)) * m & mask
    return h ^ (h >> 15)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, as Kafka's default partitioner chooses it."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
