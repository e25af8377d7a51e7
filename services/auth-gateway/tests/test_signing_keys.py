"""Signing keys: published before they are used, kept until nobody can need them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth_gateway.core.signing_keys import OVERLAP, SigningKey, current, published, retired_at
from auth_gateway.module import build
from common.models.access import Role
from common.testing import OTHER_TENANT, TENANT, RunningSuite, make_test_runtime, running

AT = datetime(2026, 3, 1, tzinfo=UTC)


def key(name: str, hours: float, used_after_h: float = 30) -> SigningKey:
    made = AT + timedelta(hours=hours)
    return SigningKey(name, "RS384", made, made + timedelta(hours=used_after_h))


def test_a_new_key_is_seen_before_it_signs_and_the_old_one_after() -> None:
    keys = [key("old", -1000, 0), key("new", 0)]
    first = AT + timedelta(hours=30)
    assert [one.kid for one in published(keys, AT)] == ["old", "new"]
    assert current(keys, "RS384", first - timedelta(seconds=1)) == keys[0]
    assert current(keys, "RS384", first) == keys[1]
    assert [one.kid for one in published(keys, first)] == ["old", "new"]
    assert [one.kid for one in published(keys, first + OVERLAP)] == ["new"]
    assert retired_at(keys, keys[1]) is None
    assert current([key("only", 0)], "RS384", AT) is not None
    assert current(keys, "ES384", AT) is None


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 100)), min_size=1, max_size=6), st.integers(0, 1000))
def test_whoever_signs_is_published_and_was_for_a_while(rows: list[tuple[int, int]], hours: int) -> None:
    keys = [key(f"k{number}", made, after) for number, (made, after) in enumerate(rows)]
    now = AT + timedelta(hours=hours)
    there = [one for one in keys if one.created_at <= now]
    signs = current(there, "RS384", now)
    assert signs is None or signs in published(there, now)
    earlier = now - OVERLAP / 2
    before = current([one for one in keys if one.created_at <= earlier], "RS384", earlier)
    assert before is None or before in published(there, now)


@pytest.fixture
async def suite(tmp_path: Path) -> AsyncIterator[RunningSuite]:
    async with running(make_test_runtime(tmp_path, "auth-gateway"), build) as up:
        async with up.client(Role.PLATFORM_OPERATOR, tenant="platform") as client:
            for tenant in (TENANT, OTHER_TENANT):
                assert (await client.post("/auth/v1/tenants", json={"name": "p", "id": tenant})).status_code == 201
        yield up


async def test_rotating_through_the_api(suite: RunningSuite) -> None:
    async with suite.client(Role.INTEGRATION_ADMIN) as client:
        before = (await client.get("/auth/v1/signing-keys")).json()
        made = (await client.post("/auth/v1/signing-keys:rotate", json={})).json()
        now = (await client.post("/auth/v1/signing-keys:rotate", json={"algorithm": "ES384", "used_after_h": 0})).json()
        after = {row["kid"]: row["state"] for row in (await client.get("/auth/v1/signing-keys")).json()["items"]}
        wrong = await client.post("/auth/v1/signing-keys:rotate", json={"algorithm": "none"})
    assert {row["state"] for row in before["items"]} == {"signing"}
    assert before["jwks_url"].endswith(f"/auth/v1/tenants/{TENANT}/jwks.json")
    assert (made["state"], after[made["kid"]], after[now["kid"]]) == ("announced", "announced", "signing")
    assert wrong.status_code == 422
    async with suite.client() as vendor:
        served = (await vendor.get(f"/auth/v1/tenants/{TENANT}/jwks.json")).json()["keys"]
        others = (await vendor.get(f"/auth/v1/tenants/{OTHER_TENANT}/jwks.json")).json()["keys"]
    assert {row["kid"] for row in served} == set(after)
    assert not {row["kid"] for row in others} & set(after)
    assert not [row for row in served if "d" in row]


async def test_the_key_set_is_looked_at_from_outside(suite: RunningSuite) -> None:
    async with suite.client(Role.OPERATOR) as client:
        found = (await client.post("/auth/v1/signing-keys:check")).json()
    # The test's base URL has no server behind it: that is what a vendor would find, too.
    assert (found["status"], found["served"]) == ("failed", None)
    assert "PS_PUBLIC_URL" in found["next_step"]
    assert found["missing"]
