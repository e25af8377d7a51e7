"""The gate in front of every route: request id, trace, authentication, roles, body limit, metrics, in that order.

It is plain ASGI and runs before anything of the body is read: authenticate before parsing. Which route a request
meets, and who may call it, comes from the modules' access rows; a path without a row goes on to the framework's 404.
"""

from __future__ import annotations

import email.utils
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import SpanKind
from starlette.datastructures import Headers, MutableHeaders
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.models.access import Access
from common.models.clock import Clock, Ids
from common.models.errors import SuiteError
from common.runtime import audit
from common.runtime.authentication import Authenticator, Caller, claimed_subject
from common.runtime.http import RefusedBody, is_json, limited, too_large
from common.runtime.http_errors import problem_response
from common.runtime.telemetry import Telemetry, current_traceparent
from common.runtime.tenant_states import TenantStates
from common.runtime.throttle import FailedAttempts

if TYPE_CHECKING:
    from common.runtime.module import Module

# As many as a size in bytes can have; more would only be work to read.
_LENGTH_DIGITS_MAX: Final = 19
_METHOD_NOT_ALLOWED: Final = 405
_log = logging.getLogger("common.http")


@dataclass(frozen=True, slots=True)
class GuardedRoute:
    """A route as the gate sees it: method, full path template and its pattern, its module (None: the process's own)."""

    method: str
    path: str
    pattern: re.Pattern[str]
    access: Access
    module: Module | None


def guarded_route(method: str, path: str, access: Access, module: Module | None) -> GuardedRoute:
    """The row of one route; the pattern is the framework's own, so that both agree on what matches."""
    return GuardedRoute(method, path, compile_path(path)[0], access, module)


class Gate:
    """ASGI middleware; see the module's text."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        routes: Sequence[GuardedRoute],
        authenticator: Authenticator,
        telemetry: Telemetry,
        clock: Clock,
        ids: Ids,
        body_bytes_max: int,
        attempts: FailedAttempts,
        tenants: TenantStates,
    ) -> None:
        self._app = app
        self._authenticator = authenticator
        self._telemetry = telemetry
        self._clock = clock
        self._ids = ids
        self._body_bytes_max = body_bytes_max
        self._attempts = attempts
        self._tenants = tenants
        self._routes: dict[tuple[str, str], list[GuardedRoute]] = {}
        for route in routes:
            self._routes.setdefault((route.method, _first_segment(route.path)), []).append(route)
        self._duration = telemetry.meter.create_histogram(
            "http.server.request.duration", unit="s", description="Duration of HTTP requests by route"
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = self._ids.new("req")
        route = self._match(scope)
        name = route.path if route else "unmatched"
        state: dict[str, Any] = scope.setdefault("state", {})
        state["request_id"] = request_id
        started = self._clock.monotonic()
        response = _Response(send, request_id, self._clock, head=scope["method"] == "HEAD")
        with self._telemetry.span(
            f"{scope['method']} {name}",
            kind=SpanKind.SERVER,
            parent=headers.get("traceparent"),
            route=name,
            method=scope["method"],
            request_id=request_id,
        ) as span:
            response.traceparent = current_traceparent()
            if route is None or response.head:
                response.allow = self._methods(scope["path"])
            try:
                await self._admit(scope, headers, route, state)
                body = limited(receive, self._body_bytes_max, json=is_json(headers.get("content-type")))
                # A HEAD is answered by the handler of GET (RFC 9110 §9.3.2); the framework routes it nowhere.
                await self._app({**scope, "method": "GET"} if response.head else scope, body, response.send)
            except SuiteError as error:
                await _answer(error, request_id, scope, receive, response)
            except RefusedBody as error:
                await _answer(error.problem, request_id, scope, receive, response)
            except Exception as error:  # noqa: BLE001 - whatever it was, the caller gets a problem detail
                _log.error(
                    "request failed unexpectedly",
                    exc_info=error,
                    extra={"route": name, "method": scope["method"], "request_id": request_id},
                )
                await _answer(SuiteError("internal.error"), request_id, scope, receive, response)
            span.set_attribute("http.response.status_code", response.status)
        self._duration.record(
            self._clock.monotonic() - started,
            {"http.route": name, "http.request.method": scope["method"], "http.response.status_code": response.status},
        )

    def _match(self, scope: Scope) -> GuardedRoute | None:
        path = scope["path"]
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        for route in self._routes.get((method, _first_segment(path)), ()):
            if route.pattern.match(path):
                return route
        return None

    def _methods(self, path: str) -> str:
        """What Allow says of a path: every method of it, where the framework names those of its first route only."""
        segment = _first_segment(path)
        found = {
            method
            for (method, first), routes in self._routes.items()
            if first == segment and any(route.pattern.match(path) for route in routes)
        }
        return ", ".join(sorted(found | ({"HEAD"} if "GET" in found else set())))

    async def _admit(self, scope: Scope, headers: Headers, route: GuardedRoute | None, state: dict[str, Any]) -> None:
        if route is not None:
            scope["ps.module"] = route.module
            scope["ps.route"] = route.path
            if route.access.roles:
                caller = await self._authenticated(scope, headers.get("authorization"))
                state["caller"] = caller
                self._tenants.admit(caller, while_away=route.access.while_away)
                _allow(caller, route.access)
                if caller.access:
                    await self._audit_use(caller, route)
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise SuiteError("request.malformed", "Content-Length is not a number.")
        if len(length) > _LENGTH_DIGITS_MAX or int(length) > self._body_bytes_max:
            raise too_large(self._body_bytes_max)

    async def _audit_use(self, caller: Caller, route: GuardedRoute) -> None:
        """Every call on an access for a time is written down before it is answered, where it is answered."""
        database = route.module.database if route.module is not None else None
        if database is None:
            return
        detail = {"method": route.method, "route": route.path}
        entry = audit.Audit("access.used", caller.access, caller, self._clock.now(), detail=detail)
        async with database.write() as session:
            await audit.record(session, entry)

    async def _authenticated(self, scope: Scope, authorization: str | None) -> Caller:
        client = scope.get("client")
        keys = [f"address:{client[0]}"] if client else []
        subject = claimed_subject(authorization)
        keys += [f"subject:{subject}"] if subject else []
        token = authorization or ""
        self._attempts.check(keys, token)
        try:
            caller = await self._authenticator.authenticate(authorization)
        except SuiteError as error:
            # No token is no guess, an expired one was good, and an issuer that is away is not the caller's fault.
            if error.code == "auth.token-invalid":
                self._attempts.failed(keys, token)
            raise
        self._attempts.succeeded(token)
        return caller


def _allow(caller: Caller, access: Access) -> None:
    if not caller.roles & access.roles:
        raise SuiteError("auth.forbidden", f"Needs one of: {', '.join(sorted(access.roles))}.")


def _first_segment(path: str) -> str:
    return path.split("/", 2)[1] if "/" in path else path


async def _answer(error: SuiteError, request_id: str, scope: Scope, receive: Receive, response: _Response) -> None:
    if response.started:  # too late for a status; the connection is cut so that the caller sees it is incomplete
        raise RuntimeError("response was already started")
    await problem_response(error, request_id)(scope, receive, response.send)


class _Response:
    """Adds the headers that every response carries, and remembers the status; leaves out the body for a HEAD."""

    def __init__(self, send: Send, request_id: str, clock: Clock, *, head: bool) -> None:
        self._send = send
        self._request_id = request_id
        self._clock = clock
        self.head = head
        self.traceparent = ""
        self.allow = ""
        self.status = 500
        self.started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self._request_id
            headers.setdefault("date", email.utils.format_datetime(self._clock.now(), usegmt=True))
            headers.setdefault("cache-control", "no-store")
            headers.setdefault("x-content-type-options", "nosniff")
            if self.traceparent:
                headers["traceparent"] = self.traceparent
            if self.allow and self.status == _METHOD_NOT_ALLOWED:
                headers["allow"] = self.allow
        elif self.head and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await self._send(message)
