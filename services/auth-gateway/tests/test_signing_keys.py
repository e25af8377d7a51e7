"""Signing keys: published before they are used, kept until nobody can need them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from sqlalchemy import Table, delete, select, update

from auth_gateway.adapters.tables import SigningKeyRow
from auth_gateway.adapters.tenant_store import SqlTenantStore
from auth_gateway.core.signing_keys import (
    OVERLAP,
    SigningKey,
    current,
    of_environment,
    published,
    published_without_environment,
    retired_at,
)
from auth_gateway.module import build
from common.models.access import Role
from common.models.errors import SuiteError
from common.models.integration import Environment
from common.testing import OTHER_TENANT, TENANT, RunningSuite, make_test_runtime, running

AT = datetime(2026, 3, 1, tzinfo=UTC)


DEVELOPMENT, PRODUCTION = Environment.DEVELOPMENT, Environment.PRODUCTION
SIGNING: Table = SigningKeyRow.__table__  # type: ignore[attr-defined]


def key(name: str, hours: float, used_after_h: float = 30, environment: Environment | None = None) -> SigningKey:
    made = AT + timedelta(hours=hours)
    return SigningKey(name, "RS384", made, made + timedelta(hours=used_after_h), environment)


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


def test_a_key_from_before_environments_serves_each_until_it_has_its_own() -> None:
    keys = [key("shared", -1000, 0), key("prod", 0, environment=PRODUCTION), key("dev", 5, environment=DEVELOPMENT)]
    later = AT + timedelta(hours=31)
    for environment, now, signs in (
        (PRODUCTION, AT, "shared"), (PRODUCTION, later, "prod"), (DEVELOPMENT, later, "shared"),
        (DEVELOPMENT, later + timedelta(hours=5), "dev"), (Environment.TEST, later, "shared"),
    ):  # fmt: skip
        used = current(of_environment(keys, environment), "RS384", now)
        assert (environment, used.kid if used else None) == (environment, signs)
    ended = AT + timedelta(hours=30) + OVERLAP
    assert [one.kid for one in published(of_environment(keys, PRODUCTION), ended)] == ["prod"]
    # Development and test were registered at the old address, too: it serves what they sign with, and no sandbox key.
    assert [one.kid for one in published_without_environment(keys, ended)] == ["shared", "prod"]


async def served(suite: RunningSuite, path: str, tenant: str = TENANT) -> dict[str, Any]:
    async with suite.client() as vendor:
        answer = await vendor.get(f"/auth/v1/tenants/{tenant}/{path}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


def kids(document: dict[str, Any]) -> set[str]:
    return {row["kid"] for row in document["keys"]}


async def test_rotating_through_the_api(suite: RunningSuite) -> None:
    path = "/auth/v1/signing-keys"
    async with suite.client(Role.INTEGRATION_ADMIN) as client:
        before = (await client.get(path)).json()
        made = (await client.post(f"{path}:rotate", json={})).json()
        now = (await client.post(f"{path}:rotate", json={"algorithm": "ES384", "used_after_h": 0})).json()
        listed = (await client.get(path, params={"environment": "production"})).json()
        wrong = await client.post(f"{path}:rotate", json={"algorithm": "none"})
        nowhere = await client.post(f"{path}:rotate", json={"environment": "moon"})
        nothing = await client.get(path, params={"environment": "moon"})
    after = {row["kid"]: row["state"] for row in listed["items"]}
    assert {(row["state"], row["shared"]) for row in before["items"]} == {("signing", False)}
    assert [row["environment"] for row in before["items"]] == ["development"] * 2 + ["test"] * 2 + ["production"] * 2
    assert listed["jwks_urls"]["production"].endswith(f"/auth/v1/tenants/{TENANT}/production/jwks.json")
    assert (made["state"], after[made["kid"]], after[now["kid"]]) == ("announced", "announced", "signing")
    assert [wrong.status_code, nowhere.status_code, nothing.status_code] == [422, 422, 422]
    document = await served(suite, "production/jwks.json")
    assert kids(document) == set(after)
    assert kids(document) == kids(await served(suite, "jwks.json"))
    assert not kids(document) & kids(await served(suite, "production/jwks.json", OTHER_TENANT))
    assert not kids(document) & kids(await served(suite, "development/jwks.json"))
    assert not [row for row in document["keys"] if "d" in row]
    async with suite.client() as vendor:
        for wrong_path, status in ((f"{TENANT}/moon", 422), ("platform/test", 404), (TENANT[:-1] + "0/test", 404)):
            assert (await vendor.get(f"/auth/v1/tenants/{wrong_path}/jwks.json")).status_code == status


async def integration(suite: RunningSuite, environment: str) -> str:
    async with suite.client(Role.INTEGRATION_ADMIN) as client:
        body = {"name": environment, "vendor": "epic", "environment": environment}
        return str((await client.post("/auth/v1/integrations", json=body)).json()["id"])


def store(suite: RunningSuite) -> SqlTenantStore:
    database = suite.host.modules[0].database
    assert database is not None
    return SqlTenantStore(database, suite.runtime.wrapper, suite.runtime.clock)


def verifies(document: dict[str, Any], assertion: str) -> bool:
    try:
        jwt.decode(assertion, KeySet.import_key_set(document), algorithms=["RS384"])  # type: ignore[arg-type]
    except (JoseError, ValueError):
        return False
    return True


async def test_what_signs_for_a_sandbox_is_not_accepted_in_production(suite: RunningSuite) -> None:
    sandbox, production = await integration(suite, "development"), await integration(suite, "production")
    documents = [await served(suite, f"{one}jwks.json") for one in ("development/", "test/", "production/", "")]

    async def accepted(integration_id: str) -> list[bool]:
        sign = await store(suite).signer(TENANT, integration_id, "RS384")
        return [verifies(document, sign({"iss": "app"})) for document in documents]

    assert await accepted(sandbox) == [True, False, False, False]
    assert await accepted(production) == [False, False, True, True]
    async with suite.client(Role.INTEGRATION_ADMIN) as client:
        path = f"/auth/v1/integrations/{sandbox}"
        etag = (await client.get(path)).headers["etag"]
        moved = await client.patch(path, json={"environment": "test"}, headers={"If-Match": etag})
        assert moved.status_code == 200, moved.text
    assert await accepted(sandbox) == [False, True, False, False]
    with pytest.raises(SuiteError, match="integration"):
        await store(suite).signer(OTHER_TENANT, sandbox, "RS384")


async def test_keys_from_before_environments_go_on_at_their_address(suite: RunningSuite) -> None:
    database = suite.host.modules[0].database
    assert database is not None
    mine = SIGNING.c.tenant == TENANT
    async with database.write() as session:
        # As the migration leaves a practice that was there before.
        await session.execute(delete(SIGNING).where(mine, SIGNING.c.environment != "production"))
        await session.execute(update(SIGNING).where(mine).values(environment=None))
        old = set((await session.execute(select(SIGNING.c.kid).where(mine))).scalars())
    sandbox = await integration(suite, "development")
    for path in ("jwks.json", "development/jwks.json", "production/jwks.json"):
        assert kids(await served(suite, path)) == old
    sign = await store(suite).signer(TENANT, sandbox, "RS384")
    assert verifies(await served(suite, "jwks.json"), sign({"iss": "app"}))
    async with suite.client(Role.INTEGRATION_ADMIN) as client:
        rotation = {"environment": "development", "used_after_h": 0}
        made = (await client.post("/auth/v1/signing-keys:rotate", json=rotation)).json()
        shared = (await client.get("/auth/v1/signing-keys", params={"environment": "production"})).json()["items"]
    assert {row["shared"] for row in shared} == {True}
    assert kids(await served(suite, "jwks.json")) == old
    assert kids(await served(suite, "development/jwks.json")) == old | {made["kid"]}
    sign = await store(suite).signer(TENANT, sandbox, "RS384")
    assert verifies(await served(suite, "development/jwks.json"), sign({"iss": "app"}))
    assert not verifies(await served(suite, "jwks.json"), sign({"iss": "app"}))


@pytest.mark.parametrize("asked", [None, {"environment": "test"}])
async def test_the_key_set_is_looked_at_from_outside(suite: RunningSuite, asked: dict[str, str] | None) -> None:
    async with suite.client(Role.OPERATOR) as client:
        found = (await client.post("/auth/v1/signing-keys:check", json=asked)).json()
        wrong = await client.post("/auth/v1/signing-keys:check", json={"environment": "moon"})
    # The test's base URL has no server behind it: that is what a vendor would find, too.
    assert (found["status"], found["served"], wrong.status_code) == ("failed", None, 422)
    assert found["environment"] == (asked["environment"] if asked else "production")
    assert found["jwks_url"].endswith(f"/{found['environment']}/jwks.json")
    assert "PS_PUBLIC_URL" in found["next_step"]
    assert set(found["missing"]) == kids(await served(suite, f"{found['environment']}/jwks.json"))
