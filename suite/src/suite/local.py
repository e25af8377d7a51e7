"""A local suite's first minutes: one tenant, an administrator's token in a file, and the demonstration practice.

Everything goes through the public HTTP API, as an administrator would do it, and can be done again: a second start
finds what the first one made.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import httpx
from starlette.types import ASGIApp

from common.models.errors import ERRORS, SuiteError
from common.runtime.peers import Peers
from common.runtime.tenant_states import OFFBOARDED, OFFBOARDING

TENANT_NAME: Final = "Demonstration Practice"
INTEGRATION_NAME: Final = "Demonstration Epic"
EPIC_TENANT: Final = "demo"
CLIENT_ID: Final = "practice-studio-demo"
IDENTIFIER_SYSTEM: Final = "urn:oid:1.2.840.114350.1.13.0.1.7.5.737384.0"
TIME_ZONE: Final = "America/Chicago"
POLLS_S: Final = {"patient": 15, "appointment": 5}
TOKEN_TEST_S: Final = 60
_TOKEN_LIFE_S: Final = 365 * 24 * 60 * 60
_OPERATOR: Final = "operator:local"
_NOT_FOUND: Final = 404


PREFIXES: Final = {
    "auth": "auth-gateway", "sync": "sync", "hl7": "hl7-gateway", "diagnostics": "diagnostics", "alerts": "alerts",
    "simulator": "simulator",
}  # fmt: skip


class Door:
    """The way to the suite's public HTTP API: the application of this process, or the services' URLs."""

    def __init__(self, peers: Peers, *, app: ASGIApp | None = None, urls: Mapping[str, str] | None = None) -> None:
        self.peers = peers
        self._app = app
        self._urls = dict(urls or {})

    def client(self, service: str) -> httpx.AsyncClient:
        """A client of one service."""
        if self._app is not None:
            return httpx.AsyncClient(
                transport=httpx.ASGITransport(self._app), base_url="http://local.invalid", timeout=30
            )
        if service not in self._urls:
            raise SuiteError("start.bad-setting", f"PS_PEERS names no URL of {service}.")
        return httpx.AsyncClient(base_url=self._urls[service], timeout=30, trust_env=False)

    def api(self, token: str) -> Api:
        """The API with one token."""
        return Api(self, token)


class Api:
    """Calls with one bearer token; a failure is the SuiteError of its problem detail."""

    def __init__(self, door: Door, token: str) -> None:
        self._door = door
        self._headers = {"authorization": f"Bearer {token}"}
        self._clients: dict[str, httpx.AsyncClient] = {}

    async def __aenter__(self) -> Api:
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients.values():
            await client.aclose()

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        absent_ok: bool = False,
    ) -> Any:
        """The JSON of a call's answer (None for an absent thing when that is allowed)."""
        service = PREFIXES[path.split("/")[1]]
        client = self._clients.setdefault(service, self._door.client(service))
        try:
            response = await client.request(method, path, json=body, headers={**self._headers, **(headers or {})})
        except httpx.HTTPError as error:
            raise SuiteError("service.unavailable", f"{service} does not answer.") from error
        if response.status_code == _NOT_FOUND and absent_ok:
            return None
        if response.is_error:
            problem = response.json()
            code = problem["code"] if problem.get("code") in ERRORS else "internal.error"
            raise SuiteError(code, problem.get("detail") or str(problem.get("errors", "")))
        return response.json() if response.content else None


async def ensure_tenant(door: Door) -> str:
    """The id of the one local tenant, made at the first start, and anew once it was offboarded."""
    async with door.api(await _platform_token(door.peers)) as api:
        listed = (await api.send("GET", "/auth/v1/tenants"))["items"]
        tenants = [one for one in listed if one["state"] not in (OFFBOARDING, OFFBOARDED)]
        if tenants:
            return str(tenants[0]["id"])
        # One that was offboarded does not come back: its end goes on beside a new one, which takes the name on purpose.
        made = await api.send("POST", "/auth/v1/tenants", {"name": TENANT_NAME, "reuse_name": True})
        return str(made["id"])


async def rotate_issuer(door: Door) -> None:
    """A new signing key: every token handed out before stops working."""
    async with door.api(await _platform_token(door.peers)) as api:
        await api.send("POST", "/auth/v1/issuer:rotate")


async def _platform_token(peers: Peers) -> str:
    return await peers.token("platform", subject=_OPERATOR, scope="platform-operator", lifetime_s=300)


async def ensure_admin_token(door: Door, tenant: str, path: Path) -> str:
    """The administrator's token: the one in the file while it works, else a new one (file mode 0600)."""
    if path.exists():
        token = path.read_text().strip()
        async with door.api(token) as api:
            try:
                if (await api.send("GET", "/auth/v1/me"))["tenant"] == tenant:
                    return token
            except SuiteError as error:
                # Refused for its practice: it may be the one of a practice that was offboarded before this start.
                if not error.code.startswith(("auth.", "tenant.")):
                    raise
    token = await door.peers.token(tenant, subject=_OPERATOR, scope="tenant-admin", lifetime_s=_TOKEN_LIFE_S)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, 0o600)
        file.write(token + "\n")
    return token


async def ensure_demonstration(door: Door, token: str, tenant: str, base_urls: Mapping[str, str]) -> str:
    """The demonstration practice, connected to the simulator; returns the integration's id.

    `base_urls`: where the services reach `simulator` and `auth-gateway` over the network.
    """
    epic = f"{base_urls['simulator']}/simulator/v1/epic/{EPIC_TENANT}"
    async with door.api(token) as api:
        # The simulator keeps its registrations in memory, as a vendor keeps them elsewhere: told again at every start.
        jwks_url = f"{base_urls['auth-gateway']}/auth/v1/tenants/{tenant}/development/jwks.json"
        await api.send("PUT", f"/simulator/v1/clients/{CLIENT_ID}", {"jwks_url": jwks_url})
        listed = (await api.send("GET", "/auth/v1/integrations"))["items"]
        found = next((row for row in listed if row["name"] == INTEGRATION_NAME), None)
        integration = found or await api.send("POST", "/auth/v1/integrations", INTEGRATION)
        path = f"/auth/v1/integrations/{integration['id']}"
        await _ensure_channels(api, path, f"{epic}/api/FHIR/R4")
        await _ensure_credential(api, path, f"{epic}/oauth2/token")
        if integration["state"] == "draft":
            await api.send("POST", f"{path}:resume")
        await _ensure_schedules(api, integration["id"])
    return str(integration["id"])


INTEGRATION: Final = {
    "name": INTEGRATION_NAME,
    "vendor": "epic",
    "product": "Epic (simulated)",
    "environment": "development",
    "identifier_systems": [
        {"assigning_authority": "EPIC", "system": IDENTIFIER_SYSTEM},
        {"assigning_authority": "", "system": IDENTIFIER_SYSTEM},
    ],
}


async def _ensure_credential(api: Api, path: str, token_url: str) -> None:
    present = await api.send("GET", f"{path}/credentials/api", absent_ok=True)
    if present is not None and present["token_url"] == token_url:
        return
    await api.send(
        "PUT",
        f"{path}/credentials/api",
        {
            "method": "private_key_jwt",
            "client_id": CLIENT_ID,
            "token_url": token_url,
            "scopes": ["system/Patient.read", "system/Appointment.read"],
            "algorithm": "RS384",
            "test_every_s": TOKEN_TEST_S,
        },
        headers={"If-Match": "*"} if present is not None else None,
    )


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
    for resource, every_s in POLLS_S.items():
        if resource not in present:
            schedule = {
                "integration_id": integration_id,
                "resource": resource,
                "mode": "incremental",
                "every_s": every_s,
            }
            await api.send("POST", "/sync/v1/schedules", schedule)
    runs = (await api.send("GET", f"/sync/v1/runs?integration_id={integration_id}&limit=500"))["items"]
    for resource in POLLS_S:
        full = [
            run for run in runs if run["resource"] == resource and run["mode"] == "full" and run["state"] != "failed"
        ]
        if not full:
            run = {"integration_id": integration_id, "resource": resource, "mode": "full"}
            await api.send("POST", "/sync/v1/runs", run)
