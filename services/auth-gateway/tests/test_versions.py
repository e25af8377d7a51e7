"""Versions, comparing, going back, promotion, deletion and change records, through the API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth_gateway.core.configuration import Document
from auth_gateway.core.versions import Version, configuration_of, differences, restored
from auth_gateway.module import build
from common.models.access import Role
from common.testing import OTHER_TENANT, TENANT, RunningSuite, make_test_runtime, running

AT = datetime(2026, 3, 1, tzinfo=UTC)
CHANNEL = {"kind": "fhir", "endpoint": "https://dev.example/r4", "time_zone": "UTC", "credential": "api"}


@pytest.fixture
async def suite(tmp_path: Path) -> AsyncIterator[RunningSuite]:
    async with running(make_test_runtime(tmp_path, "auth-gateway"), build) as up:
        async with up.client(Role.PLATFORM_OPERATOR, tenant="platform") as client:
            for tenant in (TENANT, OTHER_TENANT):
                assert (await client.post("/auth/v1/tenants", json={"name": "p", "id": tenant})).status_code == 201
        yield up


async def ask(
    suite: RunningSuite, method: str, path: str, status: int = 200, *, tenant: str = TENANT, **options: Any
) -> Any:
    async with suite.client(Role.TENANT_ADMIN, tenant=tenant) as client:
        answer = await client.request(method, f"/auth/v1{path}", **options)
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


async def integration(suite: RunningSuite) -> str:
    made = await ask(suite, "POST", "/integrations", 201, json={"name": "Epic", "vendor": "epic"})
    path = f"/integrations/{made['id']}"
    await ask(suite, "PUT", f"{path}/channels/fhir", json=CHANNEL, headers={"X-Change-Reason": "first channel"})
    return path


async def change(suite: RunningSuite, path: str, **parts: Any) -> int:
    version = (await ask(suite, "GET", path))["version"]
    changed = await ask(suite, "PATCH", path, json=parts, headers={"If-Match": f'"{version}"'})
    return int(changed["version"])


async def test_every_change_is_kept_with_who_and_why(suite: RunningSuite) -> None:
    path = await integration(suite)
    await change(suite, path, product="R4")
    listed = (await ask(suite, "GET", f"{path}/versions"))["items"]
    assert [(one["version"], one["action"], one["reason"]) for one in listed] == [
        (3, "integration.changed", None),
        (2, "channel.changed", "first channel"),
        (1, "integration.created", None),
    ]
    assert all(one["author"] for one in listed)
    first = await ask(suite, "GET", f"{path}/versions/1")
    assert first["configuration"]["channels"] == {}
    compared = await ask(suite, "POST", f"{path}/versions:compare", json={"earlier": 2, "later": 3})
    assert compared["differences"] == [{"pointer": "/product", "before": "", "after": "R4"}]
    await ask(suite, "GET", f"{path}/versions/9", 404)
    await ask(suite, "GET", f"{path}/versions/1", 404, tenant=OTHER_TENANT)
    await ask(suite, "GET", f"{path}/versions", 404, tenant=OTHER_TENANT)


async def test_going_back_is_rehearsed_first_and_is_a_version_itself(suite: RunningSuite) -> None:
    path = await integration(suite)
    await ask(suite, "POST", f"{path}:resume")
    await change(suite, path, product="R5", name="Epic new")
    wanted = {"version": 2, "reason": "it was better before"}
    rehearsed = await ask(suite, "POST", f"{path}:rollback", json={**wanted, "rehearse": True})
    assert [one["pointer"] for one in rehearsed["differences"]] == ["/name", "/product"]
    assert rehearsed["missing_credentials"] == ["api"]
    assert (await ask(suite, "GET", path))["product"] == "R5"
    done = await ask(suite, "POST", f"{path}:rollback", json=wanted)
    after = await ask(suite, "GET", path)
    assert (after["name"], after["product"], after["state"], after["version"]) == (
        "Epic",
        "",
        "active",
        done["version"],
    )
    again = await ask(suite, "POST", f"{path}:rollback", json=wanted)
    assert (again["differences"], again["version"]) == ([], done["version"])
    newest = (await ask(suite, "GET", f"{path}/versions"))["items"][0]
    assert (newest["action"], newest["reason"]) == ("integration.rolled-back", "it was better before")
    await ask(suite, "POST", f"{path}:rollback", 404, json={**wanted, "version": 99})
    await ask(suite, "POST", f"{path}:rollback", 422, json={"version": 2})


async def test_promotion_takes_the_configuration_and_leaves_the_environment_its_own(suite: RunningSuite) -> None:
    path = await integration(suite)
    refused = await ask(suite, "POST", f"{path}:promote", 422, json={"reason": "to test"})
    assert [row["pointer"] for row in refused["errors"]] == ["/endpoints/fhir"]
    wrong = {"reason": "to test", "endpoints": {"fhir": "https://t.example/r4", "sftp": "x"}}
    assert (await ask(suite, "POST", f"{path}:promote", 422, json=wrong))["errors"][0]["pointer"] == "/endpoints/sftp"
    body = {"reason": "to test", "endpoints": {"fhir": "https://test.example/r4"}}
    made = await ask(suite, "POST", f"{path}:promote", json=body)
    counterpart = made["integration"]
    assert (counterpart["environment"], counterpart["state"], counterpart["name"]) == ("test", "draft", "Epic (test)")
    assert counterpart["channels"]["fhir"]["endpoint"] == "https://test.example/r4"
    assert made["to_fill"] == {"credentials": ["api"]}
    await change(suite, path, product="R4")
    again = (await ask(suite, "POST", f"{path}:promote", json={"reason": "newer"}))["integration"]
    assert (again["id"], again["product"], again["name"]) == (counterpart["id"], "R4", "Epic (test)")
    assert again["channels"]["fhir"]["endpoint"] == "https://test.example/r4"
    assert again["promoted_from"]["version"] == 3
    up = {"reason": "go live", "endpoints": {"fhir": "https://live.example/r4"}}
    live = (await ask(suite, "POST", f"/integrations/{again['id']}:promote", json=up))["integration"]
    assert live["environment"] == "production"
    await ask(suite, "POST", f"/integrations/{live['id']}:promote", 409, json=up)


async def test_deleting_shows_its_consequences_first(suite: RunningSuite) -> None:
    path = await integration(suite)
    body = {"method": "api_key", "secret": "k", "header": "X-Key"}
    before = await ask(suite, "POST", f"{path}:delete-preview")
    await ask(suite, "PUT", f"{path}/credentials/api", json=body)
    preview = await ask(suite, "POST", f"{path}:delete-preview")
    assert (preview["goes"]["channels"], preview["goes"]["credentials"]) == (["fhir"], 1)
    for confirmation in ("", before["confirmation"], "anything"):
        refused = await ask(suite, "DELETE", path, 409, params={"confirmation": confirmation})
        assert refused["code"] == "integration.delete-unconfirmed"
    await ask(suite, "DELETE", path, 204, params={"confirmation": preview["confirmation"]})
    await ask(suite, "GET", path, 404)
    await ask(suite, "GET", f"{path}/credentials/api", 404)
    assert (await ask(suite, "GET", f"{path}/versions"))["items"][0]["action"] == "integration.removed"
    await ask(suite, "POST", "/integrations", 201, json={"name": "Epic", "vendor": "epic"})


async def test_a_change_record_goes_from_plan_to_result(suite: RunningSuite) -> None:
    path = await integration(suite)
    words = {"what": "New scope", "why": "Coverage is wanted", "tested_in": ["test"], "roll_back_plan": "version 2"}
    plan = {"integration_id": path.rsplit("/", 1)[1], **words}
    made = await ask(suite, "POST", "/changes", 201, json=plan)
    record = f"/changes/{made['id']}"
    assert (made["state"], made["configuration_version"]) == ("planned", 2)
    await ask(suite, "POST", f"{record}:verify", 409, json={"result": "fine"})
    note = {"vendor_notified_at": "2026-03-01T10:00:00Z"}
    await ask(suite, "PATCH", record, json=note, headers={"If-Match": '"1"'})
    await ask(suite, "PATCH", record, 412, json=note, headers={"If-Match": '"1"'})
    await change(suite, path, product="R4")
    await ask(suite, "POST", f"{record}:apply", json={"result": "made at noon"})
    done = await ask(suite, "POST", f"{record}:verify", json={"result": "coverages arrive"})
    assert [(one["step"], one["configuration_version"]) for one in done["steps"]] == [("apply", 3), ("verify", 3)]
    back = await ask(suite, "POST", f"{record}:roll-back", json={"result": "taken back"})
    assert back["state"] == "rolled-back"
    await ask(suite, "PATCH", record, 409, json={"why": "late words"}, headers={"If-Match": f'"{back["version"]}"'})
    listed = (await ask(suite, "GET", "/changes", params={"state": "rolled-back"}))["items"]
    assert [one["id"] for one in listed] == [made["id"]]
    await ask(suite, "GET", record, 404, tenant=OTHER_TENANT)
    await ask(suite, "POST", "/changes", 422, json={"integration_id": "x", "what": "y"})


async def test_a_system_that_wants_change_records_changes_only_under_one(suite: RunningSuite) -> None:
    path = await integration(suite)
    await change(suite, path, change_record_required=True)
    await change(suite, path, product="a draft is nobody's yet")
    await ask(suite, "POST", f"{path}:resume")
    version = (await ask(suite, "GET", path))["version"]
    held = {"If-Match": f'"{version}"'}

    async def refused(method: str, below: str, headers: dict[str, str] | None = None, **options: Any) -> None:
        answer = await ask(suite, method, f"{path}{below}", 409, headers={**held, **(headers or {})}, **options)
        assert answer["code"] == "change.required"

    await refused("PATCH", "", json={"product": "R4"})
    await refused("PATCH", "", json={"change_record_required": False})
    await refused("PUT", "/channels/fhir", json=CHANNEL | {"time_zone": "America/Chicago"})
    await refused("DELETE", "/channels/fhir")
    await refused("POST", ":rollback", json={"version": 2, "reason": "go back"})
    basic = {"method": "http_basic", "username": "u", "secret": "s"}
    await refused("PUT", "/credentials/api", json=basic)
    confirmation = (await ask(suite, "POST", f"{path}:delete-preview"))["confirmation"]
    await refused("DELETE", "", params={"confirmation": confirmation})
    await ask(suite, "POST", f"{path}:pause")
    await ask(suite, "POST", f"{path}:resume")

    other = await ask(suite, "POST", "/integrations", 201, json={"name": "Other", "vendor": "fhir"})
    plan = {"what": "New endpoint", "why": "The vendor moves"}
    foreign = await ask(suite, "POST", "/changes", 201, json={"integration_id": other["id"], **plan})
    record = await ask(suite, "POST", "/changes", 201, json={"integration_id": path.rsplit("/", 1)[1], **plan})
    async with suite.client(Role.SERVICE) as service:
        for change_id, status in ((None, 409), (foreign["id"], 409), (record["id"], 204)):
            said = await service.post(f"/auth/v1{path}:require-change", json={"change_id": change_id})
            assert said.status_code == status, said.text
        unasked = f"/auth/v1/integrations/{other['id']}:require-change"
        assert (await service.post(unasked, json={})).status_code == 204
    held = {"If-Match": f'"{(await ask(suite, "GET", path))["version"]}"'}
    await refused("PATCH", "", {"X-Change-Record": foreign["id"]}, json={"product": "R4"})
    under = held | {"X-Change-Record": record["id"], "X-Change-Reason": "as planned"}
    saved = await ask(suite, "PATCH", path, json={"product": "R4"}, headers=under)
    await ask(suite, "PUT", f"{path}/credentials/api", json=basic, headers=under)
    shown = await ask(suite, "GET", f"/changes/{record['id']}")
    made = [(one["version"], one["reason"], one["change_id"]) for one in shown["configuration_versions"]]
    assert made == [(saved["version"], "as planned", record["id"])]
    await ask(suite, "POST", f"/changes/{record['id']}:withdraw", json={"result": "not now"})
    held = {"If-Match": f'"{saved["version"]}"'}
    await refused("PATCH", "", {"X-Change-Record": record["id"]}, json={"product": "STU3"})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "state", "c/~d"]), JSON), min_size=1, max_size=6), st.data())
def test_going_back_gives_exactly_the_version(bodies: list[dict[str, Any]], data: st.DataObject) -> None:
    kept = [Version("int_1", number, body, "x", (), "me", None, AT) for number, body in enumerate(bodies, 1)]
    present = Document("int_1", TENANT, len(bodies), AT, AT, bodies[-1])
    wanted = data.draw(st.sampled_from(kept))
    after = restored(present, wanted, AT)
    assert configuration_of(after.body) == configuration_of(wanted.body)
    assert after.body.get("state") == present.body.get("state")
    assert list(differences(configuration_of(wanted.body), configuration_of(after.body))) == []
    changed = {row["pointer"] for row in differences(present.body, after.body)}
    assert ("" in changed or bool(changed)) == (dict(present.body) != dict(after.body)) or _only_nulls(present, after)


def _only_nulls(one: Document, other: Document) -> bool:
    """A `null` and an absent name are told alike."""

    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: bare(inner) for name, inner in value.items() if inner is not None}
        return value

    return bool(bare(dict(one.body)) == bare(dict(other.body)))
