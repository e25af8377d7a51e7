"""The go-live checklist: each line by its evidence, and the sign-off."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from auth_gateway.core.readiness import CHECKS, CredentialEvidence, Evidence, checklist
from auth_gateway.module import build
from common.models.access import Role
from common.testing import TENANT, RunningSuite, make_test_runtime, running

AT = datetime(2026, 3, 1, tzinfo=UTC)
CHANNEL = {"kind": "fhir", "credential": "api"}
CONTACTS = [{"role": "practice", "name": "A"}, {"role": "vendor", "name": "B"}]
READY = Evidence(
    {"channels": {"fhir": CHANNEL}, "contacts": CONTACTS},
    [CredentialEvidence("api", "private_key_jwt", AT, None)],
    {"status": "passed", "missing": [], "missing_scopes": [], "unknown": []},
    [{"resource": "patient", "mode": "full", "enabled": True}],
    [{"resource": "patient", "state": "finished"}, {"resource": "patient", "state": "failed"}],
    0,
    [{"id": "whk_1", "enabled": True}],
)


def status(known: Evidence) -> dict[str, str]:
    return {line["check"]: line["status"] for line in checklist(known)}


def test_a_practice_that_is_ready_passes_every_line() -> None:
    assert set(status(READY).values()) == {"passed"}
    assert len(CHECKS) == len(status(READY))


@pytest.mark.parametrize(
    ("changed", "line", "expected"),
    [
        ({"body": {"channels": {}, "contacts": CONTACTS}}, "channels", "failed"),
        ({"credentials": []}, "credentials", "failed"),
        ({"credentials": [CredentialEvidence("api", "private_key_jwt", None, None)]}, "credentials", "failed"),
        ({"credentials": [CredentialEvidence("api", "client_secret_post", AT, "x")]}, "credentials", "failed"),
        ({"credentials": [CredentialEvidence("api", "api_key", None, None)]}, "credentials", "not-checked"),
        ({"permissions": {"status": "failed", "missing": ["x"]}}, "permissions", "failed"),
        ({"permissions": None}, "permissions", "not-checked"),
        ({"schedules": []}, "schedules", "failed"),
        ({"schedules": [{"resource": "patient", "mode": "full", "enabled": False}]}, "schedules", "failed"),
        ({"schedules": None}, "schedules", "not-checked"),
        ({"runs": [{"resource": "patient", "state": "failed"}]}, "trial-run", "failed"),
        ({"runs": [{"resource": "patient", "state": "running"}]}, "trial-run", "not-checked"),
        ({"runs": None}, "trial-run", "not-checked"),
        ({"quarantined": 3}, "quarantine", "failed"),
        ({"webhooks": []}, "alerts", "failed"),
        ({"webhooks": None}, "alerts", "not-checked"),
        ({"body": {"channels": {"fhir": CHANNEL}, "contacts": CONTACTS[:1]}}, "contacts", "failed"),
    ],
)
def test_a_line_fails_by_its_own_evidence(changed: dict[str, Any], line: str, expected: str) -> None:
    found = status(replace(READY, **changed))
    assert found[line] == expected
    (shown,) = [one for one in checklist(replace(READY, **changed)) if one["check"] == line]
    assert shown["next_step"]


@pytest.fixture
async def suite(tmp_path: Path) -> AsyncIterator[RunningSuite]:
    async with running(make_test_runtime(tmp_path, "auth-gateway"), build) as up:
        async with up.client(Role.PLATFORM_OPERATOR, tenant="platform") as client:
            assert (await client.post("/auth/v1/tenants", json={"name": "p", "id": TENANT})).status_code == 201
        yield up


async def test_what_nobody_could_be_asked_is_not_checked_and_a_sign_off_is_of_one_configuration(
    suite: RunningSuite,
) -> None:
    async with suite.client(Role.TENANT_ADMIN) as client:
        body = {"name": "Epic", "vendor": "epic", "contacts": [{"role": "vendor", "name": "Help desk"}]}
        made = (await client.post("/auth/v1/integrations", json=body)).json()
        path = f"/auth/v1/integrations/{made['id']}"
        found = (await client.post(f"{path}:readiness")).json()
        by_name = {line["check"]: line for line in found["checks"]}
        assert (found["ready"], found["signed_off"]) == (False, None)
        assert {by_name[name]["status"] for name in ("schedules", "trial-run", "alerts")} == {"not-checked"}
        assert by_name["contacts"]["evidence"] == {"roles": ["vendor"]}
        blind = await client.post(f"{path}:sign-off", json={"note": "the vendor agreed"})
        assert blind.status_code == 428
        signed = await client.post(f"{path}:sign-off", json={"note": "the vendor agreed"}, headers={"If-Match": '"1"'})
        assert signed.status_code == 200, signed.text
        assert (await client.post(f"{path}:readiness")).json()["signed_off"]["note"] == "the vendor agreed"
        assert (await client.post(f"{path}:resume")).json()["state"] == "active"
        assert (await client.post(f"{path}:readiness")).json()["signed_off"] is not None
        changed = await client.patch(path, json={"product": "R4"}, headers={"If-Match": '"3"'})
        assert changed.status_code == 200, changed.text
        assert (await client.post(f"{path}:readiness")).json()["signed_off"] is None
