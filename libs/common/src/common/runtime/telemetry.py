"""OpenTelemetry, set up once: traces, metrics and logs, exporters none | console | OTLP, Prometheus at /metrics.

Attributes of spans and logs pass through `common.models.redaction.project`: what is not on the list does not leave.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from traceback import format_tb
from types import TracebackType
from typing import Any, Final, TextIO

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SimpleSpanProcessor, SpanExporter
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from prometheus_client import CollectorRegistry, generate_latest

from common.models.clock import instant_text
from common.models.errors import SuiteError
from common.models.redaction import ALLOWED, project
from common.models.trace import parse_traceparent, traceparent
from common.runtime.settings import RuntimeSettings
from common.runtime.system import SystemClock

METRICS_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_LEVELS: Final = {"ERROR": logging.ERROR, "WARN": logging.WARNING, "INFO": logging.INFO, "DEBUG": logging.DEBUG}
_EXPORT_TIMEOUT_S: Final = 3.0
_STOP_TIMEOUT_S: Final = 5.0
_VALUES: Final = re.compile(r"[(<:]")
_OWN_LOGGERS: Final = (
    "common", "suite", "auth_gateway", "sync", "hl7_gateway", "diagnostics", "alerts", "simulator", "hl7v2", "pms",
)  # fmt: skip

_log = logging.getLogger("common.telemetry")


class Telemetry:
    """Tracer, meter and Prometheus registry of one process."""

    def __init__(
        self, settings: RuntimeSettings, *, service: str, replica: str, exporter: SpanExporter | None = None
    ) -> None:
        resource = Resource.create({"service.name": service, "service.instance.id": replica})
        self.registry = CollectorRegistry()
        self.recording = exporter is not None or settings.telemetry_exporter != "none"
        """Whether anybody gets to see spans; the hottest paths make none otherwise."""
        self._tracers = TracerProvider(resource=resource)
        readers: list[MetricReader] = [PrometheusMetricReader(registry=self.registry)]
        if exporter is not None:
            self._tracers.add_span_processor(SimpleSpanProcessor(exporter))
        elif settings.telemetry_exporter == "console":
            self._tracers.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter(out=sys.stderr)))
            readers.append(PeriodicExportingMetricReader(ConsoleMetricExporter(out=sys.stderr)))
        elif settings.telemetry_exporter == "otlp":
            _add_otlp(self._tracers, readers, settings.otlp_endpoint)
        self._meters = MeterProvider(metric_readers=readers, resource=resource)
        self._logs = _otlp_logs(settings.otlp_endpoint, resource) if settings.telemetry_exporter == "otlp" else None
        self.tracer = self._tracers.get_tracer("practice-studio")
        self.meter = self._meters.get_meter("practice-studio")

    @contextmanager
    def span(
        self,
        name: str,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        parent: str | None = None,
        links: Sequence[str] = (),
        **attributes: object,
    ) -> Iterator[Span]:
        """A span with allow-listed attributes; `parent` and `links` are traceparents. A failure sets its code, never
        its text."""
        context = context_of(parent) if parent else None
        with self.tracer.start_as_current_span(
            name,
            context=context,
            kind=kind,
            links=[Link(found) for found in map(span_context_of, links) if found is not None],
            attributes=project(attributes),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except Exception as error:
                code = error.code if isinstance(error, SuiteError) else type(error).__name__
                span.set_status(Status(StatusCode.ERROR, code))
                raise

    def metrics_text(self) -> bytes:
        """The Prometheus exposition of this process."""
        return generate_latest(self.registry)

    def shutdown(self) -> None:
        """Send what is buffered and stop; a collector that does not answer holds nobody up for long."""
        stops = [self._tracers.shutdown, self._meters.shutdown, *([self._logs] if self._logs is not None else [])]
        threads = [threading.Thread(target=stop, daemon=True, name="telemetry-stop") for stop in stops]
        for thread in threads:
            thread.start()
        deadline = SystemClock().monotonic() + _STOP_TIMEOUT_S
        for thread in threads:
            thread.join(max(0.0, deadline - SystemClock().monotonic()))


def span_context_of(parent: str) -> SpanContext | None:
    """The span context of a traceparent, None when it is none."""
    parsed = parse_traceparent(parent)
    if parsed is None:
        return None
    trace_id, span_id, sampled = parsed
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else 0)
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=flags)


def context_of(parent: str) -> Context | None:
    """The OpenTelemetry context of a traceparent, None when it is none."""
    found = span_context_of(parent)
    return trace.set_span_in_context(NonRecordingSpan(found)) if found is not None else None


def current_traceparent() -> str:
    """The traceparent of the span in hand, empty when there is none."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return ""
    return traceparent(f"{context.trace_id:032x}", f"{context.span_id:016x}", sampled=context.trace_flags.sampled)


def current_trace_id() -> str:
    """The trace id of the span in hand (32 hex digits), empty when there is none."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else ""


class AllowListFormatter(logging.Formatter):
    """One line per record: time, level, logger, the fixed message, and the allow-listed `extra` fields.

    Exceptions are named by type and place, never by text: an exception's text may hold what a patient is called.
    """

    def __init__(self, form: str) -> None:
        super().__init__()
        self._json = form == "json"

    def format(self, record: logging.LogRecord) -> str:
        fields = project({name: record.__dict__[name] for name in ALLOWED if name in record.__dict__})
        trace_id = current_trace_id()
        own = record.name.split(".")[0] in _OWN_LOGGERS
        message = str(record.msg) if own else _foreign_message(record)  # our own messages are constants
        if record.exc_info and record.exc_info[0] is not None:
            fields["error_type"] = record.exc_info[0].__name__
            message = f"{message} ({_place(record.exc_info[2])})"
        time = instant_text(SystemClock().now())
        if self._json:
            return json.dumps(
                {
                    "time": time,
                    "level": record.levelname,
                    "logger": record.name,
                    "message": message,
                    "trace_id": trace_id,
                    **fields,
                }
            )
        shown = " ".join(f"{name}={value}" for name, value in fields.items())
        return f"{time} {record.levelname:<7} {record.name}: {message}{' ' if shown else ''}{shown}"


def _foreign_message(record: logging.LogRecord) -> str:
    """What another library says, without the values it says it about: those may be anybody's data.

    Numbers stay, exceptions become their type, other values an ellipsis. asyncio writes the values of a failed task or
    callback into the text itself, after a bracket or in further lines.
    """
    text = str(record.msg).partition("\n")[0]
    if record.name == "asyncio":
        return _VALUES.split(text, maxsplit=1)[0].strip()
    arguments = record.args
    if not arguments:
        return text
    try:
        if isinstance(arguments, Mapping):
            return text % {name: _without_value(value) for name, value in arguments.items()}
        return text % tuple(map(_without_value, arguments))
    except (TypeError, ValueError, KeyError):
        return text


def _without_value(value: object) -> object:
    if isinstance(value, (bool, int, float)):
        return value
    return type(value).__name__ if isinstance(value, BaseException) else "…"


def set_up_logging(settings: RuntimeSettings) -> None:
    """Log to standard error, once per process; libraries speak from WARNING on.

    What Python itself would write there with an exception's or a warning's text is logged by type and place instead.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(AllowListFormatter(settings.log_format))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in _OWN_LOGGERS:
        logging.getLogger(name).setLevel(_LEVELS[settings.log_level])
    # aiokafka logs every lost connection many times a second; the bus adapter logs the state once by code
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    sys.excepthook = _report_end
    sys.unraisablehook = lambda found: _report("an exception could not be raised", found.exc_value)
    threading.excepthook = lambda found: _report("a thread failed", found.exc_value)
    warnings.showwarning = _report_warning


def _report(message: str, error: BaseException | None) -> None:
    _log.error(message, exc_info=error)


def _report_end(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    # Files and lines of the failure; the exception's text, which may hold values, is left out.
    sys.stderr.write("".join(format_tb(traceback)))
    _log.critical("the process ends", exc_info=error)


def _report_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    place = f"line {lineno} of {filename.rsplit('/', 1)[-1]}"
    _log.warning(f"a library warns ({place})", extra={"error_type": category.__name__})


def _place(traceback: Any) -> str:
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return "no traceback"
    code = traceback.tb_frame.f_code
    return f"{code.co_name} line {traceback.tb_lineno} of {code.co_filename.rsplit('/', 1)[-1]}"


def _add_otlp(tracers: TracerProvider, readers: list[MetricReader], endpoint: str) -> None:
    # Imported when asked for: the exporters cost memory that the embedded default does not spend.
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    tracers.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", timeout=_EXPORT_TIMEOUT_S))
    )
    readers.append(
        PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=f"{endpoint}/v1/metrics", timeout=_EXPORT_TIMEOUT_S))
    )


def _otlp_logs(endpoint: str, resource: Resource) -> Any:
    """Send our own log records by OTLP; returns what ends it."""
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    provider = LoggerProvider(resource=resource)
    provider.add_log_record_processor(
        BatchLogRecordProcessor(OTLPLogExporter(endpoint=f"{endpoint}/v1/logs", timeout=_EXPORT_TIMEOUT_S))
    )
    handler = _OtlpLogHandler(provider.get_logger("practice-studio"))
    for name in _OWN_LOGGERS:
        logging.getLogger(name).addHandler(handler)

    def shutdown() -> None:
        for name in _OWN_LOGGERS:
            logging.getLogger(name).removeHandler(handler)
        provider.shutdown()

    return shutdown


class _OtlpLogHandler(logging.Handler):
    """Allow-listed records only: the SDK's own handler would send every attribute and the exception's text."""

    def __init__(self, logger: Any) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        from opentelemetry._logs import LogRecord, SeverityNumber

        severity = {
            logging.ERROR: SeverityNumber.ERROR,
            logging.WARNING: SeverityNumber.WARN,
            logging.INFO: SeverityNumber.INFO,
        }.get(record.levelno, SeverityNumber.DEBUG)  # fmt: skip
        fields = project({name: record.__dict__[name] for name in ALLOWED if name in record.__dict__})
        if record.exc_info and record.exc_info[0] is not None:
            fields["error_type"] = record.exc_info[0].__name__
        self._logger.emit(
            LogRecord(
                timestamp=int(record.created * 1e9),
                severity_text=record.levelname,
                severity_number=severity,
                body=str(record.msg),
                attributes={"logger": record.name, **fields},
            )
        )
