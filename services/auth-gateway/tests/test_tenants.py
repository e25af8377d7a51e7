"""Suspending and resuming a practice, through the HTTP API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from auth_gateway.module import build
from common.models.access import Role
from common.testing import OTHER_TENANT, TENANT, RunningSuite, make_test_runtime, running

WHY = {"reason": "contract ended"}


@pytest.fixture
async def suite(tmp_path: Path) -> AsyncIterator[RunningSuite]:
    async with running(make_test_runtime(tmp_path, "auth-gateway"), build) as up:
        async with operator(up) as client:
            for tenant in (TENANT, OTHER_TENANT):
                assert (await client.post("/auth/v1/tenants", json={"name": "p", "id": tenant})).status_code == 201
        yield up


def operator(suite: RunningSuite) -> httpx.AsyncClient:
    return suite.client(Role.PLATFORM_OPERATOR, tenant="platform")


async def integration(suite: RunningSuite, name: str, *, active: bool) -> str:
    async with suite.client(Role.TENANT_ADMIN) as client:
        made = await client.post("/auth/v1/integrations", json={"name": name, "vendor": "epic"})
        path = f"/auth/v1/integrations/{made.json()['id']}"
        if active:
            assert (await client.post(f"{path}:resume")).json()["state"] == "active"
        body = {"method": "client_secret_post", "client_id": "a", "token_url": "http://127.0.0.1:9/t", "secret": "s"}
        assert (await client.put(f"{path}/credentials/api", json=body)).status_code == 200
    return path


async def wait_for_status(client: httpx.AsyncClient, path: str, status: int) -> httpx.Response:
    for _ in range(200):
        answer = await client.get(path)
        if answer.status_code == status:
            return answer
        await asyncio.sleep(0.05)
    raise AssertionError(f"{path} never answered {status}")


async def test_a_suspended_practice_is_refused_by_name_and_goes_on_where_it_stopped(suite: RunningSuite) -> None:
    first, draft = await integration(suite, "one", active=True), await integration(suite, "two", active=False)
    paused = await integration(suite, "three", active=True)
    async with suite.client(Role.TENANT_ADMIN) as admin, operator(suite) as platform, suite.client(Role.SERVICE) as own:
        assert (await admin.post(f"{paused}:pause")).status_code == 200
        answers = [await platform.post(f"/auth/v1/tenants/{TENANT}:suspend", json=WHY) for _ in range(2)]
        assert [(answer.status_code, answer.json()["state"]) for answer in answers] == [(200, "suspended")] * 2
        refused = await wait_for_status(admin, first, 403)
        assert refused.json()["code"] == "tenant.suspended"
        states = [(await own.get(path)).json()["state"] for path in (first, draft, paused)]
        assert states == ["paused", "draft", "paused"]
        token = await own.post(f"{first}/credentials/api:token", json={})
        assert (token.status_code, token.json()["code"]) == (403, "tenant.suspended")
        async with suite.client(Role.TENANT_ADMIN, tenant=OTHER_TENANT) as neighbour:
            assert (await neighbour.get("/auth/v1/integrations")).status_code == 200
        assert (await platform.post(f"/auth/v1/tenants/{TENANT}:resume", json=WHY)).json()["state"] == "active"
        await wait_for_status(admin, first, 200)
        states = [(await admin.get(path)).json()["state"] for path in (first, draft, paused)]
        assert states == ["active", "draft", "paused"]
        audited = (await admin.post("/auth/v1/audit:search", json={"subject": TENANT})).json()["items"]
        assert [(row["action"], row["reason"]) for row in reversed(audited)] == [
            ("tenant.suspended", "contract ended"), ("tenant.resumed", "contract ended"),
        ]  # fmt: skip


async def test_a_process_that_starts_later_knows_who_is_suspended(suite: RunningSuite, tmp_path: Path) -> None:
    async with operator(suite) as platform, suite.client(Role.VIEWER) as viewer:
        await platform.post(f"/auth/v1/tenants/{TENANT}:suspend", json=WHY)
        await wait_for_status(viewer, "/auth/v1/integrations", 403)
    async with (
        running(make_test_runtime(tmp_path, "auth-gateway"), build) as later,
        later.client(Role.VIEWER) as viewer,
    ):
        assert (await viewer.get("/auth/v1/integrations")).json()["code"] == "tenant.suspended"


@pytest.mark.parametrize("verb", ["suspend", "resume"])
async def test_wrong_requests_are_refused(suite: RunningSuite, verb: str) -> None:
    async with operator(suite) as platform, suite.client(Role.TENANT_ADMIN) as admin:
        path = f"/auth/v1/tenants/{TENANT}:{verb}"
        assert (await admin.post(path, json=WHY)).status_code == 403
        assert (await platform.post(path, json={})).status_code == 422
        assert (await platform.post(f"/auth/v1/tenants/platform:{verb}", json=WHY)).status_code == 404
        unknown = await platform.post(f"/auth/v1/tenants/ten_01hf7yat00e008000000000099:{verb}", json=WHY)
        assert (unknown.status_code, unknown.json()["code"]) == (404, "tenant.not-found")
