"""Exchange records: one per API call, HL7 exchange or file, published as `ps.exchange.v1`.

Telemetry: unkeyed, bounded, batched, not through the outbox; what does not fit is dropped and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final

from common.models.clock import Clock, Ids, instant_text
from common.models.errors import SuiteError
from common.models.events import Event
from common.runtime.bus import Bus
from common.runtime.telemetry import Telemetry, current_trace_id, current_traceparent

EVENTS_WAITING_MAX: Final = 10_000
STOP_FLUSH_S: Final = 5.0
_BATCH_EVENTS_MAX: Final = 500
_GATHER_S: Final = 0.1

_log = logging.getLogger("common.exchanges")


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange with the outside, without contents.

    `operation` is a fixed name (`Appointment.search`, `ADT^A08`, `token`), `endpoint` scheme and host with port only;
    `outcome` is ok or failed; sizes in bytes; `clock_offset_ms` is the peer's `Date` minus our clock.
    """

    tenant: str
    integration_id: str
    channel: str
    kind: str
    direction: str
    operation: str
    endpoint: str
    started_at: datetime
    duration_ms: float
    outcome: str
    method: str = ""
    status: int | None = None
    error_code: str | None = None
    request_bytes: int = 0
    response_bytes: int = 0
    clock_offset_ms: int | None = None
    retry_after_s: float | None = None


class TelemetryEvents:
    """Publishes events that may be lost: `put` never blocks; a full queue or an absent bus drops and counts."""

    def __init__(self, bus: Bus, telemetry: Telemetry, *, stop_flush_s: float = STOP_FLUSH_S) -> None:
        self._bus = bus
        self._stop_flush_s = stop_flush_s
        self._waiting: deque[Event] = deque()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0
        self._dropped_counter = telemetry.meter.create_counter(
            "practice_studio.telemetry.dropped", description="Telemetry events dropped"
        )

    def put(self, event: Event) -> None:
        """Queue one event."""
        if len(self._waiting) >= EVENTS_WAITING_MAX:
            self._drop(1)
            return
        self._waiting.append(event)
        self._wake.set()

    def start(self) -> None:
        """Begin to publish."""
        self._task = asyncio.create_task(self._run(), name="telemetry-events")

    async def stop(self) -> None:
        """Publish what waits, within a bound; what is left then is dropped and counted."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        try:
            async with asyncio.timeout(self._stop_flush_s):
                await self._flush()
        except TimeoutError:
            self._refused(len(self._waiting), "bus.unavailable")
            self._waiting.clear()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(_GATHER_S)  # gather a batch: one publish for many exchanges
            self._wake.clear()
            await self._flush()

    async def _flush(self) -> None:
        while self._waiting:
            # A batch leaves the queue when it is published or given up, so that a stop in between loses none uncounted;
            # at worst it is published twice, under the same ids.
            batch = list(islice(self._waiting, _BATCH_EVENTS_MAX))
            try:
                await self._bus.publish(batch)
            except SuiteError as error:
                self._refused(len(batch), error.code)
            except Exception:  # noqa: BLE001 - telemetry that fails must not end telemetry
                _log.exception("telemetry events not published")
                self._drop(len(batch))
            for _ in batch:
                self._waiting.popleft()

    def _refused(self, count: int, code: str) -> None:
        self._drop(count)
        _log.warning("telemetry events dropped", extra={"code": code, "dropped": count})

    def _drop(self, count: int) -> None:
        self.dropped += count
        self._dropped_counter.add(count)


class Exchanges:
    """Where every module records its exchanges."""

    def __init__(self, events: TelemetryEvents, clock: Clock, ids: Ids, source: str) -> None:
        self._events = events
        self._clock = clock
        self._ids = ids
        self._source = source

    def record(self, exchange: Exchange) -> None:
        """Record one exchange; never blocks, never fails."""
        exchange_id = self._ids.new("exc")
        data: dict[str, Any] = {
            "exchange_id": exchange_id,
            "integration_id": exchange.integration_id,
            "channel": exchange.channel,
            "kind": exchange.kind,
            "direction": exchange.direction,
            "operation": exchange.operation,
            "endpoint": exchange.endpoint,
            "method": exchange.method,
            "status": exchange.status,
            "outcome": exchange.outcome,
            "error_code": exchange.error_code,
            "duration_ms": round(exchange.duration_ms, 1),
            "request_bytes": exchange.request_bytes,
            "response_bytes": exchange.response_bytes,
            "clock_offset_ms": exchange.clock_offset_ms,
            "retry_after_s": exchange.retry_after_s,
            "started_at": instant_text(exchange.started_at),
            "module": self._source.split("/")[1] if "/" in self._source else self._source,
            "trace_id": current_trace_id(),
        }
        self._events.put(
            Event(
                id=self._ids.new("evt"),
                type="ps.exchange.recorded",
                source=self._source,
                subject=exchange_id,
                time=self._clock.now(),
                tenant=exchange.tenant,
                key="",
                data=data,
                traceparent=current_traceparent(),
            )
        )
