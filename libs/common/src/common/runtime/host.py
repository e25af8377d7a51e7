"""The host: composes one or many modules into one application, and runs it.

Start: data directory and port are claimed; databases opened and migrated; bus; relays; every module's lifespan in
order; then subscriptions; then HTTP. Stop, in reverse: no new requests, streams ended, requests finished, consumers
finish the batch in hand, lifespans left in reverse, relays, bus, databases. A start that fails says why in one line.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import gc
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any, Final

import uvicorn
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from fastapi.routing import iter_route_contexts
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.trace import SpanKind
from sqlalchemy.ext.asyncio import AsyncSession

from common.models.access import Access
from common.models.clock import Clock
from common.models.errors import SuiteError
from common.models.events import Event
from common.runtime import http_errors
from common.runtime.chassis_api import (
    CHASSIS_ACCESS,
    DATABASE_ACCESS,
    TENANT_DATA_ACCESS,
    database_router,
    ready_response,
    stream_router,
    tenant_data_router,
)
from common.runtime.gate import Gate, GuardedRoute, guarded_route
from common.runtime.inbox import Consumer, Subscription
from common.runtime.leases import Leases
from common.runtime.module import Module
from common.runtime.outbox import Relay, outbox_age
from common.runtime.reference_page import CONTENT_SECURITY_POLICY, reference_page
from common.runtime.runtime import Runtime, make_runtime
from common.runtime.settings import RuntimeSettings, environment_of, load
from common.runtime.stream import StreamHub
from common.runtime.system import SystemClock, SystemIds
from common.runtime.telemetry import METRICS_CONTENT_TYPE, Telemetry, set_up_logging
from common.runtime.tenant_data import TenantData, erasing
from common.runtime.throttle import FailedAttempts

Build = Callable[[Runtime], Module]
GARBAGE_OBJECTS_MAX: Final = 10_000
"""New objects between two looks at the young ones; Python's own 700 is for programs without many at once."""

PROCESS_ACCESS: Final = (
    Access("GET", "/livez", frozenset(), "probe of the orchestrator; says only that the process lives"),
    Access("GET", "/readyz", frozenset(), "probe of the orchestrator; says only which module is not ready"),
    Access("GET", "/metrics", frozenset(), "scraped inside the cluster; holds counts, no tenant and no patient"),
    Access("GET", "/openapi.json", frozenset(), "the published contract"),
    Access("GET", "/docs", frozenset(), "the published contract, to read"),
)
_STREAMS_END_S: Final = 2.0
_BACKLOG: Final = 2048
_log = logging.getLogger("common.host")


class Host:
    """Modules composed into one application, with their background work."""

    def __init__(self, runtime: Runtime, modules: Sequence[Module]) -> None:
        self.runtime = runtime
        self.modules = modules
        self.started = False
        self._hubs = {module.name: StreamHub(runtime.bus, module.stream_topics) for module in modules}
        runtime.tenants.rests += [hub.end_streams_of for hub in self._hubs.values()]
        self._data = {
            module.name: TenantData(module.name, module.database, module.tenant_parts)
            for module in modules
            if module.database is not None and module.tenant_parts is not None
        }
        self._consumers: dict[str, dict[str, Consumer]] = {
            module.name: {
                row.consumer: Consumer(
                    runtime.bus, module.database, runtime.clock, runtime.ids, traced(row, runtime.telemetry)
                )
                for row in (*module.subscriptions, *self._erasing(module))
                if module.database is not None
            }
            for module in modules
        }
        self._relays = {
            module.name: Relay(
                module.database, runtime.bus, Leases(module.database, runtime.clock, runtime.ids), runtime.clock
            )
            for module in modules
            if module.database is not None
        }
        self._outbox_age_s: dict[str, float] = {}
        self.app = self._application()

    def _erasing(self, module: Module) -> list[Subscription]:
        data, runtime = self._data.get(module.name), self.runtime
        return [erasing(data, runtime.clock, runtime.ids, runtime.source(module.name))] if data is not None else []

    def _application(self) -> FastAPI:
        titles = ", ".join(module.name for module in self.modules)
        app = FastAPI(
            title="Practice Studio Integrations",
            summary=f"Services: {titles}",
            version="1",
            docs_url=None,
            redoc_url=None,
            openapi_url=None,
            redirect_slashes=False,  # an unknown address is a problem detail, not a redirect to the caller's own Host
        )
        app.state.runtime = self.runtime
        http_errors.install(app)
        self._process_routes(app)
        access: dict[tuple[str, str], tuple[Access, Module | None]] = {
            (row.method, row.path): (row, None) for row in PROCESS_ACCESS
        }
        for module in self.modules:
            base = f"{module.prefix}/v1"
            app.include_router(module.router, prefix=base)
            app.include_router(
                stream_router(self.runtime, module.name, self._hubs[module.name], module.name), prefix=base
            )
            rows = [*module.access, *CHASSIS_ACCESS]
            if module.database is not None:
                app.include_router(
                    database_router(self.runtime, module.database, self._consumers[module.name], module.name),
                    prefix=base,
                )
                rows += DATABASE_ACCESS
            if module.name in self._data:
                app.include_router(tenant_data_router(self._data[module.name], self.runtime, module.name), prefix=base)
                rows += TENANT_DATA_ACCESS
            access |= {(row.method, base + row.path): (row, module) for row in rows}
            self._module_readiness(app, module)
            access[("GET", f"{module.prefix}/readyz")] = (
                Access("GET", "/readyz", frozenset(), "probe of the orchestrator"),
                module,
            )
        app.state.access = {(method, path): row for (method, path), (row, _) in access.items()}
        app.add_middleware(
            Gate,
            routes=guarded_routes(app, access),
            authenticator=self.runtime.authenticator,
            telemetry=self.runtime.telemetry,
            clock=self.runtime.clock,
            ids=self.runtime.ids,
            body_bytes_max=self.runtime.settings.body_bytes_max,
            attempts=FailedAttempts(self.runtime.clock, self.runtime.settings.failed_authentications_max),
            tenants=self.runtime.tenants,
        )
        if self.runtime.settings.cors_origins:
            app.add_middleware(
                CORSMiddleware,
                allow_origins=list(self.runtime.settings.cors_origins),
                allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
                allow_headers=["Authorization", "Content-Type", "If-Match", "Idempotency-Key", "traceparent"],
                expose_headers=[
                    "ETag",
                    "Location",
                    "x-request-id",
                    "traceparent",
                    "Retry-After",
                    "Idempotency-Replayed",
                ],
                max_age=600,
            )
        self.runtime.peers.attach({module.name: app for module in self.modules})
        return app

    def _process_routes(self, app: FastAPI) -> None:
        @app.get("/livez", summary="Liveness", tags=["process"])
        async def livez() -> PlainTextResponse:
            """The process lives and its event loop turns."""
            return PlainTextResponse("alive\n")

        @app.get("/readyz", summary="Readiness", tags=["process"])
        async def readyz() -> JSONResponse:
            """Every module is ready, or the reasons why not."""
            return ready_response(await self.reasons())

        @app.get("/metrics", summary="Metrics (Prometheus)", tags=["process"])
        async def metrics() -> Response:
            """Counters and durations of this process."""
            return Response(self.runtime.telemetry.metrics_text(), media_type=METRICS_CONTENT_TYPE)

        @app.get("/openapi.json", summary="OpenAPI description", tags=["process"])
        async def openapi() -> JSONResponse:
            """OpenAPI 3.1 of the modules in this process."""
            return JSONResponse(app.openapi())

        @app.get("/docs", summary="API documentation", tags=["process"])
        async def docs() -> HTMLResponse:
            """The same, to read."""
            return HTMLResponse(
                reference_page(app.openapi(), app.state.access),
                headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY},
            )

    def _module_readiness(self, app: FastAPI, module: Module) -> None:
        @app.get(
            f"{module.prefix}/readyz",
            summary=f"Readiness of {module.name}",
            tags=["process"],
            name=f"readyz-{module.name}",
        )
        async def readyz() -> JSONResponse:
            return ready_response(await self.reasons(), module.name)

    async def reasons(self) -> dict[str, list[str]]:
        """Per module, why it is not ready (empty: it is)."""
        found: dict[str, list[str]] = {}
        bus = [] if not self.started else await _failure(self.runtime.bus.ping)
        for module in self.modules:
            why = [] if self.started else ["starting"]
            if self.started:
                why += bus
                if module.database is not None:
                    why += await _failure(module.database.ping)
                try:
                    why += await module.ready()
                except SuiteError as error:
                    why.append(error.code)
            found[module.name] = why
        return found

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FastAPI]:
        """Everything but the HTTP server: entered in order, left in reverse."""
        runtime = self.runtime
        async with AsyncExitStack() as stack:
            stack.callback(runtime.telemetry.shutdown)
            for database in runtime.databases:
                await database.open()
                stack.push_async_callback(database.close)
            await runtime.bus.start()
            stack.push_async_callback(runtime.bus.stop)
            stack.push_async_callback(runtime.outbound.close)
            stack.push_async_callback(runtime.peers.close)
            runtime.telemetry_events.start()
            stack.push_async_callback(runtime.telemetry_events.stop)
            for relay in self._relays.values():
                await relay.start()
                stack.push_async_callback(relay.stop)
            for module in self.modules:
                await stack.enter_async_context(module.lifespan())
            await runtime.tenants.start()
            stack.push_async_callback(runtime.tenants.stop)
            await runtime.directory.start()
            stack.push_async_callback(runtime.directory.stop)
            for hub in self._hubs.values():
                await hub.start()
                stack.push_async_callback(hub.stop)
            for consumers in self._consumers.values():
                for consumer in consumers.values():
                    await consumer.start()
                    stack.push_async_callback(consumer.stop)
            measuring = asyncio.create_task(self._measure(), name="measurements")
            stack.push_async_callback(_cancel, measuring)
            self._observe()
            self.started = True
            try:
                yield self.app
            finally:
                self.started = False

    def end_streams(self) -> None:
        """End open streams so that a stop need not wait for browsers."""
        for hub in self._hubs.values():
            hub.end_streams()

    async def _measure(self) -> None:
        """Publish outbox age and memory, and keep the figures for /metrics."""
        while True:
            for module in self.modules:
                if module.database is None:
                    continue
                try:
                    async with module.database.read() as session:
                        self._outbox_age_s[module.name] = await outbox_age(session, self.runtime.clock.now())
                except SuiteError as error:
                    _log.getChild(module.name).warning("outbox could not be measured", extra={"code": error.code})
                    continue
                self._publish_measurement(module.name, "outbox_age", self._outbox_age_s[module.name], "s")
            self._publish_measurement(self.runtime.service, "memory", float(resident_bytes()), "By")
            await asyncio.sleep(self.runtime.settings.measurement_every_s)

    def _publish_measurement(self, module: str, name: str, value: float, unit: str) -> None:
        runtime = self.runtime
        runtime.telemetry_events.put(
            Event(
                id=runtime.ids.new("evt"),
                type="ps.measurement.taken",
                source=runtime.source(module),
                subject=runtime.replica,
                time=runtime.clock.now(),
                tenant="platform",
                key="",
                data={"module": module, "replica": runtime.replica, "name": name, "value": value, "unit": unit},
            )
        )

    def _observe(self) -> None:
        meter = self.runtime.telemetry.meter

        def ages(_: CallbackOptions) -> Iterator[Observation]:
            for module, age in self._outbox_age_s.items():
                yield Observation(age, {"module": module})

        def memory(_: CallbackOptions) -> Iterator[Observation]:
            yield Observation(resident_bytes())

        def unreadable(_: CallbackOptions) -> Iterator[Observation]:
            for topic, count in self.runtime.bus.unreadable.items():
                yield Observation(count, {"topic": topic})

        meter.create_observable_counter(
            "practice_studio.bus.unreadable", [unreadable], description="Records that are no events of ours, skipped"
        )
        meter.create_observable_gauge(
            "practice_studio.outbox.age", [ages], unit="s", description="Age of the oldest unpublished event"
        )
        meter.create_observable_gauge("process.memory.usage", [memory], unit="By", description="Resident memory")


def guarded_routes(app: FastAPI, access: dict[tuple[str, str], tuple[Access, Module | None]]) -> list[GuardedRoute]:
    """One guarded row per route, in the framework's order; raises RuntimeError for a route without a row, or the
    reverse."""
    routes: list[GuardedRoute] = []
    for context in iter_route_contexts(app.routes):
        for method in sorted((context.methods or set()) - {"HEAD"}):
            row = access.get((method, str(context.path)))
            if row is None:
                raise RuntimeError(f"{method} {context.path} has no access row")
            routes.append(guarded_route(method, str(context.path), row[0], row[1]))
    missing = set(access) - {(route.method, route.path) for route in routes}
    if missing:
        raise RuntimeError(f"access rows without a route: {sorted(missing)}")
    return routes


def traced(subscription: Subscription, telemetry: Telemetry) -> Subscription:
    """The subscription with a span around its handler: the event's trace goes on, a batch is linked to all of its."""

    async def handler(session: AsyncSession, events: Sequence[Event]) -> None:
        traces = list(dict.fromkeys(event.traceparent for event in events if event.traceparent))
        alone = traces[0] if len(traces) == 1 else None
        with telemetry.span(
            f"{subscription.consumer} handle",
            kind=SpanKind.CONSUMER,
            parent=alone,
            links=() if alone else traces,
            consumer=subscription.consumer,
            count=len(events),
        ):
            await subscription.handler(session, events)

    return replace(subscription, handler=handler)


def resident_bytes() -> int:
    """Resident memory of this process in bytes (its peak where the system tells no more)."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - read often, no path object needed
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def claim_port(host: str, port: int) -> socket.socket:
    """A listening socket; raises SuiteError `start.port-in-use` naming address and port, or `start.bad-setting`.

    It listens at once, because a port that is only bound can be bound again: two suites that start together would both
    believe that it is theirs. Who connects before the start is over, waits.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    claimed = socket.socket(family, socket.SOCK_STREAM)
    claimed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        claimed.bind((host, port))
        claimed.listen(_BACKLOG)
    except OSError as error:
        claimed.close()
        if error.errno == errno.EADDRINUSE:
            raise SuiteError("start.port-in-use", f"{host}:{port}: {error.strerror}") from error
        name = "PS_PORT" if error.errno == errno.EACCES else "PS_HOST"
        raise SuiteError("start.bad-setting", f"{name}: {host}:{port}: {error.strerror}") from error
    except TypeError as error:  # what a name becomes that IDNA cannot encode
        claimed.close()
        raise SuiteError("start.bad-setting", f"PS_HOST: {host} is no host name") from error
    claimed.set_inheritable(True)
    return claimed


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the host stops it, and cleans up afterwards."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        cutting = asyncio.create_task(self._cut_streams(), name="streams-cut")
        try:
            await super().shutdown(sockets)
        finally:
            await _cancel(cutting)

    async def _cut_streams(self) -> None:
        """End the streams of readers that do not read: their end cannot be sent, and a stop would wait in vain."""
        await asyncio.sleep(_STREAMS_END_S)
        for connection in list(self.server_state.connections):
            cycle = getattr(connection, "cycle", None)
            if cycle is not None and cycle.scope["path"].endswith("/v1/stream"):
                connection.transport.abort()


async def serve(host: Host, claimed: socket.socket, *, ready: Callable[[], Awaitable[None]] | None = None) -> None:
    """Run until SIGINT or SIGTERM; `ready` is called once requests are answered.

    A signal during the start ends the start, and what was started already is stopped.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    this = asyncio.current_task()
    started = False

    def asked_to_stop() -> None:
        if not started and not stop.is_set() and this is not None:
            this.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked_to_stop)
    try:
        async with host.running() as app:
            started = True
            await _serve_until(stop, host, app, claimed, ready)
    except asyncio.CancelledError:
        if started or not stop.is_set() or this is None:
            raise
        this.uncancel()


async def _serve_until(
    stop: asyncio.Event,
    host: Host,
    app: FastAPI,
    claimed: socket.socket,
    ready: Callable[[], Awaitable[None]] | None,
) -> None:
    server = _Server(
        uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            # the gate's: a module may answer with a clock of its own (the simulator's skewed one)
            date_header=False,
            backlog=_BACKLOG,
            timeout_graceful_shutdown=int(host.runtime.settings.stop_timeout_s),
            h11_max_incomplete_event_size=64 * 1024,
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[claimed]), name="http")
    try:
        if ready is not None:
            await _until_started(server, serving)
            await ready()
        settle_heap()
        waiting = asyncio.create_task(stop.wait(), name="signals")
        await asyncio.wait({waiting, serving}, return_when=asyncio.FIRST_COMPLETED)
        await _cancel(waiting)
    finally:
        host.end_streams()
        server.should_exit = True
        await serving


async def _until_started(server: uvicorn.Server, serving: asyncio.Task[None]) -> None:
    while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has a flag, no event
        await asyncio.sleep(0.01)


async def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _failure(ping: Callable[[], Awaitable[None]]) -> list[str]:
    try:
        await ping()
    except SuiteError as error:
        return [error.code]
    return []


def compose(builds: Sequence[Build], settings: RuntimeSettings, *, service: str, clock: Clock | None = None) -> Host:
    """Modules on a runtime of their own, not yet running."""
    runtime = make_runtime(settings, service=service, clock=clock or SystemClock(), ids=SystemIds())
    return Host(runtime, [build(runtime) for build in builds])


def settle_heap() -> None:
    """Once everything is loaded: what is there stays, so that the garbage collector need not look at it again.

    Hundreds of thousands of objects (schemas, routes, statements) live as long as the process; a full collection over
    them stops everything for tens of milliseconds. See the documentation of `gc.freeze`.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS_MAX, *gc.get_threshold()[1:])


def run(start: Callable[[], Awaitable[None]]) -> int:
    """Run a start on uvloop; a failure of the catalogue becomes one line on standard error and exit status 1."""
    import uvloop

    try:
        uvloop.run(_as_coroutine(start))
    except SuiteError as error:
        print(f"{error.code}: {error.detail or error.row.title}. {error.row.next_step}", file=sys.stderr)  # noqa: T201 - the command line's own output
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


async def _as_coroutine(start: Callable[[], Awaitable[None]]) -> None:
    await start()


def main(build: Build, *, service: str, arguments: Sequence[str] | None = None) -> None:
    """The command line of one service: `python -m <package> [--host …] [--port …] [--data …]`."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {service.replace('-', '_')}",
        description=f"The {service} service of Practice Studio Integrations. Settings come from the "
        f"environment (docs/settings.md); options go before them.",
    )
    parser.add_argument("--host", help="address to listen on (PS_HOST, default 127.0.0.1)")
    parser.add_argument("--port", help="port to listen on (PS_PORT, default 8080)")
    parser.add_argument("--data", help="directory of embedded databases and key file (PS_DATA, default ./data)")
    options = parser.parse_args(arguments)
    environment_of({f"PS_{name.upper()}": value for name, value in vars(options).items() if value is not None})

    async def start() -> None:
        settings = load(RuntimeSettings)
        set_up_logging(settings)
        claimed = claim_port(settings.host, settings.port)
        try:
            host = compose([build], settings, service=service)

            async def ready() -> None:
                _log.getChild(service).info("ready", extra={"port": claimed.getsockname()[1]})

            await serve(host, claimed, ready=ready)
        finally:
            claimed.close()

    sys.exit(run(start))
