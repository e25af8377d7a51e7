"""Vendors' forms and network sheets, through the API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from auth_gateway.core.methods import METHODS
from auth_gateway.core.network_sheet import Way, sheet_text, ways
from auth_gateway.module import build
from common.models.access import Role
from common.models.integration import Vendor
from common.testing import TENANT, RunningSuite, make_test_runtime, running


@pytest.fixture
async def suite(tmp_path: Path) -> AsyncIterator[RunningSuite]:
    async with running(make_test_runtime(tmp_path, "auth-gateway"), build) as up:
        async with up.client(Role.PLATFORM_OPERATOR, tenant="platform") as client:
            assert (await client.post("/auth/v1/tenants", json={"name": "p", "id": TENANT})).status_code == 201
        yield up


@pytest.mark.parametrize("vendor", Vendor)
async def test_what_a_template_suggests_is_accepted(suite: RunningSuite, vendor: Vendor) -> None:
    async with suite.client(Role.TENANT_ADMIN) as client:
        found = (await client.get(f"/auth/v1/vendors/{vendor}")).json()
        assert {row["vendor"] for row in (await client.get("/auth/v1/vendors")).json()["items"]} == set(Vendor)
        made = (await client.post("/auth/v1/integrations", json={"name": "n", "vendor": vendor})).json()
        path = f"/auth/v1/integrations/{made['id']}"
        assert set(found["template"]["channels"].values()) <= set(found["channel_kinds"])
        for name, kind in found["template"]["channels"].items():
            endpoint = "https://pms.example/r4" if kind in {"fhir", "unity"} else ""
            channel = {"kind": kind, "endpoint": endpoint, "time_zone": "UTC"}
            assert (await client.put(f"{path}/channels/{name}", json=channel)).status_code == 200
        for name, schema in found["forms"]["credential"].items():
            form = filled(schema)
            if name == found["template"]["credential"].get("method"):
                form |= found["template"]["credential"]
            answer = await client.put(f"{path}/credentials/c-{name.replace('_', '-')}", json=form)
            assert answer.status_code == 200, answer.text
        assert (await client.get("/auth/v1/vendors/nobody")).status_code == 422


def filled(schema: dict[str, Any]) -> dict[str, Any]:
    """What a person would enter into the form's fields that have to be there."""
    values = {"method": schema["properties"]["method"]["const"]}
    for name in schema["required"]:
        if name.endswith("_url"):
            values[name] = "https://pms.example/token"
        elif name == "host_key":
            values[name] = "SHA256:" + "A" * 43
        elif name != "method":
            values[name] = "something"
    if values["method"] == "api_key":
        values["header"] = "X-Key"
    assert set(schema["properties"]) >= set(METHODS[values["method"]].needs)
    return values


async def test_a_network_sheet_names_every_way(suite: RunningSuite) -> None:
    async with suite.client(Role.TENANT_ADMIN) as client:
        made = (await client.post("/auth/v1/integrations", json={"name": "Epic", "vendor": "epic"})).json()
        path = f"/auth/v1/integrations/{made['id']}"
        channel = {"kind": "fhir", "endpoint": "https://pms.example:8443/r4", "time_zone": "UTC"}
        await client.put(f"{path}/channels/fhir", json=channel)
        form = {"method": "private_key_jwt", "client_id": "a", "token_url": "https://login.example/token"}
        await client.put(f"{path}/credentials/api", json=form)
        sheet = (await client.get(f"{path}/network-sheet")).json()
        text = (await client.get(f"{path}/network-sheet", headers={"accept": "text/plain"})).text
    assert [(way["host"], way["port"]) for way in sheet["ways"]] == [("login.example", 443), ("pms.example", 8443)]
    assert "from us to login.example, port 443, HTTPS (credential api: token)" in text


def test_ways_in_and_out() -> None:
    channels = {
        "feed": {"kind": "hl7v2-in", "endpoint": ""},
        "back": {"kind": "hl7v2-out", "endpoint": "[2001:db8::1]:2575"},
    }
    found = ways(channels, [])
    assert found == [
        Way("in", "", None, "MLLP over TCP or TLS", "channel feed: HL7 v2 comes in"),
        Way("out", "2001:db8::1", 2575, "MLLP over TCP or TLS", "channel back: HL7 v2 goes out"),
    ]
    assert "192.0.2.7" in sheet_text("x", ["192.0.2.7"], found)
    assert "nothing yet" in sheet_text("x", [], [])


async def test_an_installation_offers_what_its_engineers_say(suite: RunningSuite) -> None:
    slot = {"resource": "Slot", "interactions": ["search"], "cursor": "date-window", "note": "IT, 2026-11-02"}
    off = {"resource": "Encounter", "offered": False}
    async with suite.client(Role.TENANT_ADMIN) as client:
        body = {"name": "Epic", "vendor": "epic", "capability_overrides": [slot, off]}
        made = (await client.post("/auth/v1/integrations", json=body)).json()
        path = f"/auth/v1/integrations/{made['id']}"
        offers = {row["resource"]: row for row in (await client.get(f"{path}/offers")).json()["items"]}
        assert offers["Slot"]["overridden"] == ["cursor", "interactions", "note"]
        assert offers["Slot"]["source"] == "installation"
        assert offers["Patient"]["overridden"] == []
        assert "Encounter" not in offers
        wrong = {"capability_overrides": [{"resource": "Patient", "reached_from": "Nothing"}]}
        refused = await client.patch(path, json=wrong, headers={"If-Match": '"1"'})
        assert refused.status_code == 422
        assert [row["pointer"] for row in refused.json()["errors"]] == ["/capability_overrides/0/reached_from"]
        wrong = {"capability_overrides": [{"resource": "Patient", "cursor": "magic"}]}
        unknown = await client.patch(path, json=wrong, headers={"If-Match": '"1"'})
        assert unknown.status_code == 422
