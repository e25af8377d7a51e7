"""Exchange records: published in batches, bounded, never in the way, and every loss is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from common.models.clock import FixedClock, SequenceIds
from common.models.errors import SuiteError
from common.models.events import Event
from common.runtime.exchanges import EVENTS_WAITING_MAX, Exchange, Exchanges, TelemetryEvents
from common.runtime.settings import RuntimeSettings
from common.runtime.telemetry import Telemetry
from common.testing import TENANT

AT = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
WAIT_S = 20.0
EXCHANGE = Exchange(TENANT, "int_1", "fhir", "fhir", "outbound", "Patient.read", "https://ehr.example", AT, 12.34, "ok")


@dataclass
class SlowBus:
    """Publishes when the gate is open; may refuse, or break."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    batches: list[list[Event]] = field(default_factory=list)
    begun: int = 0
    failures: list[Exception] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def publish(self, events: Sequence[Event]) -> None:
        await self._tell(begun=1)
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.batches.append(list(events))
        await self._tell()

    async def _tell(self, begun: int = 0) -> None:
        async with self.changed:
            self.begun += begun
            self.changed.notify_all()

    @property
    def published(self) -> list[Event]:
        return [event for batch in self.batches for event in batch]

    async def wait_for(self, *, published: int = 0, begun: int = 0) -> None:
        async with asyncio.timeout(WAIT_S), self.changed:
            await self.changed.wait_for(lambda: len(self.published) >= published and self.begun >= begun)


class Bench:
    def __init__(self, tmp_path: Path, *, stop_flush_s: float = WAIT_S) -> None:
        self.bus = SlowBus()
        self.telemetry = Telemetry(RuntimeSettings(data=tmp_path), service="test", replica="1")
        self.events = TelemetryEvents(self.bus, self.telemetry, stop_flush_s=stop_flush_s)  # type: ignore[arg-type]
        self.exchanges = Exchanges(self.events, FixedClock(AT), SequenceIds(), "/sync/rep_1")

    def record(self, count: int) -> None:
        for _ in range(count):
            self.exchanges.record(EXCHANGE)

    def counted(self) -> float:
        """Drops as /metrics shows them."""
        lines = self.telemetry.metrics_text().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("practice_studio_telemetry_dro"))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_an_exchange_becomes_an_event_without_contents(bench: Bench) -> None:
    bench.bus.gate.set()
    bench.events.start()
    bench.record(1)
    await bench.bus.wait_for(published=1)
    (event,) = bench.bus.published
    assert (event.type, event.tenant, event.source, event.key) == ("ps.exchange.recorded", TENANT, "/sync/rep_1", "")
    assert event.subject == event.data["exchange_id"]
    assert event.data["duration_ms"] == 12.3
    assert event.data["started_at"] == "2026-03-01T09:30:00.000Z"
    assert event.data["module"] == "sync"
    await bench.events.stop()


async def test_many_are_published_in_batches(bench: Bench) -> None:
    bench.bus.gate.set()
    bench.events.start()
    bench.record(1200)
    await bench.bus.wait_for(published=1200)
    assert [len(batch) for batch in bench.bus.batches] == [500, 500, 200]
    assert len({event.id for event in bench.bus.published}) == 1200
    await bench.events.stop()
    assert bench.counted() == 0


async def test_a_bus_that_hangs_costs_a_bounded_queue_and_drops_are_counted(bench: Bench) -> None:
    bench.events.start()
    bench.record(1)
    await bench.bus.wait_for(begun=1)
    bench.record(EVENTS_WAITING_MAX + 40)  # returns although nothing is published
    assert bench.events.dropped == 41
    assert bench.counted() == 41
    bench.bus.gate.set()
    await bench.bus.wait_for(published=EVENTS_WAITING_MAX)
    await bench.events.stop()
    assert len(bench.bus.published) == EVENTS_WAITING_MAX


async def test_a_bus_that_refuses_or_breaks_drops_one_batch_and_goes_on(bench: Bench) -> None:
    bench.bus.failures += [SuiteError("bus.unavailable"), RuntimeError("a fault of ours")]
    bench.bus.gate.set()
    bench.events.start()
    bench.record(1400)
    await bench.bus.wait_for(published=400)
    assert bench.events.dropped == 1000
    bench.record(3)
    await bench.bus.wait_for(published=403)
    await bench.events.stop()
    assert bench.counted() == 1000


async def test_a_stop_publishes_what_waits_also_what_is_in_hand(bench: Bench) -> None:
    bench.events.start()
    bench.record(700)
    await bench.bus.wait_for(begun=1)  # a publication is cut short by the stop
    stopping = asyncio.create_task(bench.events.stop())
    await bench.bus.wait_for(begun=2)
    bench.bus.gate.set()
    await stopping
    assert len({event.id for event in bench.bus.published}) == 700
    assert bench.events.dropped == 0


async def test_a_stop_does_not_wait_for_a_bus_that_is_gone(tmp_path: Path) -> None:
    bench = Bench(tmp_path, stop_flush_s=0.01)
    bench.events.start()
    bench.record(700)
    await bench.bus.wait_for(begun=1)
    async with asyncio.timeout(WAIT_S):
        await bench.events.stop()
    assert bench.events.dropped == 700
    assert bench.counted() == 700


async def test_without_a_start_nothing_is_published_and_a_stop_is_quiet(bench: Bench) -> None:
    bench.bus.gate.set()
    await bench.events.stop()
    assert bench.bus.batches == []
