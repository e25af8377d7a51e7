"""What every service's tests stand on: a runtime on SQLite in a temporary directory, tokens of any role, an HTTP
client.

No part of a running suite imports this.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from joserfc import jwt
from joserfc.jwk import ECKey
from opentelemetry.sdk.trace.export import SpanExporter
from starlette.types import ASGIApp

from common.models.access import Role
from common.models.clock import Clock, Ids
from common.models.identifiers import type_id, uuid7
from common.runtime.authentication import AUDIENCE, Authenticator
from common.runtime.host import Build, Host, _Server, claim_port
from common.runtime.keyring import KeyRing, StaticKeyRing
from common.runtime.peers import Peers
from common.runtime.runtime import Runtime, fetch_document, make_runtime
from common.runtime.settings import RuntimeSettings
from common.runtime.system import SystemClock, SystemIds
from common.runtime.telemetry import Telemetry

ISSUER = "http://suite.test/auth"
TENANT = type_id("ten", uuid7(1_700_000_000_000, 1))
OTHER_TENANT = type_id("ten", uuid7(1_700_000_000_000, 2))


class TokenIssuer:
    """Signs tokens for tests with a key of its own."""

    __test__ = False

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.key = ECKey.generate_key("P-256", {"kid": "test", "use": "sig", "alg": "ES256"})

    def token(self, tenant: str, *roles: Role | str, subject: str = "tester", life_s: int = 3600, **claims: Any) -> str:
        """A token of the suite's issuer."""
        now = int(self._clock.now().timestamp())
        body = {
            "iss": ISSUER, "aud": AUDIENCE, "sub": subject, "tenant": tenant, "roles": [str(role) for role in roles],
            "iat": now, "exp": now + life_s, **claims,
        }  # fmt: skip
        return jwt.encode({"alg": "ES256", "kid": "test"}, body, self.key, algorithms=["ES256"])

    async def keys(self, url: str) -> Mapping[str, Any]:
        """The key set, in the place of a fetch; what another issuer publishes is fetched."""
        if url:
            return await fetch_document(url)
        return {"keys": [self.key.as_dict(private=False)]}


class TestPeers(Peers):
    """Peers whose service token comes from the test issuer instead of auth-gateway."""

    __test__ = False
    issuer: TokenIssuer

    async def _service_token(self, tenant: str, refused: str | None = None) -> str:
        return self.issuer.token(tenant, Role.SERVICE, subject="service:test")


def make_test_runtime(
    tmp_path: Path,
    service: str = "test",
    *,
    clock: Clock | None = None,
    ids: Ids | None = None,
    keyring: KeyRing | None = None,
    peer_apps: Mapping[str, ASGIApp] | None = None,
    span_exporter: SpanExporter | None = None,
    **settings: Any,
) -> Runtime:
    """A runtime on SQLite (or what `settings` say) with test tokens; `peer_apps` stand in for other services."""
    clock = clock or SystemClock()
    ids = ids or SystemIds()
    merged = {
        "data": tmp_path, "token_issuer": ISSUER, "allowed_networks": ("127.0.0.0/8", "::1/128"), "log_level": "DEBUG",
        "failed_authentications_max": 100_000,
        **settings,
    }  # fmt: skip
    chosen = RuntimeSettings(**merged)
    telemetry = Telemetry(chosen, service=service, replica="test", exporter=span_exporter)
    runtime = make_runtime(
        chosen, service=service, clock=clock, ids=ids, telemetry=telemetry, keyring=keyring or StaticKeyRing()
    )
    issuer = TokenIssuer(clock)
    peers = TestPeers({}, runtime.kek, f"service:{service}", clock, ids)
    peers.issuer = issuer
    peers.attach(dict(peer_apps or {}))
    runtime.peers = peers
    runtime.directory._peers = peers
    runtime.authenticator = Authenticator(ISSUER, chosen.oidc_issuers, issuer.keys, clock)
    return runtime


class RunningSuite:
    """Modules that are up, and clients of any role."""

    def __init__(self, host: Host, issuer: TokenIssuer) -> None:
        self.host = host
        self.issuer = issuer
        self.runtime = host.runtime

    def client(self, *roles: Role | str, tenant: str = TENANT, token: str | None = None) -> httpx.AsyncClient:
        """An HTTP client; without roles and token it sends no Authorization header."""
        bearer = token or (self.issuer.token(tenant, *roles) if roles else None)
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.host.app),
            base_url="http://suite.test",
            headers={"authorization": f"Bearer {bearer}"} if bearer else {},
        )


@dataclass(frozen=True)
class ServedSuite:
    """Modules behind a real socket."""

    host: Host
    issuer: TokenIssuer
    url: str

    def client(self, *roles: Role | str, tenant: str = TENANT, token: str | None = None) -> httpx.AsyncClient:
        """An HTTP client; without roles and token it sends no Authorization header."""
        bearer = token or (self.issuer.token(tenant, *roles) if roles else None)
        headers = {"authorization": f"Bearer {bearer}"} if bearer else {}
        return httpx.AsyncClient(base_url=self.url, headers=headers, trust_env=False)


@asynccontextmanager
async def serving(runtime: Runtime, *builds: Build, stop_timeout_s: int = 20) -> AsyncIterator[ServedSuite]:
    """Build the modules on a test runtime and serve them on a free port, with the suite's own server."""
    host = Host(runtime, [build(runtime) for build in builds])
    peers = runtime.peers
    assert isinstance(peers, TestPeers)
    claimed = claim_port("127.0.0.1", 0)
    async with host.running() as app:
        claimed.listen()
        server = _Server(
            uvicorn.Config(
                app, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=stop_timeout_s
            )
        )
        task = asyncio.create_task(server.serve(sockets=[claimed]), name="http")
        try:
            yield ServedSuite(host, peers.issuer, f"http://127.0.0.1:{claimed.getsockname()[1]}")
        finally:
            host.end_streams()
            server.should_exit = True
            await task


@asynccontextmanager
async def running(runtime: Runtime, *builds: Build) -> AsyncIterator[RunningSuite]:
    """Build the modules on a test runtime and run them (without a socket)."""
    host = Host(runtime, [build(runtime) for build in builds])
    peers = runtime.peers
    assert isinstance(peers, TestPeers)
    async with host.running():
        yield RunningSuite(host, peers.issuer)
