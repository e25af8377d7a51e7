"""A local suite's first minutes: one tenant, an administrator's token in a file, and the demonstration practice.

Everything goes through the public HTTP API, as an administrator would do it, and can be done again: a second start
finds what the first one made.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import httpx
from starlette.types import ASGIApp

from common.models.errors import ERRORS, SuiteError
from common.runtime.peers import Peers

TENANT_NAME: Final = "Demonstration Practice"
INTEGRATION_NAME: Final = "Demonstration Epic"
EPIC_TENANT: Final = "demo"
CLIENT_ID: Final = "practice-studio-demo"
IDENTIFIER_SYSTEM: Final = "urn:oid:1.2.840.114350.1.13.0.1.7.5.737384.0"
TIME_ZONE: Final = "America/Chicago"
POLL_S: Final = 5
TOKEN_TEST_S: Final = 60
_TOKEN_LIFE_S: Final = 365 * 24 * 60 * 60
_OPERATOR: Final = "operator:local"
_NOT_FOUND: Final = 404
_CREATED: Final = 201


class Api:
    """The suite's public HTTP API, called inside the process with one token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://local.invalid", headers={"authorization": f"Bearer {token}"}, timeout=30
        )

    async def __aenter__(self) -> Api:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def send(self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None, absent_ok: bool = False) -> Any:
        """The JSON of a call's answer (None for an absent thing when that is allowed); raises the problem as SuiteError."""
        response = await self._client.request(method, path, json=body, headers=headers)
        if response.status_code == _NOT_FOUND and absent_ok:
            return None
        if response.is_error:
            problem = response.json()
            code = problem["code"] if problem.get("code") in ERRORS else "internal.error"
            raise SuiteError(code, problem.get("detail") or str(problem.get("errors", "")))
        return response.json() if response.content else None


async def ensure_tenant(app: ASGIApp, peers: Peers) -> str:
    """The id of the one local tenant, made at the first start."""
    token = await peers.token("platform", subject=_OPERATOR, scope="platform-operator", lifetime_s=300)
    async with Api(app, token) as api:
        tenants = (await api.send("GET", "/auth/v1/tenants"))["items"]
        if tenants:
            return str(tenants[0]["id"])
        return str((await api.send("POST", "/auth/v1/tenants", {"name": TENANT_NAME}))["id"])


async def rotate_issuer(app: ASGIApp, peers: Peers) -> None:
    """A new signing key: every token handed out before stops working."""
    token = await peers.token("platform", subject=_OPERATOR, scope="platform-operator", lifetime_s=300)
    async with Api(app, token) as api:
        await api.send("POST", "/auth/v1/issuer:rotate")


async def ensure_admin_token(app: ASGIApp, peers: Peers, tenant: str, path: Path) -> str:
    """The administrator's token: the one in the file while it works, else a new one (file mode 0600)."""
    if path.exists():
        token = path.read_text().strip()
        async with Api(app, token) as api:
            try:
                if (await api.send("GET", "/auth/v1/me"))["tenant"] == tenant:
                    return token
            except SuiteError as error:
                if not error.code.startswith("auth."):
                    raise
    token = await peers.token(tenant, subject=_OPERATOR, scope="tenant-admin", lifetime_s=_TOKEN_LIFE_S)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, 0o600)
        file.write(token + "\n")
    return token


async def ensure_demonstration(app: ASGIApp, token: str, tenant: str, base_url: str) -> str:
    """The demonstration practice, connected to the simulator; returns the integration's id."""
    fhir = f"{base_url}/simulator/v1/epic/{EPIC_TENANT}/api/FHIR/R4"
    async with Api(app, token) as api:
        # The simulator keeps its registrations in memory, as a vendor keeps them elsewhere: told again at every start.
        await api.send(
            "PUT",
            f"/simulator/v1/clients/{CLIENT_ID}",
            {"jwks_url": f"{base_url}/auth/v1/tenants/{tenant}/jwks.json"},
        )
        listed = (await api.send("GET", "/auth/v1/integrations"))["items"]
        found = next((row for row in listed if row["name"] == INTEGRATION_NAME), None)
        integration = found or await api.send(
            "POST",
            "/auth/v1/integrations",
            {
                "name": INTEGRATION_NAME,
                "vendor": "epic",
                "product": "Epic (simulated)",
                "environment": "development",
                "identifier_systems": [
                    {"assigning_authority": "EPIC", "system": IDENTIFIER_SYSTEM, "identifier_type": "MR"},
                    {"assigning_authority": "EPIC", "system": IDENTIFIER_SYSTEM},
                    {"assigning_authority": "", "system": IDENTIFIER_SYSTEM},
                ],
            },
        )
        path = f"/auth/v1/integrations/{integration['id']}"
        await _ensure_channels(api, path, fhir)
        if await api.send("GET", f"{path}/credentials/api", absent_ok=True) is None:
            await api.send(
                "PUT",
                f"{path}/credentials/api",
                {
                    "method": "private_key_jwt",
                    "client_id": CLIENT_ID,
                    "token_url": f"{base_url}/simulator/v1/epic/{EPIC_TENANT}/oauth2/token",
                    "scopes": ["system/Patient.read", "system/Appointment.read"],
                    "algorithm": "RS384",
                    "test_every_s": TOKEN_TEST_S,
                },
            )
        if integration["state"] == "draft":
            await api.send("POST", f"{path}:resume")
        await _ensure_schedules(api, integration["id"])
    return str(integration["id"])


async def _ensure_channels(api: Api, path: str, fhir: str) -> None:
    wanted: dict[str, dict[str, Any]] = {
        "fhir": {"kind": "fhir", "endpoint": fhir, "time_zone": TIME_ZONE, "credential": "api", "settings": {}},
        "hl7-in": {"kind": "hl7v2-in", "endpoint": "", "time_zone": TIME_ZONE, "settings": {"senders": []}},
    }
    for name, channel in wanted.items():
        present = await api.send("GET", f"{path}/channels/{name}", absent_ok=True)
        if present is None:
            await api.send("PUT", f"{path}/channels/{name}", channel)
        elif present["endpoint"] != channel["endpoint"]:  # the suite moved to another port
            await api.send("PUT", f"{path}/channels/{name}", channel, headers={"If-Match": "*"})


async def _ensure_schedules(api: Api, integration_id: str) -> None:
    listed = (await api.send("GET", "/sync/v1/schedules"))["items"]
    present = {row["resource"] for row in listed if row["integration_id"] == integration_id}
    if "appointment" not in present:
        await api.send(
            "POST",
            "/sync/v1/schedules",
            {"integration_id": integration_id, "resource": "appointment", "mode": "incremental", "every_s": POLL_S},
        )
    runs = (await api.send("GET", f"/sync/v1/runs?integration_id={integration_id}&limit=500"))["items"]
    for resource in ("patient", "appointment"):
        if not any(run["resource"] == resource and run["mode"] == "full" for run in runs):
            await api.send("POST", "/sync/v1/runs", {"integration_id": integration_id, "resource": resource, "mode": "full"})
