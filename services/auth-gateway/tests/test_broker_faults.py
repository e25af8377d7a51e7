"""The broker under faults: killed between the provider's answer and the store; two replicas on one database."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from auth_gateway.module import build
from common.models.access import Role
from common.testing import TENANT, RunningSuite, make_test_runtime, running
from infrastructure.oauth_provider import Provider

PROGRAM = Path(__file__).parent / "refreshing_process.py"
WAIT_S = 60.0


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    up = Provider()
    await up.start()
    yield up
    await up.stop()


async def connected(up: RunningSuite, provider: Provider) -> str:
    async with up.client(Role.PLATFORM_OPERATOR, tenant="platform") as client:
        assert (await client.post("/auth/v1/tenants", json={"name": "p", "id": TENANT})).status_code == 201
    async with up.client(Role.TENANT_ADMIN) as client:
        made = (await client.post("/auth/v1/integrations", json={"name": "Epic", "vendor": "epic"})).json()
        path = f"/auth/v1/integrations/{made['id']}/credentials/api"
        body = {
            "method": "client_secret_post",
            "grant": "authorization_code",
            "client_id": "app",
            "secret": "s",
            "token_url": f"{provider.url}/token",
            "authorize_url": "https://pms.example/authorize",
        }
        assert (await client.put(path, json=body)).status_code == 200
        begun = (await client.post(f"{path}:authorize")).json()["authorize_url"]
    query = dict(part.split("=") for part in begun.partition("?")[2].split("&"))
    provider.challenge = query["code_challenge"]
    async with up.client() as browser:
        page = await browser.get("/auth/v1/oauth/callback", params={"state": query["state"], "code": "the-code"})
        assert page.status_code == 200, page.text
    return path


async def killed_while_refreshing(data: Path, path: str, provider: Provider) -> None:
    """The provider has rotated the token, and whoever asked is gone before it hears of it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PROGRAM), str(data), path, stdout=asyncio.subprocess.PIPE
    )
    provider.hold = lambda: os.kill(process.pid, signal.SIGKILL)
    async with asyncio.timeout(WAIT_S):
        said, _ = await process.communicate()
    assert process.returncode == -signal.SIGKILL, said
    provider.hold = None


async def refresh(up: RunningSuite, path: str) -> tuple[int, Any]:
    async with up.client(Role.OPERATOR) as client:
        answer = await client.post(f"{path}:refresh")
        return answer.status_code, answer.json()


@pytest.mark.parametrize(("forgiving", "kills", "ends"), [(False, 1, 409), (True, 1, 200), (True, 3, 409)])
async def test_a_refresher_that_dies_with_the_new_token_ends_in_one_or_in_reconnect(
    tmp_path: Path, provider: Provider, forgiving: bool, kills: int, ends: int
) -> None:
    async with running(make_test_runtime(tmp_path, "auth-gateway"), build) as up:
        path = await connected(up, provider)
    provider.forgiving = forgiving
    for _ in range(kills):
        await killed_while_refreshing(tmp_path, path, provider)
    asked = len(provider.asked)
    async with running(make_test_runtime(tmp_path, "auth-gateway"), build) as up:
        status, found = await refresh(up, path)
        assert (status, found.get("code")) == (ends, None if ends == 200 else "credential.reconnect-needed")
        for _ in range(3):
            await refresh(up, path)
        assert len(provider.asked) - asked <= (4 if ends == 200 else 1)


@pytest.mark.postgres
async def test_two_replicas_and_a_hundred_workers_cause_one_refresh(
    tmp_path: Path, provider: Provider, postgres_url: str
) -> None:
    async with AsyncExitStack() as stack:
        data = [tmp_path / name for name in ("one", "other")]
        for folder in data:
            folder.mkdir()
        runtimes = [make_test_runtime(data[0], "auth-gateway", database_url=postgres_url)]
        key = (data[0] / "key-encryption-key").read_bytes()
        (data[1] / "key-encryption-key").write_bytes(key)
        (data[1] / "key-encryption-key").chmod(0o600)
        runtimes.append(make_test_runtime(data[1], "auth-gateway", database_url=postgres_url))
        replicas = [await stack.enter_async_context(running(runtime, build)) for runtime in runtimes]
        path = await connected(replicas[0], provider)
        provider.life_s = 1
        await refresh(replicas[0], path)
        provider.life_s = 300
        asked = len(provider.asked)

        async def token(number: int) -> tuple[int, Any]:
            async with replicas[number % 2].client(Role.SERVICE) as service:
                answer = await service.post(f"{path}:token", json={})
                return answer.status_code, answer.json().get("access_token")

        answers = await asyncio.gather(*(token(number) for number in range(100)))
        assert {status for status, _ in answers} == {200}
        assert len({given for _, given in answers}) == 1
        assert len(provider.asked) == asked + 1
