"""Alerts as a service: events in, alerts, webhooks and events out; on SQLite, with a real receiver."""

from __future__ import annotations

import asyncio
import base64
import hmac
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from alerts.adapters.tables import Base
from alerts.module import build
from common.models.access import Role
from common.models.events import Event
from common.runtime.database import schema_differences
from common.testing import OTHER_TENANT, TENANT, RunningSuite, make_test_runtime, running

INTEGRATION = "int_01hf7yat00e008000000000009"


@pytest.fixture
async def suite(tmp_path: Path) -> AsyncIterator[RunningSuite]:
    async with running(make_test_runtime(tmp_path, "alerts"), build) as up:
        yield up


async def until_true(check: Callable[[], Any]) -> Any:
    async with asyncio.timeout(10):
        while True:
            found = await check()
            if found:
                return found
            await asyncio.sleep(0.02)


async def publish(suite: RunningSuite, kind: str, **data: Any) -> None:
    ids, clock = suite.runtime.ids, suite.runtime.clock
    event = Event(
        ids.new("evt"),
        kind,
        "/test/r",
        INTEGRATION,
        clock.now(),
        TENANT,
        INTEGRATION,
        {"integration_id": INTEGRATION, **data},
    )
    await suite.runtime.bus.publish([event])


async def alerts(suite: RunningSuite, query: str = "", tenant: str = TENANT) -> list[dict[str, Any]]:
    async with suite.client(Role.VIEWER, tenant=tenant) as client:
        items: list[dict[str, Any]] = (await client.get(f"/alerts/v1/alerts{query}")).json()["items"]
        return items


async def test_a_failing_run_opens_an_alert_and_the_next_good_one_resolves_it(suite: RunningSuite) -> None:
    run = {"resource": "patient", "direction": "in"}
    await publish(suite, "ps.sync.run.failed", error_code="peer.unavailable", **run)
    [alert] = await until_true(lambda: alerts(suite, "?state=open"))
    assert (alert["rule"], alert["cause_code"], alert["subject"]) == ("failed-runs", "peer.unavailable", "patient:in")
    assert await alerts(suite, tenant=OTHER_TENANT) == []
    async with suite.client(Role.OPERATOR) as client:
        taken = (await client.post(f"/alerts/v1/alerts/{alert['id']}:acknowledge")).json()
    assert (taken["state"], taken["acknowledged_by"]) == ("acknowledged", "tester")
    await publish(suite, "ps.sync.run.finished", **run)
    [resolved] = await until_true(lambda: alerts(suite, "?state=resolved"))
    assert resolved["id"] == alert["id"]


async def test_the_same_event_twice_counts_once(suite: RunningSuite) -> None:
    ids, clock = suite.runtime.ids, suite.runtime.clock
    data = {"integration_id": INTEGRATION, "error_code": "peer.unavailable", "resource": "patient", "direction": "in"}
    event = Event(ids.new("evt"), "ps.sync.run.failed", "/test/r", INTEGRATION, clock.now(), TENANT, INTEGRATION, data)
    await suite.runtime.bus.publish([event])
    await suite.runtime.bus.publish([event])
    await publish(suite, "ps.sync.run.failed", error_code="peer.unavailable", resource="appointment", direction="in")
    found = await until_true(lambda: both(suite))
    assert {row["subject"]: row["count"] for row in found} == {"patient:in": 1, "appointment:in": 1}


async def both(suite: RunningSuite) -> list[dict[str, Any]] | None:
    found = await alerts(suite)
    return found if len(found) == 2 else None


async def test_a_rule_that_is_off_opens_nothing(suite: RunningSuite) -> None:
    async with suite.client(Role.INTEGRATION_ADMIN) as client:
        shown = await client.get("/alerts/v1/rules/failed-runs")
        refused = await client.patch("/alerts/v1/rules/failed-runs", json={"enabled": False})
        changed = await client.patch(
            "/alerts/v1/rules/failed-runs", json={"enabled": False}, headers={"If-Match": shown.headers["etag"]}
        )
        stale = await client.patch(
            "/alerts/v1/rules/failed-runs", json={"enabled": True}, headers={"If-Match": shown.headers["etag"]}
        )
        unknown = await client.get("/alerts/v1/rules/none")
    assert (refused.status_code, changed.status_code, stale.status_code, unknown.status_code) == (428, 200, 412, 404)
    assert changed.json()["enabled"] is False
    await publish(suite, "ps.sync.run.failed", error_code="peer.unavailable", resource="patient", direction="in")
    await publish(suite, "ps.hl7.rejected", channel="in", error_code="hl7.unparsable")
    [only] = await until_true(lambda: alerts(suite))
    assert only["rule"] == "hl7-rejected"


async def test_hl7_messages_that_are_not_delivered_open_an_alert_and_a_delivery_resolves_it(
    suite: RunningSuite,
) -> None:
    failing = {"connection_id": "con_1", "state": "queued", "error_code": "hl7.no-acknowledgment"}
    for _ in range(3):
        await publish(suite, "ps.hl7.delivery", **failing)
    await publish(suite, "ps.hl7.delivery", **{**failing, "connection_id": "con_2", "state": "parked"})
    expected = {("hl7-not-delivered", "connection:con_1"), ("hl7-parked", "connection:con_2")}

    async def open_ones(wanted: set[tuple[str, str]]) -> bool:
        return {(alert["rule"], alert["subject"]) for alert in await alerts(suite, "?state=open")} == wanted

    await until_true(lambda: open_ones(expected))
    await publish(suite, "ps.hl7.delivery", connection_id="con_1", state="delivered", error_code=None)
    await publish(suite, "ps.hl7.delivery", connection_id="con_2", state="discarded", error_code=None)
    assert await until_true(lambda: open_ones(set()))


async def test_a_webhook_is_told_with_a_signature_that_verifies(suite: RunningSuite) -> None:
    received: asyncio.Queue[tuple[dict[str, str], bytes]] = asyncio.Queue()

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:]
        sent = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head) if name}
        body = await reader.readexactly(int(sent["content-length"]))
        await received.put((sent, body))
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(receive, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    async with suite.client(Role.TENANT_ADMIN) as client:
        made = (await client.post("/alerts/v1/webhooks", json={"url": url})).json()
        assert "secret" not in (await client.get(f"/alerts/v1/webhooks/{made['id']}")).json()
        tested = (await client.post(f"/alerts/v1/webhooks/{made['id']}:test")).json()
        assert tested == {"delivered": True, "status": 204, "error_code": None}
        await received.get()
        await publish(suite, "ps.sync.run.failed", error_code="peer.timeout", resource="patient", direction="in")
        async with asyncio.timeout(10):
            sent, body = await received.get()
        key = base64.b64decode(made["secret"].removeprefix("whsec_"))
        signed = b".".join((sent["webhook-id"].encode(), sent["webhook-timestamp"].encode(), body))
        assert sent["webhook-signature"] == "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()

        async def delivered() -> list[dict[str, Any]]:
            items = (await client.get(f"/alerts/v1/webhooks/{made['id']}/deliveries")).json()["items"]
            return [row for row in items if row["state"] == "delivered"]

        assert await until_true(delivered)
        assert (await client.delete(f"/alerts/v1/webhooks/{made['id']}")).status_code == 204
        assert (await client.get(f"/alerts/v1/webhooks/{made['id']}")).status_code == 404
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "http://169.254.169.254/latest", "http://0x7f.1.1.1.1/"])
async def test_a_webhook_that_leads_elsewhere_is_not_called(suite: RunningSuite, url: str) -> None:
    async with suite.client(Role.TENANT_ADMIN) as client:
        made = await client.post("/alerts/v1/webhooks", json={"url": url})
        if made.status_code == 422:
            return
        tested = (await client.post(f"/alerts/v1/webhooks/{made.json()['id']}:test")).json()
    assert tested["delivered"] is False
    assert tested["error_code"] in {"peer.address-refused", "peer.dns"}


async def test_the_secret_is_sealed_in_the_database(suite: RunningSuite, tmp_path: Path) -> None:
    async with suite.client(Role.TENANT_ADMIN) as client:
        made = (await client.post("/alerts/v1/webhooks", json={"url": "http://127.0.0.1:9/"})).json()
    key = base64.b64decode(made["secret"].removeprefix("whsec_"))
    stored = everything_on_disk(tmp_path)
    assert made["id"].encode() in stored
    assert key not in stored


def everything_on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("alerts.sqlite3*"))


async def test_migrations_are_the_tables(suite: RunningSuite) -> None:
    database = suite.host.modules[0].database
    assert database is not None
    async with database.write() as session:
        assert await (await session.connection()).run_sync(schema_differences, Base.metadata) == []
