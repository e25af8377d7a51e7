"""Diagnostics as a service: exchanges recorded, found again and forgotten; connections tested on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from common.models.access import Role
from common.models.errors import SuiteError
from common.models.integration import (
    Channel,
    ChannelKind,
    Environment,
    Integration,
    IntegrationState,
    Vendor,
    WriteBack,
)
from common.runtime.database import schema_differences
from common.runtime.exchanges import Exchange
from common.testing import OTHER_TENANT, TENANT, RunningSuite, make_test_runtime, running
from diagnostics.adapters.exchange_store import SqlExchangeStore
from diagnostics.adapters.tables import Base
from diagnostics.core.connection_test import metadata_code, verdict
from diagnostics.module import build
from diagnostics.use_cases.test_connection import choose_channel

INTEGRATION = "int_01hf7yat00e008000000000009"
NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)


@pytest.fixture
async def suite(tmp_path: Path) -> AsyncIterator[RunningSuite]:
    async with running(make_test_runtime(tmp_path, "diagnostics"), build) as up:
        yield up


async def until_true(check: Callable[[], Any]) -> Any:
    async with asyncio.timeout(10):
        while True:
            found = await check()
            if found:
                return found
            await asyncio.sleep(0.02)


def record(suite: RunningSuite, **changed: Any) -> None:
    values: dict[str, Any] = {
        "tenant": TENANT, "integration_id": INTEGRATION, "channel": "fhir", "kind": "fhir", "direction": "outbound",
        "operation": "Appointment.search", "endpoint": "http://pms.example", "started_at": NOW, "duration_ms": 12.0,
        "outcome": "ok", "status": 200,
    }  # fmt: skip
    suite.runtime.exchanges.record(Exchange(**{**values, **changed}))


async def exchanges(suite: RunningSuite, query: str = "", tenant: str = TENANT) -> dict[str, Any]:
    async with suite.client(Role.VIEWER, tenant=tenant) as client:
        response = await client.get(f"/diagnostics/v1/exchanges{query}")
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body


async def wait_for(suite: RunningSuite, count: int) -> list[dict[str, Any]]:
    async def enough() -> list[dict[str, Any]] | None:
        items: list[dict[str, Any]] = (await exchanges(suite, "?limit=500"))["items"]
        return items if len(items) >= count else None

    found: list[dict[str, Any]] = await until_true(enough)
    return found


async def test_exchanges_are_recorded_and_paged_newest_first(suite: RunningSuite) -> None:
    for number in range(25):
        record(suite, started_at=NOW + timedelta(seconds=number), duration_ms=float(number))
    await wait_for(suite, 25)
    seen: list[float] = []
    query = "?limit=10"
    while query:
        page = await exchanges(suite, query)
        seen += [row["duration_ms"] for row in page["items"]]
        query = f"?limit=10&cursor={page['next']}" if page["next"] else ""
    assert seen == [float(number) for number in reversed(range(25))]
    assert (await exchanges(suite, tenant=OTHER_TENANT))["items"] == []


async def test_filters_and_one_exchange(suite: RunningSuite) -> None:
    record(suite)
    record(suite, outcome="failed", status=503, error_code="http.503", kind="token", operation="token")
    rows = await wait_for(suite, 2)
    assert [row["operation"] for row in (await exchanges(suite, "?outcome=failed"))["items"]] == ["token"]
    assert [row["kind"] for row in (await exchanges(suite, "?kind=fhir"))["items"]] == ["fhir"]
    assert (await exchanges(suite, "?after=2026-03-01T10:00:00Z"))["items"] == []
    async with suite.client(Role.VIEWER) as client:
        one = await client.get(f"/diagnostics/v1/exchanges/{rows[0]['id']}")
        unknown = await client.get("/diagnostics/v1/exchanges/exc_01hf7yat00e008000000000009")
        wrong = await client.get("/diagnostics/v1/exchanges?outcome=maybe")
        cursor = await client.get("/diagnostics/v1/exchanges?cursor=nonsense")
    assert one.json() == rows[0]
    assert (unknown.status_code, wrong.status_code, cursor.status_code) == (404, 422, 400)
    async with suite.client(Role.VIEWER, tenant=OTHER_TENANT) as stranger:
        assert (await stranger.get(f"/diagnostics/v1/exchanges/{rows[0]['id']}")).status_code == 404


async def test_old_exchanges_are_forgotten(suite: RunningSuite) -> None:
    record(suite, started_at=NOW)
    record(suite, started_at=NOW + timedelta(days=2))
    await wait_for(suite, 2)
    database = suite.host.modules[0].database
    assert database is not None
    assert await SqlExchangeStore(database).prune(NOW + timedelta(days=1)) == 1
    assert len((await exchanges(suite))["items"]) == 1


async def test_migrations_are_the_tables(suite: RunningSuite) -> None:
    database = suite.host.modules[0].database
    assert database is not None
    async with database.write() as session:
        assert await (await session.connection()).run_sync(schema_differences, Base.metadata) == []


def integration(**channels: Channel) -> Integration:
    return Integration(
        INTEGRATION,
        TENANT,
        "n",
        Vendor.EPIC,
        "",
        Environment.TEST,
        IntegrationState.ACTIVE,
        WriteBack.OFF,
        1,
        (),
        channels,
    )


def test_the_first_channel_with_an_endpoint_is_tested() -> None:
    fhir = Channel("fhir", ChannelKind.FHIR, "http://pms.example", "UTC")
    listening = Channel("in", ChannelKind.HL7V2_IN, "", "UTC")
    assert choose_channel(integration(fhir=fhir, **{"in": listening}), None) is fhir
    for wanted in ("in", "none"):
        with pytest.raises(SuiteError) as refused:
            choose_channel(integration(fhir=fhir, **{"in": listening}), wanted)
        assert refused.value.code == "channel.not-found"
    with pytest.raises(SuiteError):
        choose_channel(integration(), None)


@pytest.mark.parametrize(
    ("status", "version", "code"),
    [
        (200, "4.0.1", None), (200, "1.0.2", "peer.unreadable"), (200, None, "peer.unreadable"),
        (401, None, "peer.unauthorized"), (403, None, "peer.forbidden"),
        (404, None, "peer.rejected"), (503, None, "peer.unavailable"),
    ],
)  # fmt: skip
def test_what_a_metadata_answer_means(status: int, version: str | None, code: str | None) -> None:
    assert metadata_code(status, version) == code


def test_one_failed_stage_fails_the_test() -> None:
    assert verdict([{"status": "passed"}, {"status": "skipped"}]) == "passed"
    assert verdict([{"status": "passed"}, {"status": "failed"}]) == "failed"
