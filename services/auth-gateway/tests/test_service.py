"""auth-gateway as a service: configuration, credentials against a real token endpoint, tokens for services, secrets."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from auth_gateway.adapters.tables import Base
from auth_gateway.module import build
from common.models.access import Role
from common.models.clock import parse_instant
from common.runtime.authentication import sign_service_assertion
from common.runtime.database import schema_differences
from common.runtime.peers import TOKEN_EXCHANGE, TOKEN_TYPE_JWT
from common.testing import OTHER_TENANT, TENANT, RunningSuite, make_test_runtime, running

SECRET = "canary-s3cret-of-the-client"
ACCESS_TOKEN = "canary-access-token"


class TokenEndpoint:
    """A provider on a real socket: counts requests, grants or refuses."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.answer: tuple[int, str] | None = None
        self.life_s = 300
        self._server: asyncio.Server | None = None
        self.url = ""

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/token"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(
            (int(line.split(":")[1]) for line in head.split("\r\n") if line.lower().startswith("content-length")), 0
        )
        body = (await reader.readexactly(length)).decode()
        status, text = 404, "{}"
        if head.startswith("POST"):
            self.requests.append(head + body)
            token = (
                f'{{"access_token": "{ACCESS_TOKEN}-{len(self.requests)}", "expires_in": {self.life_s}, "scope": "a"}}'
            )
            status, text = self.answer or (200, token)
        writer.write(
            f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n"
            f"Connection: close\r\n\r\n{text}".encode()
        )
        await writer.drain()
        writer.close()


@pytest.fixture
async def provider() -> AsyncIterator[TokenEndpoint]:
    endpoint = TokenEndpoint()
    await endpoint.start()
    yield endpoint
    await endpoint.stop()


@pytest.fixture
async def suite(tmp_path: Path) -> AsyncIterator[RunningSuite]:
    async with running(make_test_runtime(tmp_path, "auth-gateway"), build) as up:
        async with up.client(Role.PLATFORM_OPERATOR, tenant="platform") as client:
            for tenant in (TENANT, OTHER_TENANT):
                assert (await client.post("/auth/v1/tenants", json={"name": "p", "id": tenant})).status_code == 201
        yield up


async def integration(suite: RunningSuite, name: str = "Epic") -> str:
    async with suite.client(Role.TENANT_ADMIN) as client:
        made = await client.post("/auth/v1/integrations", json={"name": name, "vendor": "epic"})
        assert made.status_code == 201, made.text
        return str(made.json()["id"])


async def credential(suite: RunningSuite, provider: TokenEndpoint, **changed: Any) -> str:
    path = f"/auth/v1/integrations/{await integration(suite)}/credentials/api"
    body = {
        "method": "client_secret_basic",
        "client_id": "app",
        "token_url": provider.url,
        "scopes": ["a"],
        "secret": SECRET,
    }
    async with suite.client(Role.TENANT_ADMIN) as client:
        put = await client.put(path, json={**body, **changed})
        assert put.status_code == 200, put.text
        assert "secret" not in put.json()
    return path


async def token(suite: RunningSuite, path: str, rejected: str | None = None) -> tuple[int, dict[str, Any]]:
    async with suite.client(Role.SERVICE) as client:
        response = await client.post(f"{path}:token", json={"rejected_token_sha256": rejected} if rejected else {})
        return response.status_code, response.json()


async def test_an_integration_is_changed_by_version_and_moves_by_state(suite: RunningSuite) -> None:
    path = f"/auth/v1/integrations/{await integration(suite)}"
    async with suite.client(Role.TENANT_ADMIN) as client:
        read = await client.get(path)
        assert (read.json()["state"], read.headers["etag"]) == ("draft", '"1"')
        changed = await client.patch(path, json={"product": "R4"}, headers={"If-Match": '"1"'})
        stale = await client.patch(path, json={"product": "R5"}, headers={"If-Match": '"1"'})
        blind = await client.patch(path, json={"product": "R5"})
        assert (changed.status_code, stale.status_code, blind.status_code) == (200, 412, 428)
        assert (await client.post(f"{path}:pause")).status_code == 409
        assert (await client.post(f"{path}:resume")).json()["state"] == "active"
        assert (await client.post(f"{path}:pause")).json()["state"] == "paused"
        taken = await client.post("/auth/v1/integrations", json={"name": "Epic", "vendor": "epic"})
        assert (taken.status_code, taken.json()["code"]) == (409, "integration.name-taken")
        channel = {"kind": "fhir", "endpoint": "http://127.0.0.1:9/r4", "time_zone": "UTC", "credential": "api"}
        assert (await client.put(f"{path}/channels/fhir", json=channel)).status_code == 200
        assert (await client.put(f"{path}/channels/fhir", json=channel)).status_code == 428
        assert (await client.put(f"{path}/channels/unity", json={**channel, "kind": "unity"})).json()["errors"][0][
            "pointer"
        ] == "/kind"
        audited = (await client.post("/auth/v1/audit:search", json={"subject": path.rsplit("/", 1)[1]})).json()["items"]
    assert [row["action"] for row in reversed(audited)] == [
        "integration.created", "integration.changed", "integration.resumed", "integration.paused", "channel.changed",
    ]  # fmt: skip
    async with suite.client(Role.TENANT_ADMIN, tenant=OTHER_TENANT) as stranger:
        assert (await stranger.get(path)).status_code == 404
        assert (await stranger.post(f"{path}:resume")).status_code == 404


async def test_fifty_callers_cause_one_request(suite: RunningSuite, provider: TokenEndpoint) -> None:
    path = await credential(suite, provider)
    answers = await asyncio.gather(*(token(suite, path) for _ in range(50)))
    assert {status for status, _ in answers} == {200}
    assert {body["access_token"] for _, body in answers} == {f"{ACCESS_TOKEN}-1"}
    assert len(provider.requests) == 1
    assert "authorization: basic" in provider.requests[0].lower()


async def test_a_refused_token_is_replaced_once(suite: RunningSuite, provider: TokenEndpoint) -> None:
    from auth_gateway.use_cases.obtain_token import sha256

    path = await credential(suite, provider)
    _, first = await token(suite, path)
    rejected = sha256(first["access_token"])
    answers = await asyncio.gather(*(token(suite, path, rejected) for _ in range(10)))
    assert {body["access_token"] for _, body in answers} == {f"{ACCESS_TOKEN}-2"}
    assert len(provider.requests) == 2


async def test_while_the_provider_is_away_the_token_is_used_to_its_end(
    suite: RunningSuite, provider: TokenEndpoint
) -> None:
    provider.life_s = 20  # 80 % of it is soon over, its end is not
    path = await credential(suite, provider)
    _, first = await token(suite, path)
    provider.answer = (503, "{}")
    async with suite.client(Role.OPERATOR) as client:
        refused = await client.post(f"{path}:refresh")
    assert (refused.status_code, refused.json()["code"]) == (502, "credential.refresh-failed")
    assert await token(suite, path) == (200, first)


@pytest.mark.parametrize(("own", "life_s"), [({}, 120), ({"token_life_max_s": 60}, 60)])
async def test_a_vendors_timing_holds_where_the_credential_says_nothing(
    tmp_path: Path, provider: TokenEndpoint, monkeypatch: pytest.MonkeyPatch, own: dict[str, int], life_s: int
) -> None:
    monkeypatch.setenv("PS_AUTH_TOKEN_LIVES_S_MAX", '{"epic": 120, "cerner": 30}')
    monkeypatch.setenv("PS_AUTH_REFRESH_MARGINS_S", '{"epic": 118}')
    async with running(make_test_runtime(tmp_path, "auth-gateway"), build) as up:
        async with up.client(Role.PLATFORM_OPERATOR, tenant="platform") as client:
            assert (await client.post("/auth/v1/tenants", json={"name": "p", "id": TENANT})).status_code == 201
        path = await credential(up, provider, **own)
        status, first = await token(up, path)
        assert status == 200
        async with up.client(Role.TENANT_ADMIN) as client:
            shown = (await client.get(path)).json()["token"]
        left = (parse_instant(shown["expires_at"]) - datetime.now(UTC)).total_seconds()
        assert life_s - 30 < left <= life_s
        assert first["expires_at"] == shown["expires_at"]


async def test_a_refusal_is_said_and_not_hammered(suite: RunningSuite, provider: TokenEndpoint) -> None:
    path = await credential(suite, provider)
    provider.answer = (400, '{"error": "invalid_client", "error_description": null}')
    first, second = await token(suite, path), await token(suite, path)
    assert [status for status, _ in (first, second)] == [502, 502]
    assert {body["code"] for _, body in (first, second)} == {"credential.rejected"}
    assert len(provider.requests) == 1
    async with suite.client(Role.OPERATOR) as client:
        tested = (await client.post(f"{path}:test")).json()
        shown = (await client.get(path)).json()
    assert (tested["status"], tested["failed_stage"]) == ("failed", "token")
    assert {cause["code"] for cause in tested["stages"][5]["evidence"]["causes"]} >= {"client.wrong", "clock.skew"}
    assert shown["token"]["error_code"] == "credential.rejected"
    provider.answer = None
    async with suite.client(Role.OPERATOR) as client:
        assert (await client.post(f"{path}:refresh")).status_code == 200
    assert (await token(suite, path))[0] == 200


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
@pytest.mark.parametrize("says", ["code", "echo"])
async def test_secrets_and_tokens_are_nowhere_to_be_read(
    tmp_path: Path, provider: TokenEndpoint, caplog: pytest.LogCaptureFixture, method: str, says: str
) -> None:
    """In the database and its write-ahead log, the logs, the spans and every answer; also when the provider repeats
    what it was sent."""
    caplog.set_level(logging.DEBUG)
    spans = InMemorySpanExporter()
    seen: list[str] = []
    async with running(make_test_runtime(tmp_path, "auth-gateway", span_exporter=spans), build) as suite:
        async with suite.client(Role.PLATFORM_OPERATOR, tenant="platform") as client:
            assert (await client.post("/auth/v1/tenants", json={"name": "p", "id": TENANT})).status_code == 201
        path = await credential(suite, provider, method=method)
        await token(suite, path)
        said = f"the secret {SECRET} of {ACCESS_TOKEN}-1 is wrong"
        echo = {"error": "invalid_client", "error_description": said, "error_uri": f"https://pms.example/?s={SECRET}"}
        provider.answer = (400, json.dumps(echo if says == "echo" else {"error": "invalid_client"}))
        async with suite.client(Role.TENANT_ADMIN) as client:
            for verb, called in (
                ("GET", path),
                ("GET", path.rsplit("/", 1)[0]),
                ("POST", f"{path}:test"),
                ("POST", f"{path}:refresh"),
                ("POST", f"{path.rsplit('/', 2)[0]}/permissions:check"),
            ):
                response = await client.request(verb, called, json={} if "permissions" in called else None)
                seen.append(response.text + str(response.headers))
            seen.append((await client.post("/auth/v1/audit:search", json={})).text)
        _, refused = await token(suite, path, "0" * 64)
        seen.append(json.dumps({name: value for name, value in refused.items() if name != "access_token"}))
        on_disk = everything_on_disk(tmp_path)
    told = "".join(span.to_json() for span in spans.get_finished_spans())
    everything = on_disk + everything_on_disk(tmp_path) + "".join([*seen, caplog.text, told]).encode()
    assert method.encode() in everything
    assert "/credentials/" in told
    for canary in (SECRET, ACCESS_TOKEN):
        assert canary.encode() not in everything


def everything_on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def exchange(suite: RunningSuite, subject: str, tenant: str = TENANT, **form: str) -> tuple[int, dict[str, Any]]:
    runtime = suite.runtime
    assertion = form.pop("subject_token", None) or sign_service_assertion(
        runtime.kek, subject, runtime.clock, runtime.ids
    )
    body = {
        "grant_type": TOKEN_EXCHANGE,
        "subject_token_type": TOKEN_TYPE_JWT,
        "subject_token": assertion,
        "tenant": tenant,
        **form,
    }
    async with suite.client() as client:
        response = await client.post("/auth/v1/token", data=body)
        return response.status_code, response.json()


async def test_services_get_short_tokens_that_the_published_keys_verify(suite: RunningSuite) -> None:
    status, granted = await exchange(suite, "service:sync")
    assert (status, granted["expires_in"], granted["scope"]) == (200, 300, "service")
    async with suite.client() as anybody:
        keys = (await anybody.get("/auth/v1/issuer/jwks.json")).json()
    claims = jwt.decode(granted["access_token"], KeySet.import_key_set(keys), algorithms=["ES256"]).claims
    assert (claims["sub"], claims["tenant"], claims["roles"]) == ("service:sync", TENANT, ["service"])
    assert all("d" not in key for key in keys["keys"])


async def test_what_an_assertion_may_not_do(suite: RunningSuite) -> None:
    runtime = suite.runtime
    once = sign_service_assertion(runtime.kek, "service:sync", runtime.clock, runtime.ids)
    assert (await exchange(suite, "", subject_token=once))[0] == 200
    assert (await exchange(suite, "", subject_token=once))[1]["code"] == "auth.assertion-invalid"
    assert (await exchange(suite, "", subject_token=once[:-3] + "abc"))[1]["code"] == "auth.assertion-invalid"
    assert (await exchange(suite, "service:sync", scope="tenant-admin"))[1]["code"] == "auth.assertion-invalid"
    assert (await exchange(suite, "operator:local", scope="service"))[1]["code"] == "auth.assertion-invalid"
    assert (await exchange(suite, "operator:local", scope="tenant-admin"))[0] == 200
    assert (await exchange(suite, "service:sync", tenant="ten_01hf7yat00e008000000000099"))[1][
        "code"
    ] == "tenant.not-found"
    async with suite.client() as client:
        assert (await client.post("/auth/v1/token", data={"grant_type": "password"})).status_code == 400


async def test_each_tenant_has_its_own_keys(suite: RunningSuite) -> None:
    async with suite.client() as anybody:
        ours = (await anybody.get(f"/auth/v1/tenants/{TENANT}/jwks.json")).json()["keys"]
        theirs = (await anybody.get(f"/auth/v1/tenants/{OTHER_TENANT}/jwks.json")).json()["keys"]
        assert (await anybody.get("/auth/v1/tenants/platform/jwks.json")).status_code == 404
    assert sorted(key["alg"] for key in ours) == ["ES384", "RS384"]
    assert not {key["kid"] for key in ours} & {key["kid"] for key in theirs}
    assert all(not {"d", "p", "q"} & set(key) for key in ours)
    async with suite.client(Role.SERVICE) as service:
        assert len((await service.get(f"/auth/v1/tenants/{TENANT}/keys")).json()["keys"]) == 1
        assert (await service.get(f"/auth/v1/tenants/{OTHER_TENANT}/keys")).status_code == 404


async def test_migrations_are_the_tables(suite: RunningSuite) -> None:
    database = suite.host.modules[0].database
    assert database is not None
    async with database.write() as session:
        assert await (await session.connection()).run_sync(schema_differences, Base.metadata) == []


async def test_a_removed_credential_gives_no_token_after_a_moment(suite: RunningSuite, provider: TokenEndpoint) -> None:
    path = await credential(suite, provider)
    assert (await token(suite, path))[0] == 200
    async with suite.client(Role.TENANT_ADMIN) as client:
        etag = (await client.get(path)).headers["etag"]
        assert (await client.delete(path, headers={"If-Match": etag})).status_code == 204

    async def wait_until_refused() -> dict[str, Any]:
        while True:
            status, found = await token(suite, path)
            if status != 200:
                return found
            await asyncio.sleep(0.05)

    async with asyncio.timeout(10):
        assert (await wait_until_refused())["code"] == "credential.not-found"
