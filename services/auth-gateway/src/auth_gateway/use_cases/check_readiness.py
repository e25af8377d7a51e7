"""Whether an integration can go live: evidence gathered from here, sync and alerts, and the sign-off of a person."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from auth_gateway.core.readiness import CredentialEvidence, Evidence, checklist
from auth_gateway.core.versions import configuration_digest
from auth_gateway.ports import Credentials, Integrations
from common.models.errors import SuiteError

Permissions = Callable[[str, str], Awaitable[dict[str, Any]]]


class ReadinessSources(Protocol):
    """Other services; None: could not be asked."""

    async def schedules(self, tenant: str, integration_id: str) -> Sequence[dict[str, Any]] | None:
        """Schedules of the integration."""

    async def runs(self, tenant: str, integration_id: str) -> Sequence[dict[str, Any]] | None:
        """Its newest runs, newest first."""

    async def quarantined(self, tenant: str, integration_id: str) -> int | None:
        """How many rows are open."""

    async def webhooks(self, tenant: str) -> Sequence[dict[str, Any]] | None:
        """Where alerts go."""


@dataclass(frozen=True, slots=True)
class CheckReadiness:
    """See the module's text."""

    integrations: Integrations
    credentials: Credentials
    sources: ReadinessSources
    permissions: Permissions

    async def __call__(self, tenant: str, integration_id: str) -> dict[str, Any]:
        """Every line of the checklist. Raises SuiteError `integration.not-found` only."""
        document = await self.integrations.get(tenant, integration_id)
        held = await self.credentials.list(tenant, integration_id)
        schedules, runs, quarantined, webhooks, permissions = await asyncio.gather(
            self.sources.schedules(tenant, integration_id),
            self.sources.runs(tenant, integration_id),
            self.sources.quarantined(tenant, integration_id),
            self.sources.webhooks(tenant),
            self._permissions(tenant, integration_id),
        )
        known = Evidence(
            document.body,
            [CredentialEvidence(row.name, row.method, row.token.obtained_at, row.token.error_code) for row in held],
            permissions,
            schedules,
            runs,
            quarantined,
            webhooks,
        )
        lines = checklist(known)
        signed = document.body.get("signed_off")
        return {
            "integration_id": integration_id,
            "version": document.version,
            "ready": all(line["status"] == "passed" for line in lines),
            "checks": lines,
            # A sign-off is of one configuration: any change of it needs another look.
            "signed_off": signed if signed and signed["digest"] == configuration_digest(document.body) else None,
        }

    async def _permissions(self, tenant: str, integration_id: str) -> dict[str, Any] | None:
        try:
            return await self.permissions(tenant, integration_id)
        except SuiteError:
            return None
