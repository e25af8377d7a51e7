"""Buses of both kinds with a few small topics, and a handler that remembers what it got."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from common.models.events import TOPICS, Event, Topic, dead_letter_topic
from common.runtime.bus import Bus, Delivery
from common.runtime.bus_kafka import KafkaBus
from common.runtime.bus_sqlite import SqliteBus
from common.runtime.system import SystemClock, SystemIds

CREDENTIAL, MEASURED, CHANGED = "ps.credential.v1", "ps.measurement.v1", "ps.integration.changed.v1"
DEAD: Final = f"{CREDENTIAL}.dlq"
PARTITIONS: Final = 4
WAIT_S: Final = 30.0
TYPES: Final = {
    CREDENTIAL: "ps.credential.refreshed",
    MEASURED: "ps.measurement.taken",
    CHANGED: "ps.integration.changed",
}
TENANT: Final = "ten_01h455vb4pex5vsknk084sn02q"
# The heartbeat of a replica on SQLite, and how long one that stopped renewing keeps its partitions.
QUICK: Final = {"poll_s": 0.02, "heartbeat_s": 0.1, "member_life_s": 1.0}


def small_topics() -> list[Topic]:
    """One topic of each kind; few partitions, because a broker spends time on each."""
    rows = [TOPICS[CREDENTIAL], TOPICS[MEASURED], TOPICS[CHANGED], dead_letter_topic(CREDENTIAL)]
    return [replace(row, partitions=min(row.partitions, PARTITIONS)) for row in rows]


def make_bus(place: Mapping[str, str], **settings: Any) -> Bus:
    """A replica on a place: a directory, or a broker and a prefix of topics and groups."""
    clock, ids = SystemClock(), SystemIds()
    settings = {"topics": small_topics(), **settings}
    if "directory" in place:
        return SqliteBus(Path(place["directory"]), clock, ids, **{**QUICK, **settings})
    # A broker refuses members with a shorter session than 6 s.
    settings = {"topic_prefix": place["prefix"], "session_timeout_ms": 6_000, **settings}
    return KafkaBus(place["bootstrap"], "test", clock, ids, **settings)


def new_event(number: int, key: str = "k", topic: str = CREDENTIAL, **changes: Any) -> Event:
    clock = SystemClock()
    row: dict[str, Any] = {
        "id": f"evt_{number:026d}",
        "type": TYPES[topic],
        "source": "/test/1",
        "subject": f"int_{number}",
        "time": clock.now(),
        "tenant": TENANT,
        "key": key,
    }
    return Event(**row | changes)


def number_of(delivery: Delivery) -> int:
    return int(delivery.event.id.removeprefix("evt_"))


@dataclass
class Seen:
    """A handler. `refuse` says for a batch whether to raise instead."""

    refuse: Callable[[Sequence[Delivery]], bool] = lambda _: False
    deliveries: list[Delivery] = field(default_factory=list)
    batches: list[list[int]] = field(default_factory=list)
    refused: list[list[int]] = field(default_factory=list)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def __call__(self, batch: Sequence[Delivery]) -> None:
        numbers = [number_of(delivery) for delivery in batch]
        refused = self.refuse(batch)
        if refused:
            self.refused.append(numbers)
        else:
            self.deliveries += batch
            self.batches.append(numbers)
        async with self._changed:
            self._changed.notify_all()
        if refused:
            raise ConnectionResetError

    @property
    def numbers(self) -> list[int]:
        return [number_of(delivery) for delivery in self.deliveries]

    @property
    def by_key(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = defaultdict(list)
        for delivery in self.deliveries:
            found[delivery.event.key].append(number_of(delivery))
        return dict(found)

    async def wait_for(self, *numbers: int) -> None:
        await self.wait_until(lambda: set(numbers) <= set(self.numbers))

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S), self._changed:
            await self._changed.wait_for(condition)
