"""Traces, exchange records and counts of messages.

A span costs more than parsing the message, so there is one per message, and none when nobody exports it: then the
trace id alone is carried on, with a span id made from it. It is made when the message is catalogued, with the times at
which it came and was answered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from opentelemetry import trace
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from common.models.redaction import project
from common.models.trace import mllp_trace_id, traceparent
from common.runtime.exchanges import Exchange, Exchanges
from common.runtime.telemetry import Telemetry, context_of
from hl7_gateway.core.message import Header
from hl7_gateway.ports import Answered, HeldExchange, Trace

ANSWERS_MAX: Final = 100_000

_KIND: Final = "hl7v2"
_NO_ACKNOWLEDGMENT: Final = "none"


@dataclass(slots=True)
class SpanTrace:
    """`Trace` with its span."""

    traceparent: str
    span: Span


class TelemetryJournal:
    """`Journal`. `endpoint` is the listener's address, as exchanges name it."""

    def __init__(self, telemetry: Telemetry, exchanges: Exchanges, endpoint: str) -> None:
        self.endpoint = endpoint
        self.codes: Counter[str] = Counter()
        self.forgotten = 0
        """Answers whose exchange will not be told, because too many waited for it."""
        self._answers: dict[str, Answered] = {}
        self._telemetry = telemetry
        self._exchanges = exchanges
        telemetry.meter.create_observable_counter(
            "practice_studio.hl7.acknowledgments", [self._observe], description="Acknowledgements sent, by code"
        )

    def answered(self, message_id: str, how: Answered) -> None:
        if len(self._answers) < ANSWERS_MAX:
            self._answers[message_id] = how
        else:
            self.forgotten += 1

    def answer_of(self, message_id: str) -> Answered | None:
        return self._answers.pop(message_id, None)

    def begin(self, header: Header, at: datetime) -> SpanTrace:
        trace_id = mllp_trace_id(header.application, header.facility, header.timestamp, header.control_id)
        # The sender's span id cannot be known from the message: both ends take the trace id's second half for it.
        parent = traceparent(trace_id, trace_id[16:])
        if not self._telemetry.recording:
            context = SpanContext(int(trace_id, 16), int(trace_id[16:], 16), True, TraceFlags(TraceFlags.SAMPLED))
            return SpanTrace(parent, NonRecordingSpan(context))
        span = self._telemetry.tracer.start_span(
            "hl7.receive",
            context=context_of(parent),
            kind=SpanKind.SERVER,
            attributes=project({"message_type": header.message_type, "trigger_event": header.trigger_event}),
            start_time=int(at.timestamp() * 1e9),
        )
        context = span.get_span_context()
        return SpanTrace(traceparent(f"{context.trace_id:032x}", f"{context.span_id:016x}"), span)

    def end(self, trace_: Trace | None, exchange: HeldExchange) -> None:
        for code in exchange.codes or (_NO_ACKNOWLEDGMENT,):
            self.codes[code] += 1
        if not isinstance(trace_, SpanTrace):
            self._record(exchange)
            return
        if trace_.span.is_recording():
            trace_.span.set_attributes(project({"acknowledgment_code": ",".join(exchange.codes)}))
            if exchange.error_code is not None:
                trace_.span.set_status(Status(StatusCode.ERROR, exchange.error_code))
        with trace.use_span(trace_.span):
            self._record(exchange)
        ended = exchange.started_at + timedelta(milliseconds=exchange.duration_ms)
        trace_.span.end(int(ended.timestamp() * 1e9))

    def _record(self, exchange: HeldExchange) -> None:
        channel = exchange.channel
        self._exchanges.record(
            Exchange(
                tenant=exchange.tenant,
                integration_id=channel.integration_id if channel else "",
                channel=channel.channel if channel else "",
                kind=_KIND,
                direction="inbound",
                operation=exchange.header.operation if exchange.header else "",
                endpoint=self.endpoint,
                started_at=exchange.started_at,
                duration_ms=exchange.duration_ms,
                outcome="ok" if exchange.error_code is None else "failed",
                error_code=exchange.error_code,
                request_bytes=exchange.request_bytes,
                response_bytes=exchange.response_bytes,
            )
        )

    def _observe(self, _: CallbackOptions) -> Iterator[Observation]:
        for code, count in self.codes.items():
            yield Observation(count, {"acknowledgment_code": code})
