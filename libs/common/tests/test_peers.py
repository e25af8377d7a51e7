"""Calls between services: tokens by exchange, renewed in time, once for many; failures named."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from common.models.clock import FixedClock, SequenceIds
from common.models.errors import SuiteError, problem
from common.runtime.authentication import verify_service_assertion
from common.runtime.keyring import KeyEncryptionKey
from common.runtime.peers import TOKEN_EXCHANGE, PeerKeySource, Peers
from common.testing import OTHER_TENANT, TENANT

AT = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
KEK = KeyEncryptionKey(b"k" * 32)
LIFE_S = 300


@dataclass
class Services:
    """auth-gateway's token endpoint, which really verifies assertions, and one service that checks tokens."""

    clock: FixedClock
    issued: list[str] = field(default_factory=list)
    good: set[str] = field(default_factory=set)
    calls: list[tuple[str, str]] = field(default_factory=list)
    answer: Response | None = None
    expires_in: int = LIFE_S

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/auth/v1/token", self.token, methods=["POST"]),
                Route("/auth/v1/tenants/{tenant}/keys", self.work),
                Route("/tasks", self.work, methods=["GET", "POST"]),
            ]
        )

    async def token(self, request: Request) -> Response:
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        assert form["grant_type"] == TOKEN_EXCHANGE
        try:
            subject, _ = verify_service_assertion(form["subject_token"], KEK, self.clock.now())
        except SuiteError as error:
            return JSONResponse(problem(error, request_id="req"), error.row.status)
        token = f"{subject}/{form['tenant']}/{len(self.issued)}"
        self.issued.append(token)
        self.good.add(token)
        return JSONResponse({"access_token": token, "expires_in": self.expires_in})

    async def work(self, request: Request) -> Response:
        token = request.headers["authorization"].removeprefix("Bearer ")
        self.calls.append((token, request.headers["traceparent"]))
        if token not in self.good:
            return JSONResponse(problem(SuiteError("auth.token-invalid"), request_id="req"), 401)
        return self.answer or JSONResponse({"ok": True})


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(AT)


@pytest.fixture
def services(clock: FixedClock) -> Services:
    return Services(clock)


@pytest.fixture
async def peers(services: Services, clock: FixedClock) -> AsyncIterator[Peers]:
    made = Peers({}, KEK, "service:sync", clock, SequenceIds())
    app = services.app()
    made.attach({"auth-gateway": app, "work": app})
    yield made
    await made.close()


async def call(peers: Peers, tenant: str = TENANT) -> Any:
    return (await peers.request("work", "GET", "/tasks", tenant=tenant)).json()


async def failure(peers: Peers, service: str = "work") -> SuiteError:
    with pytest.raises(SuiteError) as failed:
        await peers.request(service, "GET", "/tasks", tenant=TENANT)
    return failed.value


async def test_one_token_serves_a_tenant_until_a_minute_before_it_expires(
    peers: Peers, services: Services, clock: FixedClock
) -> None:
    assert [await call(peers) for _ in range(3)] == [{"ok": True}] * 3
    clock.advance(LIFE_S - 61)
    await call(peers)
    assert services.issued == [f"service:sync/{TENANT}/0"]
    clock.advance(1)
    await call(peers)
    assert services.issued[1:] == [f"service:sync/{TENANT}/1"]
    assert services.calls[-1][0] == services.issued[1]


async def test_a_tenants_token_is_never_used_for_another(peers: Peers, services: Services) -> None:
    await call(peers)
    await call(peers, OTHER_TENANT)
    await call(peers)
    assert [token.split("/")[1] for token, _ in services.calls] == [TENANT, OTHER_TENANT, TENANT]
    assert len(services.issued) == 2


async def test_many_at_once_are_one_exchange(peers: Peers, services: Services) -> None:
    await asyncio.gather(*(call(peers) for _ in range(50)))
    assert len(services.issued) == 1
    services.good.clear()  # the issuer's key was rotated under all of them
    await asyncio.gather(*(call(peers) for _ in range(50)))
    assert len(services.issued) == 2


async def test_a_401_is_tried_once_more_with_a_new_token(peers: Peers, services: Services) -> None:
    await call(peers)
    services.good.clear()
    assert await call(peers) == {"ok": True}
    assert len(services.calls) == 3


async def test_a_service_that_is_not_accepted_is_not_the_callers_fault(peers: Peers, services: Services) -> None:
    services.answer = JSONResponse(problem(SuiteError("auth.token-invalid"), request_id="req"), 401)
    failed = await failure(peers)
    assert (failed.code, failed.row.status) == ("service.unavailable", 503)
    assert "work" in str(failed.detail)
    assert "service:sync" in str(failed.detail)
    assert len(services.calls) == 2


async def test_another_key_file_is_said(services: Services, clock: FixedClock) -> None:
    stranger = Peers({}, KeyEncryptionKey(b"x" * 32), "service:sync", clock, SequenceIds())
    stranger.attach({"auth-gateway": services.app(), "work": services.app()})
    failed = await failure(stranger)
    assert (failed.code, failed.row.status) == ("service.unavailable", 503)
    assert "key file" in str(failed.detail)
    assert services.calls == []
    with pytest.raises(SuiteError) as refused:  # for the operator's own command the code stays
        await stranger.token(TENANT, subject="operator:local", scope="tenant-admin")
    assert refused.value.code == "auth.assertion-invalid"
    await stranger.close()


async def test_a_peer_that_is_down_is_named(peers: Peers, services: Services, clock: FixedClock) -> None:
    with socket.socket() as claimed:
        claimed.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        url = f"http://127.0.0.1:{claimed.getsockname()[1]}"
        down = Peers({"auth-gateway": url, "work": url}, KEK, "service:sync", clock, SequenceIds())
        assert (await failure(down)).detail == "auth-gateway does not answer."
        down.attach({"auth-gateway": services.app()})
        await down.close()
        half = Peers({"work": url}, KEK, "service:sync", clock, SequenceIds())
        half.attach({"auth-gateway": services.app()})
        failed = await failure(half)
        assert (failed.code, failed.detail, failed.transient) == ("service.unavailable", "work does not answer.", True)
        await half.close()


async def test_a_peer_that_does_not_answer_in_time_is_named(services: Services, clock: FixedClock) -> None:
    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await closed.wait()
        writer.close()

    closed = asyncio.Event()
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    peers = Peers(
        {"work": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"}, KEK, "service:sync", clock, SequenceIds()
    )
    peers.attach({"auth-gateway": services.app()})
    with pytest.raises(SuiteError, match="work does not answer") as failed:
        await peers.request("work", "GET", "/tasks", tenant=TENANT, timeout_s=0.05)
    assert failed.value.code == "service.unavailable"
    await peers.close()
    closed.set()
    server.close()
    await server.wait_closed()


async def test_a_service_without_a_url_names_the_setting(peers: Peers) -> None:
    failed = await failure(peers, "alerts")
    assert (failed.code, failed.detail) == ("start.bad-setting", "PS_PEERS names no URL of alerts.")


@pytest.mark.parametrize(
    ("answer", "code", "detail"),
    [
        (JSONResponse({"code": "integration.not-found", "detail": "d"}, 404), "integration.not-found", "d"),
        (JSONResponse({"code": "of.a-newer-version", "detail": "d"}, 409), "service.unavailable", "d"),
        (PlainTextResponse("<html>", 502), "service.unavailable", "work answered 502."),
        (JSONResponse(["no object"], 500), "service.unavailable", "work answered 500."),
    ],
    ids=range(4),
)
async def test_a_problem_comes_through_by_its_code(
    peers: Peers, services: Services, answer: Response, code: str, detail: str
) -> None:
    services.answer = answer
    failed = await failure(peers)
    assert (failed.code, failed.detail) == (code, detail)


async def test_keys_come_from_auth_gateway(peers: Peers, services: Services) -> None:
    source = PeerKeySource(peers)
    services.answer = JSONResponse({"keys": [{"version": 2, "wrapped": "00ff"}]})
    assert [(key.version, key.wrapped) for key in await source.wrapped(TENANT)] == [(2, b"\x00\xff")]
    services.answer = JSONResponse({"code": "tenant.not-found"}, 404)
    assert await source.wrapped(TENANT) == []
    services.answer = PlainTextResponse("", 503)
    with pytest.raises(SuiteError) as failed:
        await source.wrapped(TENANT)
    assert failed.value.code == "keys.unavailable"
