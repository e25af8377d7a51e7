"""Against an authorization server that is not ours: authlib's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from auth_gateway.module import build
from common.models.access import Role
from common.testing import TENANT, RunningSuite, make_test_runtime, running
from infrastructure.authlib_server import AuthlibServer, RegisteredClient


@pytest.fixture
async def suite(tmp_path: Path) -> AsyncIterator[RunningSuite]:
    async with running(make_test_runtime(tmp_path, "auth-gateway"), build) as up:
        async with up.client(Role.PLATFORM_OPERATOR, tenant="platform") as client:
            assert (await client.post("/auth/v1/tenants", json={"name": "p", "id": TENANT})).status_code == 201
        yield up


@pytest.fixture
async def server(suite: RunningSuite) -> AsyncIterator[AuthlibServer]:
    async with suite.client() as vendor:
        keys = (await vendor.get(f"/auth/v1/tenants/{TENANT}/development/jwks.json")).json()
    up = AuthlibServer(lambda: keys)
    await up.start()
    yield up
    await up.stop()


async def put(suite: RunningSuite, server: AuthlibServer, **form: Any) -> str:
    async with suite.client(Role.TENANT_ADMIN) as client:
        made = (await client.post("/auth/v1/integrations", json={"name": "n", "vendor": "fhir"})).json()
        path = f"/auth/v1/integrations/{made['id']}/credentials/api"
        answer = await client.put(path, json={"client_id": "app", "token_url": f"{server.url}/token", **form})
        assert answer.status_code == 200, answer.text
    return path


async def refresh(suite: RunningSuite, path: str) -> tuple[int, dict[str, Any]]:
    async with suite.client(Role.OPERATOR) as client:
        answer = await client.post(f"{path}:refresh")
        return answer.status_code, answer.json()


@pytest.mark.parametrize("algorithm", ["RS384", "ES384"])
async def test_our_assertions_are_understood_and_each_is_new(
    suite: RunningSuite, server: AuthlibServer, algorithm: str
) -> None:
    server.oauth.clients["app"] = RegisteredClient("app", method="client_assertion_jwt")
    path = await put(suite, server, method="private_key_jwt", algorithm=algorithm, scopes=["system/Patient.rs"])
    for _ in range(3):
        status, found = await refresh(suite, path)
        assert (status, found["scope"]) == (200, "system/Patient.rs")
    assert server.statuses == [200, 200, 200]


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_secrets_with_odd_characters_arrive_whole(
    suite: RunningSuite, server: AuthlibServer, method: str
) -> None:
    secret = "p%4w:o&r+d é"
    server.oauth.clients["app"] = RegisteredClient("app", secret, method=method)
    path = await put(suite, server, method=method, secret=secret)
    assert (await refresh(suite, path))[0] == 200


async def test_a_wrong_secret_is_the_peers_refusal(suite: RunningSuite, server: AuthlibServer) -> None:
    server.oauth.clients["app"] = RegisteredClient("app", "right")
    path = await put(suite, server, method="client_secret_basic", secret="wrong")
    status, found = await refresh(suite, path)
    assert (status, found["code"]) == (502, "credential.rejected")
    assert "invalid_client" in found["detail"]


async def test_a_person_connects_and_each_refresh_token_is_used_once(
    suite: RunningSuite, server: AuthlibServer
) -> None:
    path = await put(
        suite, server, method="client_secret_basic", secret="right", grant="authorization_code",
        authorize_url=f"{server.url}/authorize", scopes=["offline_access"],
    )  # fmt: skip
    async with suite.client(Role.INTEGRATION_ADMIN) as client:
        begun = (await client.post(f"{path}:authorize")).json()
    server.oauth.clients["app"] = RegisteredClient("app", "right", begun["redirect_uri"])
    back = server.consent(begun["authorize_url"], "jdoe")
    async with suite.client() as browser:
        page = await browser.get("/auth/v1/oauth/callback", params=back)
    assert page.status_code == 200, page.text
    for _ in range(3):
        assert (await refresh(suite, path))[0] == 200
    assert sum(not token.revoked for token in server.oauth.tokens) == 1
    for token in server.oauth.tokens:
        token.revoked = True
    status, found = await refresh(suite, path)
    assert (status, found["code"]) == (409, "credential.reconnect-needed")
