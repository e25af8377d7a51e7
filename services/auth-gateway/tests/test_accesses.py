"""Support access and break-glass through the HTTP API: for a time, in one role, audited at each use, reviewed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet
from sqlalchemy import select

from auth_gateway.module import build
from common.models.access import Role
from common.models.clock import FixedClock, parse_instant
from common.runtime.system import SystemClock
from common.runtime.tables import OUTBOX
from common.testing import OTHER_TENANT, TENANT, RunningSuite, make_test_runtime, running

GRANT = {"subject": "helper@support", "role": "operator", "reason": "run 17 fails", "hours": 2}
EMERGENCY = {"role": "phi-reviewer", "reason": "the feed of the ward stands still", "minutes": 30}
CLOCK = FixedClock(SystemClock().now())


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def suite(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RunningSuite]:
    stored = {"database_url": request.getfixturevalue("postgres_database")} if request.param == "postgresql" else {}
    clock = FixedClock(CLOCK.now())
    async with running(make_test_runtime(tmp_path, "auth-gateway", clock=clock, **stored), build) as up:
        async with up.client(Role.PLATFORM_OPERATOR, tenant="platform") as client:
            for tenant in (TENANT, OTHER_TENANT):
                assert (await client.post("/auth/v1/tenants", json={"name": "p", "id": tenant})).status_code == 201
        yield up


def support(suite: RunningSuite, subject: str = "helper@support") -> httpx.AsyncClient:
    token = suite.issuer.token("platform", Role.PLATFORM_OPERATOR, subject=subject)
    return suite.client(token=token)


def person(suite: RunningSuite, role: Role, subject: str, tenant: str = TENANT) -> httpx.AsyncClient:
    return suite.client(token=suite.issuer.token(tenant, role, subject=subject))


async def claims_of(suite: RunningSuite, answer: dict[str, Any]) -> dict[str, Any]:
    """What a token says, verified by the published keys."""
    async with suite.client() as anybody:
        keys = KeySet.import_key_set((await anybody.get("/auth/v1/issuer/jwks.json")).json())
    return dict(jwt.decode(answer["access_token"], keys, algorithms=["ES256"]).claims)


def acting(suite: RunningSuite, claims: dict[str, Any]) -> httpx.AsyncClient:
    """The same token, as the test's issuer signs it (which is the one that this suite trusts)."""
    life_s = claims["exp"] - claims["iat"]
    token = suite.issuer.token(
        claims["tenant"], *claims["roles"], subject=claims["sub"], life_s=life_s, access=claims["access"]
    )
    return suite.client(token=token)


async def grant(suite: RunningSuite) -> str:
    async with suite.client(Role.TENANT_ADMIN) as admin:
        made = await admin.post("/auth/v1/support-access", json=GRANT)
        assert made.status_code == 201, made.text
        return str(made.json()["id"])


def advance(suite: RunningSuite, **by: float) -> None:
    clock = suite.runtime.clock
    assert isinstance(clock, FixedClock)
    clock.advance(timedelta(**by).total_seconds())


async def wait_for_refusal(client: httpx.AsyncClient, path: str) -> str:
    for _ in range(200):
        answer = await client.get(path)
        if answer.status_code == 403:
            return str(answer.json()["code"])
        await asyncio.sleep(0.05)
    raise AssertionError("it was never refused")


async def events(suite: RunningSuite, prefix: str) -> list[dict[str, Any]]:
    database = suite.host.modules[0].database
    assert database is not None
    async with database.read() as session:
        found = (await session.execute(select(OUTBOX.c.event).order_by(OUTBOX.c.id))).scalars()
        documents = [orjson.loads(event) if isinstance(event, bytes | str) else event for event in found]
    return [document for document in documents if document["type"].startswith(prefix)]


async def test_support_acts_in_the_granted_role_and_time_and_every_use_is_audited(suite: RunningSuite) -> None:
    access = await grant(suite)
    async with support(suite) as helper:
        assert [row["id"] for row in (await helper.get("/auth/v1/support-access")).json()["items"]] == [access]
        answer = (await helper.post(f"/auth/v1/support-access/{access}:token")).json()
    assert answer["expires_in"] == 300
    claims = await claims_of(suite, answer)
    expected = (TENANT, ["operator"], "support:helper@support", access)
    assert (claims["tenant"], claims["roles"], claims["sub"], claims["access"]) == expected
    async with acting(suite, claims) as helper, suite.client(Role.TENANT_ADMIN) as admin:
        assert (await helper.get("/auth/v1/integrations")).status_code == 200
        assert (await helper.get("/auth/v1/integrations")).status_code == 200
        assert (await helper.post("/auth/v1/integrations", json={"name": "x", "vendor": "epic"})).status_code == 403
        assert (await helper.post("/auth/v1/break-glass", json=EMERGENCY)).status_code == 403
        log = (await admin.post("/auth/v1/audit:search", json={"subject": access})).json()["items"]
        advance(suite, minutes=6)
        assert (await helper.get("/auth/v1/integrations")).json()["code"] == "auth.token-expired"
    used = [row for row in log if row["action"] == "access.used"]
    assert {row["caller"] for row in used} == {"support:helper@support"}
    assert [row["detail"]["route"] for row in used].count("/auth/v1/integrations") == 2
    assert [row["action"] for row in log][-2:] == ["support.token-issued", "support.opened"]


async def test_only_the_named_person_gets_a_token_and_only_until_the_end(suite: RunningSuite) -> None:
    access = await grant(suite)
    async with support(suite, "somebody@support") as other:
        assert (await other.post(f"/auth/v1/support-access/{access}:token")).status_code == 404
        assert (await other.get("/auth/v1/support-access")).json()["items"] == []
    advance(suite, minutes=118)
    async with support(suite) as helper:
        last = await helper.post(f"/auth/v1/support-access/{access}:token")
        assert last.json()["expires_in"] == 120, "no token outlives the grant"
        advance(suite, minutes=3)
        ended = await helper.post(f"/auth/v1/support-access/{access}:token")
    assert (ended.status_code, ended.json()["code"]) == (403, "auth.access-ended")


async def test_what_is_revoked_is_refused_at_once(suite: RunningSuite) -> None:
    access = await grant(suite)
    async with support(suite) as helper:
        claims = await claims_of(suite, (await helper.post(f"/auth/v1/support-access/{access}:token")).json())
    async with suite.client(Role.TENANT_ADMIN, tenant=OTHER_TENANT) as stranger:
        assert (await stranger.post(f"/auth/v1/support-access/{access}:revoke")).status_code == 404
        assert (await stranger.get("/auth/v1/support-access")).json()["items"] == []
    async with acting(suite, claims) as helper, suite.client(Role.TENANT_ADMIN) as admin:
        assert (await helper.get("/auth/v1/integrations")).status_code == 200
        for _ in range(2):
            revoked = await admin.post(f"/auth/v1/support-access/{access}:revoke")
            assert (revoked.status_code, revoked.json()["state"]) == (200, "ended")
        assert await wait_for_refusal(helper, "/auth/v1/integrations") == "auth.access-ended"
    async with support(suite) as helper:
        assert (await helper.post(f"/auth/v1/support-access/{access}:token")).status_code == 403


@pytest.mark.parametrize(
    "changed",
    [
        {"role": "platform-operator"},
        {"role": "service"},
        {"role": "king"},
        {"hours": 0},
        {"hours": 721},
        {"reason": ""},
    ],
    ids=str,
)
async def test_a_grant_that_is_none_is_refused(suite: RunningSuite, changed: dict[str, Any]) -> None:
    async with suite.client(Role.TENANT_ADMIN) as admin:
        assert (await admin.post("/auth/v1/support-access", json={**GRANT, **changed})).status_code == 422
        assert (await admin.get("/auth/v1/support-access")).json()["items"] == []


async def test_an_emergency_gives_rights_and_is_signed_off_by_somebody_else(
    suite: RunningSuite,
) -> None:
    async with person(suite, Role.OPERATOR, "alma") as alma:
        made = await alma.post("/auth/v1/break-glass", json=EMERGENCY)
        assert made.status_code == 201, made.text
        assert (await alma.get("/auth/v1/break-glass")).status_code == 403
    access, body = made.json()["id"], made.json()
    ends = parse_instant(body["expires_at"]) - parse_instant(body["opened_at"])
    assert ends == timedelta(minutes=30)
    claims = await claims_of(suite, body["token"])
    assert (claims["sub"], claims["roles"], claims["tenant"]) == ("alma", ["phi-reviewer"], TENANT)
    review = {"outcome": "justified", "comment": "looked at three messages"}
    async with person(suite, Role.TENANT_ADMIN, "alma") as herself:
        own = await herself.post(f"/auth/v1/break-glass/{access}:review", json=review)
        assert (own.status_code, own.json()["code"]) == (403, "auth.forbidden")
    async with person(suite, Role.AUDITOR, "otto", OTHER_TENANT) as stranger:
        assert (await stranger.post(f"/auth/v1/break-glass/{access}:review", json=review)).status_code == 404
        assert (await stranger.get("/auth/v1/break-glass")).json()["items"] == []
    async with person(suite, Role.AUDITOR, "vera") as auditor, acting(suite, claims) as emergency:
        assert (await emergency.get("/auth/v1/me")).status_code == 200
        signed = await auditor.post(f"/auth/v1/break-glass/{access}:review", json=review)
        assert (signed.status_code, signed.json()["reviewed_by"], signed.json()["state"]) == (200, "vera", "ended")
        again = await auditor.post(f"/auth/v1/break-glass/{access}:review", json=review)
        assert (again.status_code, again.json()["code"]) == (409, "request.conflict")
        assert (await auditor.get("/auth/v1/break-glass")).json()["items"] == [signed.json()]
        assert await wait_for_refusal(emergency, "/auth/v1/me") == "auth.access-ended"
    told = await events(suite, "ps.access.")
    assert [event["type"] for event in told] == ["ps.access.break-glass-opened", "ps.access.break-glass-reviewed"]
    assert told[0]["data"]["access_id"] == access
    assert "ward" not in str(told), "the reason stays in the audit log"


@pytest.mark.parametrize(
    "changed",
    [{"minutes": 61}, {"minutes": 0}, {"role": "tenant-admin"}, {"role": "auditor"}, {"reason": "now"}],
    ids=str,
)
async def test_an_emergency_has_its_limits(suite: RunningSuite, changed: dict[str, Any]) -> None:
    async with person(suite, Role.VIEWER, "alma") as alma:
        assert (await alma.post("/auth/v1/break-glass", json={**EMERGENCY, **changed})).status_code == 422
    assert await events(suite, "ps.access.") == []
