"""What happens in auth-gateway is heard by alerts: an emergency opens an alert, its review resolves it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from common.models.access import Role
from common.testing import TENANT, make_test_runtime, running
from suite.composition import SERVICES


async def wait_for_state(client: httpx.AsyncClient, state: str) -> None:
    items: list[dict[str, str]] = []
    for _ in range(200):
        items = (await client.get("/alerts/v1/alerts")).json()["items"]
        if [(row["rule"], row["severity"], row["state"]) for row in items] == [("break-glass", "critical", state)]:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"no alert came to be {state}: {items}")


async def test_an_emergency_opens_an_alert_and_its_review_resolves_it(tmp_path: Path) -> None:
    builds = SERVICES["auth-gateway"], SERVICES["alerts"]
    async with running(make_test_runtime(tmp_path, "suite"), *builds) as suite:
        async with suite.client(Role.PLATFORM_OPERATOR, tenant="platform") as operator:
            assert (await operator.post("/auth/v1/tenants", json={"name": "p", "id": TENANT})).status_code == 201
        auditor = suite.client(token=suite.issuer.token(TENANT, Role.TENANT_ADMIN, subject="vera"))
        async with suite.client(Role.OPERATOR) as person, auditor:
            body = {"role": "phi-reviewer", "reason": "the feed of the ward stands still"}
            made = await person.post("/auth/v1/break-glass", json=body)
            await wait_for_state(auditor, "open")
            review = {"outcome": "justified", "comment": "three messages were read"}
            path = f"/auth/v1/break-glass/{made.json()['id']}:review"
            assert (await auditor.post(path, json=review)).status_code == 200
            await wait_for_state(auditor, "resolved")
