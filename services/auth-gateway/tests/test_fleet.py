"""The fleet view: fed from the event topics, every practice in one call, no patient."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from auth_gateway.adapters.expiry_tables import ExpiryNoticeRow
from auth_gateway.adapters.tables import TenantRow
from auth_gateway.module import build
from common.models.access import Role
from common.models.events import Event
from common.testing import OTHER_TENANT, TENANT, RunningSuite, make_test_runtime, running


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def suite(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RunningSuite]:
    stored = {"database_url": request.getfixturevalue("postgres_database")} if request.param == "postgresql" else {}
    async with running(make_test_runtime(tmp_path, "auth-gateway", measurement_every_s=0.2, **stored), build) as up:
        async with up.client(Role.PLATFORM_OPERATOR, tenant="platform") as client:
            for tenant, name in ((TENANT, "Alpha"), (OTHER_TENANT, "Beta")):
                assert (await client.post("/auth/v1/tenants", json={"name": name, "id": tenant})).status_code == 201
        yield up


def event(suite: RunningSuite, event_type: str, later_s: float = 0, **data: Any) -> Event:
    now = suite.runtime.clock.now() + timedelta(seconds=later_s)
    return Event(suite.runtime.ids.new("evt"), event_type, "/t/r", "s", now, TENANT, "k", data)


async def fleet(suite: RunningSuite) -> dict[str, Any]:
    async with suite.client(Role.PLATFORM_OPERATOR, tenant="platform") as operator:
        answer = await operator.get("/auth/v1/fleet")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


async def wait_for_practice(suite: RunningSuite, **wanted: Any) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for _ in range(200):
        seen = next(row for row in (await fleet(suite))["items"] if row["tenant"] == TENANT)
        if all(seen[name] == value for name, value in wanted.items()):
            return seen
        await asyncio.sleep(0.05)
    raise AssertionError(f"wanted {wanted}, saw {seen}")


async def test_what_happens_in_a_practice_is_seen(suite: RunningSuite) -> None:
    async with suite.client(Role.TENANT_ADMIN) as admin:
        made = (await admin.post("/auth/v1/integrations", json={"name": "Epic", "vendor": "epic"})).json()["id"]
        await admin.post(f"/auth/v1/integrations/{made}:resume")
        body = {"method": "client_secret_post", "client_id": "a", "token_url": "http://127.0.0.1:9/t", "secret": "s"}
        path = f"/auth/v1/integrations/{made}/credentials/api"
        assert (await admin.put(path, json=body)).status_code == 200
        assert (await admin.post(f"{path}:refresh")).status_code == 502
    run = {"integration_id": made, "run_id": "run_1", "resource": "patient"}
    await suite.runtime.bus.publish(
        [
            event(suite, "ps.sync.run.finished", **run),
            event(suite, "ps.sync.run.failed", 1, **run, error_code="peer.unavailable"),
            event(suite, "ps.hl7.delivery", message_id="obm_1", state="queued"),
            event(suite, "ps.hl7.delivery", message_id="obm_1", state="queued", error_code="peer.connect"),
            event(suite, "ps.hl7.delivery", message_id="obm_2", state="parked"),
            event(suite, "ps.hl7.delivery", message_id="obm_3", state="queued"),
            event(suite, "ps.hl7.delivery", message_id="obm_3", state="delivered"),
        ]
    )
    seen = await wait_for_practice(suite, undelivered=2, failing_runs=1, failing_credentials=1)
    assert (seen["name"], seen["state"], seen["integrations"], seen["active"]) == ("Alpha", "active", 1, 1)
    assert (seen["configuration_version"], seen["key_version"]) == (2, 1)
    assert seen["last_run_at"] is not None
    await suite.runtime.bus.publish(
        [
            event(suite, "ps.hl7.delivery", message_id="obm_1", state="delivered"),
            event(suite, "ps.hl7.delivery", message_id="obm_2", state="discarded"),
            event(suite, "ps.sync.run.finished", 2, **run),
        ]
    )
    await wait_for_practice(suite, undelivered=0, failing_runs=0, undelivered_since=None)
    neighbour = next(row for row in (await fleet(suite))["items"] if row["tenant"] == OTHER_TENANT)
    figures = ("integrations", "undelivered", "failing_credentials", "expiring", "last_run_at")
    assert [neighbour[name] for name in figures] == [0, 0, 0, 0, None]


async def test_a_late_event_does_not_hide_a_newer_one(suite: RunningSuite) -> None:
    run: dict[str, Any] = {"integration_id": "int_1", "run_id": "run_1"}
    await suite.runtime.bus.publish([event(suite, "ps.sync.run.failed", 5, **run, error_code="peer.timeout")])
    await wait_for_practice(suite, failing_runs=1)
    await suite.runtime.bus.publish(
        [
            event(suite, "ps.sync.run.finished", **run),
            event(suite, "ps.hl7.delivery", message_id="obm_9", state="parked"),
        ]
    )
    assert (await wait_for_practice(suite, undelivered=1))["failing_runs"] == 1


async def test_three_hundred_practices_in_one_call_with_the_backlog_of_every_module(suite: RunningSuite) -> None:
    database = suite.host.modules[0].database
    assert database is not None
    now = suite.runtime.clock.now()
    tenants = [
        {"id": f"ten_{number:026d}", "name": f"P{number:03d}", "state": "active", "created_at": now}
        for number in range(300)
    ]
    notice = {"name": "api", "kind": "client-secret", "expires_at": now + timedelta(days=3), "days": 7}
    async with database.write() as session:
        await session.execute(insert(TenantRow.__table__), tenants)  # type: ignore[attr-defined]
        await session.execute(
            insert(ExpiryNoticeRow.__table__),  # type: ignore[attr-defined]
            [{**notice, "integration_id": f"int_{number}", "tenant": tenants[7]["id"]} for number in range(2)],
        )
    found = await fleet(suite)
    assert len(found["items"]) == 302
    expiring = {row["name"]: row["expiring"] for row in found["items"] if row["expiring"]}
    assert expiring == {"P007": 2}
    for _ in range(200):
        found = await fleet(suite)
        if found["outbox_age_s"]:
            break
        await wait_a_little()
    assert list(found["outbox_age_s"]) == ["auth-gateway"]


async def wait_a_little() -> None:
    await asyncio.sleep(0.05)


async def test_a_practice_does_not_see_the_fleet(suite: RunningSuite) -> None:
    async with suite.client(Role.TENANT_ADMIN) as admin:
        assert (await admin.get("/auth/v1/fleet")).status_code == 403
