"""Grants of persons: to the vendor and back, refresh tokens that rotate, dead grants, methods without tokens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import delete, update

from auth_gateway.module import build
from common.models.access import Role
from common.runtime.tables import LEASE
from common.testing import OTHER_TENANT, TENANT, RunningSuite, make_test_runtime, running
from infrastructure.oauth_provider import Provider

SECRETS = ("canary-refresh", "canary-access", "canary-client", "the-code")


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    up = Provider()
    await up.start()
    yield up
    await up.stop()


@pytest.fixture
async def suite(tmp_path: Path) -> AsyncIterator[RunningSuite]:
    async with running(make_test_runtime(tmp_path, "auth-gateway"), build) as up:
        async with up.client(Role.PLATFORM_OPERATOR, tenant="platform") as client:
            for tenant in (TENANT, OTHER_TENANT):
                assert (await client.post("/auth/v1/tenants", json={"name": "p", "id": tenant})).status_code == 201
        yield up


async def put(suite: RunningSuite, name: str = "api", **body: Any) -> str:
    async with suite.client(Role.TENANT_ADMIN) as client:
        made = await client.get("/auth/v1/integrations")
        items = made.json()["items"]
        if not items:
            items = [(await client.post("/auth/v1/integrations", json={"name": "Epic", "vendor": "epic"})).json()]
        path = f"/auth/v1/integrations/{items[0]['id']}/credentials/{name}"
        answer = await client.put(path, json=body)
        assert answer.status_code == 200, answer.text
        assert not [secret for secret in SECRETS if secret in answer.text]
    return path


def granted(provider: Provider, **changed: Any) -> dict[str, Any]:
    return {
        "method": "client_secret_basic",
        "grant": "authorization_code",
        "client_id": "app",
        "secret": "canary-client",
        "token_url": f"{provider.url}/token",
        "authorize_url": "https://pms.example/authorize",
        "audience": "https://pms.example/r4",
        "scopes": ["a", "offline_access"],
        **changed,
    }


async def send_browser(suite: RunningSuite, path: str, provider: Provider) -> dict[str, str]:
    async with suite.client(Role.INTEGRATION_ADMIN) as client:
        begun = await client.post(f"{path}:authorize")
    assert begun.status_code == 200, begun.text
    query = {name: values[0] for name, values in parse_qs(urlsplit(begun.json()["authorize_url"]).query).items()}
    assert (query["response_type"], query["code_challenge_method"]) == ("code", "S256")
    assert query["aud"] == "https://pms.example/r4"
    assert query["redirect_uri"] == begun.json()["redirect_uri"]
    provider.challenge = query["code_challenge"]
    return query


async def come_back(suite: RunningSuite, **query: str) -> tuple[int, str]:
    async with suite.client() as browser:
        page = await browser.get("/auth/v1/oauth/callback", params=query)
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["cache-control"] == "no-store"
    assert not [secret for secret in SECRETS if secret in page.text]
    return page.status_code, page.text


async def connect(suite: RunningSuite, path: str, provider: Provider) -> None:
    query = await send_browser(suite, path, provider)
    status, text = await come_back(suite, state=query["state"], code="the-code")
    assert (status, "<h1>Connected</h1>" in text) == (200, True), text


async def token(suite: RunningSuite, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
    async with suite.client(Role.SERVICE) as client:
        answer = await client.post(f"{path}:token", json=body)
        return answer.status_code, answer.json()


async def read(suite: RunningSuite, path: str) -> dict[str, Any]:
    async with suite.client(Role.VIEWER) as client:
        found: dict[str, Any] = (await client.get(path)).json()
        return found


async def refresh(suite: RunningSuite, path: str) -> tuple[int, dict[str, Any]]:
    async with suite.client(Role.OPERATOR) as client:
        answer = await client.post(f"{path}:refresh")
        return answer.status_code, answer.json()


async def test_a_person_connects_and_the_broker_goes_on_alone(suite: RunningSuite, provider: Provider) -> None:
    path = await put(suite, **granted(provider))
    assert (await token(suite, path))[1]["code"] == "credential.reconnect-needed"
    assert provider.asked == []
    await put_again(suite, path, granted(provider))
    await connect(suite, path, provider)
    status, given = await token(suite, path)
    assert (status, given["access_token"]) == (200, "canary-access-1")
    for _ in range(3):
        assert (await refresh(suite, path))[0] == 200
    parents = [form["refresh_token"] for form in provider.asked if form["grant_type"] == "refresh_token"]
    assert parents == ["canary-refresh-1", "canary-refresh-2", "canary-refresh-3"]
    assert (await read(suite, path))["connected"] is True


async def put_again(suite: RunningSuite, path: str, body: dict[str, Any]) -> None:
    async with suite.client(Role.TENANT_ADMIN) as client:
        present = await client.get(path)
        assert (await client.put(path, json=body, headers={"If-Match": present.headers["etag"]})).status_code == 200


async def test_a_refresh_that_brings_no_new_token_keeps_the_old_one(suite: RunningSuite, provider: Provider) -> None:
    provider.rotates = False
    path = await put(suite, **granted(provider))
    await connect(suite, path, provider)
    for _ in range(3):
        assert (await refresh(suite, path))[0] == 200
    assert {form["refresh_token"] for form in provider.asked[1:]} == {"canary-refresh-0"}


async def test_a_dead_grant_is_asked_once_and_mended_by_a_person(suite: RunningSuite, provider: Provider) -> None:
    path = await put(suite, **granted(provider))
    await connect(suite, path, provider)
    provider.refresh_token = "revoked"
    assert (await refresh(suite, path))[1]["code"] == "credential.reconnect-needed"
    asked = len(provider.asked)
    for _ in range(5):
        status, found = await refresh(suite, path)
        assert (status, found["code"]) == (409, "credential.reconnect-needed")
        assert ":authorize" in found["next_step"]
    assert len(provider.asked) == asked
    assert (await token(suite, path))[0] == 200  # the one in hand is used to its end
    assert (await read(suite, path))["token"]["reconnect"] is True
    await connect(suite, path, provider)
    assert (await refresh(suite, path))[0] == 200
    assert (await read(suite, path))["token"]["reconnect"] is False


async def test_a_provider_that_is_away_is_no_dead_grant(suite: RunningSuite, provider: Provider) -> None:
    path = await put(suite, **granted(provider))
    await connect(suite, path, provider)
    provider.answers = [(503, "{}"), (503, "{}")]
    for _ in range(2):
        assert (await refresh(suite, path))[1]["code"] == "credential.refresh-failed"
    assert (await token(suite, path))[0] == 200
    assert (await refresh(suite, path))[0] == 200


@pytest.mark.parametrize(
    ("changed", "code", "status"),
    [
        ({"state": "another"}, "not known any more", 400),
        ({"state": ""}, "not known any more", 400),
        ({"code": "wrong"}, "did not grant access", 502),
        ({"code": "", "error": "access_denied"}, "access_denied", 502),
        ({"code": "", "error": "<script>"}, "another error", 502),
        ({"iss": "https://evil.example"}, "another authorization server", 400),
    ],
)
async def test_what_may_come_back_instead(
    suite: RunningSuite, provider: Provider, changed: dict[str, str], code: str, status: int
) -> None:
    path = await put(suite, **granted(provider, issuer="https://pms.example"))
    query = await send_browser(suite, path, provider)
    found = await come_back(suite, **{"state": query["state"], "code": "the-code", **changed})
    assert found[0] == status
    assert "Not connected" in found[1]
    assert code in found[1]
    assert "<script>" not in found[1]
    assert (await read(suite, path))["connected"] is False


async def test_a_state_is_good_once_and_for_the_credential_it_was_made_for(
    suite: RunningSuite, provider: Provider
) -> None:
    path = await put(suite, **granted(provider))
    first = await send_browser(suite, path, provider)
    assert (await come_back(suite, state=first["state"], code="the-code"))[0] == 200
    assert (await come_back(suite, state=first["state"], code="the-code"))[0] == 400
    second = await send_browser(suite, path, provider)
    await put_again(suite, path, granted(provider, scopes=["b"]))
    assert (await come_back(suite, state=second["state"], code="the-code"))[0] == 400
    assert len([form for form in provider.asked if form["grant_type"] == "authorization_code"]) == 1
    async with suite.client(Role.INTEGRATION_ADMIN, tenant=OTHER_TENANT) as stranger:
        assert (await stranger.post(f"{path}:authorize")).status_code == 404


async def test_a_grant_without_refresh_token_is_told(suite: RunningSuite, provider: Provider) -> None:
    path = await put(suite, **granted(provider))
    query = await send_browser(suite, path, provider)
    provider.answers = [(200, '{"access_token": "canary-access-x", "expires_in": 60}')]
    status, text = await come_back(suite, state=query["state"], code="the-code")
    assert status == 502
    assert "offline_access" in text


async def test_a_hundred_workers_cause_one_refresh(suite: RunningSuite, provider: Provider) -> None:
    path = await put(suite, **granted(provider))
    await connect(suite, path, provider)
    provider.life_s = 1
    await refresh(suite, path)
    provider.life_s = 300
    before = len(provider.asked)
    answers = await asyncio.gather(*(token(suite, path) for _ in range(100)))
    assert {status for status, _ in answers} == {200}
    assert len({given["access_token"] for _, given in answers}) == 1
    assert len(provider.asked) == before + 1


async def test_a_change_during_a_refresh_loses_no_rotated_token(suite: RunningSuite, provider: Provider) -> None:
    path = await put(suite, **granted(provider))
    await connect(suite, path, provider)
    putting: list[asyncio.Task[None]] = []
    changed = granted(provider, test_every_s=600)

    async def meanwhile() -> None:
        provider.hold = None
        putting.append(asyncio.create_task(put_again(suite, path, changed)))
        await asyncio.wait(putting, timeout=1.0)  # it must wait for the refresh, so this ends by the bound

    provider.hold = meanwhile
    assert (await refresh(suite, path))[0] == 200
    await asyncio.gather(*putting)
    assert len(putting) == 1
    assert (await read(suite, path))["test_every_s"] == 600
    assert (await refresh(suite, path))[0] == 200
    assert (await read(suite, path))["connected"] is True


async def test_a_lease_that_goes_while_the_provider_answers_loses_no_rotated_token(
    suite: RunningSuite, provider: Provider
) -> None:
    path = await put(suite, **granted(provider))
    await connect(suite, path, provider)
    (database,) = [module.database for module in suite.host.modules if module.database is not None]

    async def take_over() -> None:
        provider.hold = None
        async with database.write() as session:
            taken = update(LEASE).where(LEASE.c.name.contains("credential")).values(owner="rep_x", fencing=10**6)
            assert (await session.execute(taken.returning(LEASE.c.name))).all()

    provider.hold = take_over
    await refresh(suite, path)
    async with database.write() as session:
        await session.execute(delete(LEASE))
    assert (await refresh(suite, path))[0] == 200, "the token that came is the one to refresh with"
    assert (await read(suite, path))["connected"] is True


async def test_of_two_who_put_it_at_once_one_is_told(suite: RunningSuite, provider: Provider) -> None:
    path = await put(suite, **granted(provider))
    async with suite.client(Role.TENANT_ADMIN) as client:
        etag = (await client.get(path)).headers["etag"]
        bodies = [granted(provider, test_every_s=seconds) for seconds in (100, 200)]
        answers = await asyncio.gather(*(client.put(path, json=body, headers={"If-Match": etag}) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [200, 412]


async def test_a_change_that_is_none_of_the_grant_keeps_the_connection(suite: RunningSuite, provider: Provider) -> None:
    path = await put(suite, **granted(provider))
    await connect(suite, path, provider)
    await put_again(suite, path, granted(provider, test_every_s=600))
    assert (await read(suite, path))["connected"] is True
    await put_again(suite, path, granted(provider, client_id="another"))
    assert (await read(suite, path))["connected"] is False


@pytest.mark.parametrize(
    ("method", "fields", "material"),
    [
        ("api_key", {"secret": "canary-client", "header": "X-Key"}, {"secret": "canary-client", "header": "X-Key"}),
        ("http_basic", {"username": "u", "secret": "canary-client"}, {"secret": "canary-client", "username": "u"}),
        (
            "sftp_key",
            {"username": "u", "secret": "PEM", "passphrase": "p", "host_key": "SHA256:" + "A" * 43},
            {"secret": "PEM", "passphrase": "p", "username": "u", "host_key": "SHA256:" + "A" * 43},
        ),
        ("mutual_tls", {"certificate": "C", "secret": "K"}, {"secret": "K", "passphrase": None, "certificate": "C"}),
    ],
)
async def test_what_has_no_token_is_lent(
    suite: RunningSuite, method: str, fields: dict[str, str], material: dict[str, str]
) -> None:
    path = await put(suite, method=method, **fields)
    status, refused = await token(suite, path)
    assert (status, refused["code"]) == (409, "credential.unusable")
    async with suite.client(Role.SERVICE) as service:
        lent = await service.post(f"{path}:lease", json={"purpose": "file transfer"})
        assert lent.status_code == 200, lent.text
        assert lent.json()["material"] == material
    async with suite.client(Role.AUDITOR) as auditor:
        audited = (await auditor.post("/auth/v1/audit:search", json={"action": "credential.lent"})).json()["items"]
    assert [row["reason"] for row in audited] == ["file transfer"]


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"method": "client_secret_basic", "client_id": "a", "token_url": "https://t.example"}, ["/secret"]),
        ({"method": "private_key_jwt", "client_id": "a", "token_url": "https://t.example", "secret": "x"}, ["/secret"]),
        ({"method": "unity", "client_id": "a"}, ["/secret", "/token_url", "/user_name", "/user_secret", "/username"]),
        ({"method": "api_key", "secret": "k"}, ["/header"]),
        ({"method": "sftp_password", "username": "u", "secret": "p"}, ["/host_key"]),
        (
            {"method": "private_key_jwt", "client_id": "a", "token_url": "ftp://t", "authorize_url": "https://u:p@a"},
            ["/token_url", "/authorize_url"],
        ),
    ],
)
async def test_wrong_forms_name_their_fields(suite: RunningSuite, body: dict[str, Any], pointers: list[str]) -> None:
    path = await put(suite, method="http_basic", username="u", secret="s")
    async with suite.client(Role.TENANT_ADMIN) as client:
        answer = await client.put(path.replace("/api", "/other"), json=body)
    assert answer.status_code == 422
    assert [row["pointer"] for row in answer.json()["errors"]] == pointers


GUID = '"0f8fad5b-d9cb-469f-a165-70867728950e"'
VALID = '[{"getuserauthenticationinfo":[{"ValidUser":"YES"}]}]'
UNITY = {
    "method": "unity",
    "client_id": "Our.App",
    "username": "service",
    "secret": "canary-client",
    "user_name": "jdoe",
    "user_secret": "canary-user",
}


async def test_a_unity_session_is_opened_for_its_user(suite: RunningSuite, provider: Provider) -> None:
    provider.answers = [(200, GUID), (200, VALID)]
    path = await put(suite, **UNITY, token_url=f"{provider.url}/Unity")
    status, given = await token(suite, path)
    assert (status, given["token_type"]) == (200, "Unity")
    assert given["access_token"] == GUID.strip('"')
    assert len(provider.asked) == 2
    assert (await token(suite, path))[1]["access_token"] == given["access_token"]
    assert len(provider.asked) == 2


@pytest.mark.parametrize(
    ("answers", "code", "detail"),
    [
        (["error: Username and Password not valid for any licenses on this server"], "rejected", "password-invalid"),
        (["Error: Our.App is not supported on PM version 10.4.2"], "rejected", "application-unsupported"),
        ([GUID, '[{"getuserauthenticationinfo":[{"ValidUser":"NO"}]}]'], "rejected", "user-invalid"),
        (["<html>gateway</html>"], "refresh-failed", "peer.unreadable"),
        ([GUID, ""], "refresh-failed", "peer.unreadable"),
    ],
)
async def test_what_unity_says_under_http_200_is_no_token(
    suite: RunningSuite, provider: Provider, answers: list[str], code: str, detail: str
) -> None:
    provider.answers = [(200, text) for text in answers]
    path = await put(suite, **UNITY, token_url=f"{provider.url}/Unity")
    status, found = await token(suite, path)
    assert (status, found["code"]) == (502, f"credential.{code}")
    assert detail in found["detail"]


def stored_under(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


async def test_nothing_secret_is_in_the_files(suite: RunningSuite, provider: Provider, tmp_path: Path) -> None:
    path = await put(suite, **granted(provider))
    query = await send_browser(suite, path, provider)
    assert (await come_back(suite, state=query["state"], code="the-code"))[0] == 200
    await refresh(suite, path)
    contents = stored_under(tmp_path)
    assert b"client_secret_basic" in contents
    assert not [secret for secret in (*SECRETS, query["state"]) if secret.encode() in contents]
