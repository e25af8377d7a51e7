"""A bus that records what is published and can be told to refuse; enough for what stands on publish and history."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from common.models.errors import SuiteError
from common.models.events import Event
from common.runtime.bus import Delivery

TENANT = "ten_01h455vb4pex5vsknk084sn02q"
AT = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
CREDENTIAL, RECEIVED, MEASURED = "ps.credential.v1", "ps.hl7.received.v1", "ps.measurement.v1"
_TYPES = {CREDENTIAL: "ps.credential.refreshed", RECEIVED: "ps.hl7.received", MEASURED: "ps.measurement.taken"}


@dataclass
class RecordedBus:
    published: list[tuple[str, Event]] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    refusals: int = 0

    async def publish(self, events: Sequence[Event], *, topic: str | None = None) -> None:
        await asyncio.sleep(0)
        names = {topic or event.topic for event in events}
        self.changed.set()
        if names & self.refused:
            self.refusals += 1
            raise SuiteError("bus.unavailable")
        self.published += [(topic or event.topic, event) for event in events]

    async def history(self, topic: str, since: datetime) -> AsyncIterator[Delivery]:
        for name, event in list(self.published):
            if name == topic and event.time >= since:
                yield Delivery(event, name, 0, 0)

    def ids(self, topic: str) -> list[str]:
        return [event.id for name, event in self.published if name == topic]

    async def wait_until_published(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.published) < count:
                self.changed.clear()
                await self.changed.wait()

    async def wait_until_refused(self, count: int) -> None:
        async with asyncio.timeout(10):
            while self.refusals < count:
                self.changed.clear()
                await self.changed.wait()


def new_event(
    number: int, key: str = "k", topic: str = CREDENTIAL, *, generation: int = 0, tenant: str = TENANT
) -> Event:
    return Event(
        id=f"evt_{number:026d}",
        type=_TYPES[topic],
        source="/test/1",
        subject=f"int_{number}",
        time=AT,
        tenant=tenant,
        key=key,
        data={},
        generation=generation,
    )


def deliveries(*events: Event) -> list[Delivery]:
    return [Delivery(event, event.topic, 0, 0) for event in events]
