"""Logs, spans and metrics: where they go by setting, what they carry, and that no patient leaves in them."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pytest
from fastapi import APIRouter, Query
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import MetaData, text
from sqlalchemy.ext.asyncio import AsyncSession

from common.models.access import Access, Role
from common.models.errors import SuiteError
from common.models.events import Event
from common.runtime import outbox
from common.runtime.database import Database
from common.runtime.inbox import Subscription
from common.runtime.module import Module
from common.runtime.runtime import Runtime
from common.runtime.settings import RuntimeSettings
from common.runtime.telemetry import AllowListFormatter, Telemetry, current_trace_id, current_traceparent
from common.testing import TENANT, RunningSuite, make_test_runtime, running

WAIT_S = 20.0
RUN = "run_01h455vb4pex5vsknk084sn02q"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
FAMILY, GIVEN, MRN, BIRTH = "Kanarienvogel", "Theodosia", "MRN-77120455", "1933-03-31"
TOKEN, PASSWORD = "canary-token-5f2c9e", "canary-p4ssw0rd"
HL7 = f"MSH|^~\\&|EPIC|X|PS|X|20260301||ADT^A08|1|P|2.5.1\rPID|1||{MRN}^^^EPIC^MR||{FAMILY}^{GIVEN}||19330331|F\r"
CANARIES = (FAMILY, GIVEN, MRN, "77120455", BIRTH, "19330331", TOKEN, PASSWORD, "PID|1")
ALL = f"{HL7} {BIRTH} {TOKEN} {PASSWORD}"


def canaries_in(shown: str) -> list[str]:
    return [canary for canary in CANARIES if canary in shown]


@contextmanager
def captured(form: str = "text") -> Iterator[io.StringIO]:
    """What the suite would write to standard error, from every logger, at every level."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(AllowListFormatter(form))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield stream
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def raised(error: Exception) -> Exception:
    try:
        raise error
    except type(error) as caught:
        return caught


# ---- Log lines


def test_a_line_has_the_listed_fields_only() -> None:
    with captured() as shown:
        logging.getLogger("sync.test").warning(
            "run failed", extra={"run_id": RUN, "code": "peer.timeout", "family": FAMILY, "detail": ALL, "status": 504}
        )
    line = shown.getvalue()
    assert " WARNING sync.test: run failed " in line
    assert f"run_id={RUN}" in line
    assert "code=peer.timeout" in line
    assert "status=504" in line
    assert canaries_in(line) == []


def test_a_json_line_is_json_with_the_trace() -> None:
    telemetry = Telemetry(RuntimeSettings(), service="test", replica="1", exporter=InMemorySpanExporter())
    with captured("json") as shown, telemetry.span("work", parent=PARENT):
        logging.getLogger("sync").info("begun", extra={"run_id": RUN, "count": 3})
    line = json.loads(shown.getvalue())
    assert {name: line[name] for name in line if name != "time"} == {
        "level": "INFO",
        "logger": "sync",
        "message": "begun",
        "trace_id": TRACE,
        "run_id": RUN,
        "count": 3,
    }


def test_an_exception_is_named_by_type_and_place() -> None:
    with captured() as shown:
        logging.getLogger("sync").error("not mapped", exc_info=raised(ValueError(ALL)))
    line = shown.getvalue()
    assert "not mapped (raised line " in line
    assert "of test_telemetry.py) error_type=ValueError" in line
    assert canaries_in(line) == []
    assert len(line.splitlines()) == 1


def test_arguments_of_our_own_messages_are_left_out() -> None:
    with captured() as shown:
        logging.getLogger("hl7_gateway").error("message %s refused", FAMILY)
    assert "message %s refused" in shown.getvalue()
    assert canaries_in(shown.getvalue()) == []


@pytest.mark.parametrize(
    ("message", "arguments", "expected"),
    [
        ("cannot read %s", (FAMILY,), "cannot read …"),
        ("cannot read %r after %d tries in %.2fs", (FAMILY, 3, 1.5), "cannot read '…' after 3 tries in 1.50s"),
        ("lost: %s", (ValueError(ALL),), "lost: ValueError"),
        ("%(who)s at %(when)d", ({"who": FAMILY, "when": 7},), "… at 7"),
        ("a plain sentence\nand a second line: " + ALL, (), "a plain sentence"),
    ],
    ids=range(5),
)
def test_other_libraries_are_heard_without_their_values(
    message: str, arguments: tuple[Any, ...], expected: str
) -> None:
    with captured() as shown:
        logging.getLogger("some.library").warning(message, *arguments)
    assert shown.getvalue().rstrip().endswith(f"some.library: {expected}")
    assert canaries_in(shown.getvalue()) == []


def test_a_message_that_does_not_fit_its_values_is_shown_as_it_is() -> None:
    record = logging.LogRecord("some.library", logging.ERROR, __file__, 1, "%d of %s", (FAMILY, MRN), None)
    assert AllowListFormatter("text").format(record).endswith("some.library: %d of %s")


async def test_what_asyncio_says_of_tasks_and_callbacks_holds_no_values() -> None:
    loop = asyncio.get_running_loop()

    async def fail(words: str) -> None:
        raise ValueError(words)

    def call_back(words: str) -> None:
        raise ValueError(words)

    def handled(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        loop.default_exception_handler(context)
        if "Task exception" in str(context["message"]):
            told.set()

    told = asyncio.Event()
    loop.set_exception_handler(handled)
    with captured() as shown:
        task = asyncio.create_task(fail(ALL), name=FAMILY)
        loop.call_soon(call_back, ALL)
        await asyncio.wait([task])
        del task
        async with asyncio.timeout(WAIT_S):
            await told.wait()
    lines = shown.getvalue()
    assert "Exception in callback" in lines
    assert "Task exception was never retrieved" in lines
    assert lines.count("error_type=ValueError") == 2
    assert canaries_in(lines) == []


FAILING_PROGRAM = """
import sys, threading, warnings
from common.runtime.settings import RuntimeSettings
from common.runtime.telemetry import set_up_logging

set_up_logging(RuntimeSettings())
words = sys.argv[1]

class Unraisable:
    def __del__(self):
        raise ValueError(words)

def fail():
    raise LookupError(words)

Unraisable()
thread = threading.Thread(target=fail, name=words)
thread.start()
thread.join()
warnings.warn(words, UserWarning)
raise RuntimeError(words)
"""


def test_what_python_itself_would_print_is_logged_without_its_text() -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "always", "-c", FAILING_PROGRAM, ALL],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert canaries_in(ended.stderr + ended.stdout) == []
    for said in (
        "error_type=ValueError",
        "error_type=LookupError",
        "error_type=UserWarning",
        "error_type=RuntimeError",
    ):
        assert said in ended.stderr
    assert "line 21, in <module>" in ended.stderr  # where the process ended


# ---- Exporters


class Collector:
    """An OTLP/HTTP receiver (OTLP 1.x, protobuf) on the loopback."""

    def __init__(self) -> None:
        self.bodies: dict[str, list[bytes]] = {}
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.bodies.setdefault(self.path, []).append(body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def spans(self) -> list[Any]:
        found = [ExportTraceServiceRequest.FromString(body) for body in self.bodies.get("/v1/traces", [])]
        return [
            span for request in found for row in request.resource_spans for s in row.scope_spans for span in s.spans
        ]

    def services(self) -> set[str]:
        found = [ExportTraceServiceRequest.FromString(body) for body in self.bodies.get("/v1/traces", [])]
        rows = [row for request in found for row in request.resource_spans]
        return {
            pair.value.string_value for row in rows for pair in row.resource.attributes if pair.key == "service.name"
        }

    def metrics(self) -> set[str]:
        found = [ExportMetricsServiceRequest.FromString(body) for body in self.bodies.get("/v1/metrics", [])]
        return {
            metric.name
            for request in found
            for row in request.resource_metrics
            for scope in row.scope_metrics
            for metric in scope.metrics
        }

    def logs(self) -> list[Any]:
        found = [ExportLogsServiceRequest.FromString(body) for body in self.bodies.get("/v1/logs", [])]
        return [
            log for request in found for row in request.resource_logs for s in row.scope_logs for log in s.log_records
        ]


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def speak(telemetry: Telemetry) -> None:
    """A span, a count and a log line, each with something that may not leave."""
    counter = telemetry.meter.create_counter("practice_studio.test.spoken")
    with telemetry.span("work", parent=PARENT, run_id=RUN, operation="Patient.read", family=FAMILY, detail=ALL):
        counter.add(2, {"code": "ok"})
        logging.getLogger("sync.test").error(
            "run failed", exc_info=raised(ValueError(ALL)), extra={"run_id": RUN, "family": FAMILY, "count": 2}
        )
    with pytest.raises(ValueError, match=FAMILY), telemetry.span("fails"):
        raise ValueError(ALL)


def attributes(row: Any) -> dict[str, Any]:
    return {pair.key: pair.value.string_value or pair.value.int_value for pair in row.attributes}


def test_by_otlp_traces_metrics_and_logs_arrive_with_the_listed_attributes(collector: Collector) -> None:
    settings = RuntimeSettings(telemetry_exporter="otlp", otlp_endpoint=collector.url)
    telemetry = Telemetry(settings, service="sync", replica="1")
    speak(telemetry)
    telemetry.shutdown()
    work, fails = collector.spans()
    assert collector.services() == {"sync"}
    assert (work.name, work.trace_id.hex(), work.parent_span_id.hex()) == ("work", TRACE, "b7ad6b7169203331")
    assert attributes(work) == {"run_id": RUN, "operation": "Patient.read"}
    assert (fails.status.message, list(fails.events)) == ("ValueError", [])
    assert "practice_studio.test.spoken" in collector.metrics()
    (log,) = collector.logs()
    assert (log.body.string_value, log.severity_text) == ("run failed", "ERROR")
    assert attributes(log) == {"logger": "sync.test", "run_id": RUN, "count": 2, "error_type": "ValueError"}
    assert (log.trace_id.hex(), log.span_id) == (TRACE, work.span_id)
    sent = b"".join(body for bodies in collector.bodies.values() for body in bodies)
    assert [canary for canary in CANARIES if canary.encode() in sent] == []
    logging.getLogger("sync.test").error("after the end")
    assert len(collector.logs()) == 1


def test_a_collector_that_is_away_holds_no_stop_up(collector: Collector) -> None:
    collector.close()
    with captured() as shown:
        telemetry = Telemetry(
            RuntimeSettings(telemetry_exporter="otlp", otlp_endpoint=collector.url), service="sync", replica="1"
        )
        speak(telemetry)
        assert "practice_studio_test_spoken_total" in telemetry.metrics_text().decode()
        stopping = threading.Thread(target=telemetry.shutdown)
        stopping.start()
        stopping.join(10)  # the exporters' own retries would go on for longer
    assert not stopping.is_alive()
    assert "opentelemetry" in shown.getvalue()
    assert canaries_in(shown.getvalue()) == []


def test_on_the_console_spans_and_metrics_are_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry = Telemetry(RuntimeSettings(telemetry_exporter="console"), service="sync", replica="1")
    assert telemetry.recording
    speak(telemetry)
    telemetry.shutdown()
    shown = capsys.readouterr()
    assert shown.out == ""
    assert TRACE in shown.err
    assert "practice_studio.test.spoken" in shown.err
    assert canaries_in(shown.err) == []


def test_with_none_nothing_is_exported_and_metrics_are_there_to_scrape(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry = Telemetry(RuntimeSettings(telemetry_exporter="none"), service="sync", replica="1")
    assert not telemetry.recording
    speak(telemetry)
    assert 'practice_studio_test_spoken_total{code="ok"' in telemetry.metrics_text().decode()
    telemetry.shutdown()
    assert capsys.readouterr().out == ""


# ---- One module, every road


class Body(BaseModel):
    """As many kinds of check as a body of ours may have."""

    model_config = ConfigDict(extra="forbid")

    number: int | None = None
    day: date | None = None
    choice: Literal["a", "b"] | None = None
    short: str = Field(default="", max_length=3)
    code: str = Field(default="", pattern="^[a-z]*$")
    mail: UUID | None = None


ACCESS = [
    Access("POST", "/events/{credential}", frozenset(Role)),
    Access("POST", "/bodies", frozenset(Role)),
    Access("GET", "/numbers", frozenset(Role)),
    Access("POST", "/failures/{kind}", frozenset(Role)),
]


@dataclass
class Road:
    """A module with a database, an event it publishes to itself, and failures of all kinds."""

    traces: list[tuple[str, str]] = field(default_factory=list)
    handled: asyncio.Event = field(default_factory=asyncio.Event)
    database: Database | None = None

    def build(self, runtime: Runtime) -> Module:
        self.database = database = runtime.database("road", MetaData(), None)
        router = APIRouter()

        @router.post("/events/{credential}")
        async def publish(credential: str) -> dict[str, str]:
            event = Event(
                id=runtime.ids.new("evt"),
                type="ps.credential.refreshed",
                source=runtime.source("road"),
                subject="int_1",
                time=runtime.clock.now(),
                tenant=TENANT,
                key="k",
                data={"credential": credential},
                traceparent=current_traceparent(),
            )
            async with database.write() as session:
                await outbox.add(session, [event])
            return {"trace": current_trace_id()}

        @router.post("/bodies")
        async def bodies(body: Body) -> Body:
            return body

        @router.get("/numbers")
        async def numbers(number: int, name: str = Query("", max_length=3)) -> int:
            return number

        @router.post("/failures/{kind}")
        async def fail(kind: str) -> None:
            if kind == "database":
                async with database.write() as session:
                    await session.execute(text("INSERT INTO missing VALUES (:name)"), {"name": ALL})
            if kind == "suite":
                raise SuiteError("internal.error") from ValueError(ALL)
            if kind == "group":
                raise ExceptionGroup(ALL, [ValueError(ALL)])
            raise RuntimeError(ALL)

        subscription = Subscription(("ps.credential.v1",), "road.events", self.handle, attempts_max=1)
        return Module("road", "/road", router, ACCESS, database=database, subscriptions=[subscription])

    async def handle(self, session: AsyncSession, events: Sequence[Event]) -> None:
        for event in events:
            self.traces.append((current_trace_id(), event.traceparent))
            if event.data["credential"] == "poison":
                raise ValueError(ALL)
        self.handled.set()

    async def wait_until_parked(self) -> list[Any]:
        assert self.database is not None
        async with asyncio.timeout(WAIT_S):
            while True:
                async with self.database.read() as session:
                    if rows := list((await session.execute(text("SELECT * FROM parked"))).all()):
                        return rows
                await asyncio.sleep(0.01)


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def road() -> Road:
    return Road()


@pytest.fixture
async def suite(tmp_path: Path, road: Road, spans: InMemorySpanExporter) -> AsyncIterator[RunningSuite]:
    async with running(make_test_runtime(tmp_path, "road", span_exporter=spans), road.build) as up:
        yield up


def span_named(spans: InMemorySpanExporter, name: str) -> ReadableSpan:
    (found,) = (span for span in spans.get_finished_spans() if span.name == name)
    return found


async def test_a_trace_goes_from_the_caller_over_the_bus_to_the_consumer(
    suite: RunningSuite, road: Road, spans: InMemorySpanExporter
) -> None:
    async with suite.client(Role.OPERATOR) as client:
        response = await client.post("/road/v1/events/api", headers={"traceparent": PARENT})
    assert response.json() == {"trace": TRACE}
    assert response.headers["traceparent"].split("-")[1] == TRACE
    async with asyncio.timeout(WAIT_S):
        await road.handled.wait()
    ((trace, carried),) = road.traces
    assert trace == TRACE
    server = span_named(spans, "POST /road/v1/events/{credential}")
    consumer = span_named(spans, "road.events handle")
    assert server.parent is not None
    assert f"{server.parent.span_id:016x}" == "b7ad6b7169203331"
    assert server.attributes is not None
    assert server.attributes["route"] == "/road/v1/events/{credential}"
    assert consumer.parent is not None
    assert server.context is not None
    assert consumer.parent.span_id == server.context.span_id
    assert carried == f"00-{TRACE}-{server.context.span_id:016x}-01"


@pytest.mark.parametrize("header", ["", "x", PARENT[:-1], PARENT.upper(), f"00-{'0' * 32}-b7ad6b7169203331-01", FAMILY])
async def test_a_traceparent_that_is_none_begins_a_new_trace(suite: RunningSuite, header: str) -> None:
    async with suite.client(Role.OPERATOR) as client:
        response = await client.post("/road/v1/events/api", headers={"traceparent": header})
    trace = response.headers["traceparent"].split("-")[1]
    assert trace == response.json()["trace"]
    assert trace not in {TRACE, "0" * 32}


BAD_REQUESTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "no json": ("POST", "bodies", {"content": ALL, "headers": {"content-type": "application/json"}}),
    "text": ("POST", "bodies", {"content": HL7, "headers": {"content-type": "text/plain"}}),
    "types": ("POST", "bodies", {"json": {"number": FAMILY, "day": HL7, "choice": MRN, "mail": FAMILY}}),
    "patterns": ("POST", "bodies", {"json": {"short": FAMILY, "code": MRN, "day": "1933-31-03", "mail": f"{MRN}@x"}}),
    "not an object": ("POST", "bodies", {"json": [FAMILY, MRN]}),
    "query": ("GET", "numbers", {"params": {"number": FAMILY, "name": MRN, "birth": BIRTH}}),
    "no such route": ("GET", f"patients/{MRN}", {"params": {"name": FAMILY}}),
    "wrong method": ("DELETE", "bodies", {"params": {"name": FAMILY}}),
    "header": ("GET", "numbers?number=1", {"headers": {"x-patient": FAMILY, "traceparent": MRN, "x-request-id": MRN}}),
    "key": ("POST", "bodies", {"json": {}, "headers": {"idempotency-key": MRN}}),
    "token": ("GET", "numbers", {"headers": {"authorization": f"Bearer {TOKEN}"}}),
    "password": ("GET", "numbers", {"auth": (FAMILY, PASSWORD)}),
    "ticket": ("GET", "stream", {"params": {"ticket": TOKEN}}),
    "cursor": ("GET", "dead-letters", {"params": {"cursor": MRN}}),
    "audit": ("POST", "audit:search", {"json": {"action": FAMILY, "after": HL7}}),
    "exception": ("POST", "failures/exception", {}),
    "database": ("POST", "failures/database", {}),
    "suite": ("POST", "failures/suite", {}),
    "group": ("POST", "failures/group", {}),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
async def test_no_bad_request_and_no_failure_shows_what_it_held(
    suite: RunningSuite, spans: InMemorySpanExporter, name: str
) -> None:
    method, path, arguments = BAD_REQUESTS[name]
    with captured() as logs, captured("json") as json_logs:
        async with suite.client(Role.TENANT_ADMIN) as client:
            response = await client.request(method, f"/road/v1/{path}", **arguments)
    if response.is_error:
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["request_id"].startswith("req_")
    if name in {"exception", "database", "group"}:
        assert response.json()["code"] == "internal.error"
        assert "request failed unexpectedly" in logs.getvalue()
    shown = {
        "answer": response.text + str(response.headers),
        "logs": logs.getvalue() + json_logs.getvalue(),
        "spans": "".join(span.to_json() for span in spans.get_finished_spans()),
        "metrics": suite.runtime.telemetry.metrics_text().decode(),
    }
    assert {where: found for where, text_ in shown.items() if (found := canaries_in(text_))} == {}


async def test_an_event_that_cannot_be_handled_says_by_code_why(
    suite: RunningSuite, road: Road, spans: InMemorySpanExporter
) -> None:
    with captured() as logs:
        async with suite.client(Role.OPERATOR) as client:
            await client.post("/road/v1/events/poison")
            (parked,) = await road.wait_until_parked()
            listed = await client.get("/road/v1/dead-letters")
    assert "event parked" in logs.getvalue()
    assert [row["error_code"] for row in listed.json()["items"]] == ["internal.error"]
    failed = span_named(spans, "road.events handle")
    assert (failed.status.description, failed.events) == ("ValueError", ())
    shown = logs.getvalue() + str(parked) + listed.text + "".join(s.to_json() for s in spans.get_finished_spans())
    assert canaries_in(shown) == []
