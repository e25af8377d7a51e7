"""Suspending and resuming a practice."""

from __future__ import annotations

from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from auth_gateway.ports import Tenant
from common.models.clock import instant_text
from common.models.identifiers import check_id
from common.runtime.authentication import Caller, caller_of

Who = Annotated[Caller, Depends(caller_of)]


class TenantMoves(Protocol):
    """A practice's state; each change with its integrations, audit entries and events in one transaction."""

    async def suspend(self, caller: Caller, tenant: str, reason: str) -> Tenant:
        """Refuse its callers and pause its active integrations. Raises SuiteError `tenant.not-found`."""

    async def resume(self, caller: Caller, tenant: str, reason: str) -> Tenant:
        """Take up what the suspension paused. Raises SuiteError `tenant.not-found`."""

    async def admit(self, tenant: str) -> None:
        """Raises SuiteError `tenant.suspended`."""


class Reason(BaseModel):
    """Why; it stands in the audit log of the platform and of the practice."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=3, max_length=500, description="why, without a patient's data")


def router(moves: TenantMoves) -> APIRouter:
    """The routes; paths begin after /auth/v1."""
    api = APIRouter(tags=["auth-gateway: platform"])

    @api.post("/tenants/{tenant_id}:suspend", summary="Suspend a practice")
    async def suspend(tenant_id: str, body: Reason, caller: Who) -> dict[str, Any]:
        """Its people are refused by name (403 tenant.suspended), its pulls and writes pause; nothing is lost."""
        return _json(await moves.suspend(caller, check_id(tenant_id, "ten"), body.reason))

    @api.post("/tenants/{tenant_id}:resume", summary="Resume a practice")
    async def resume(tenant_id: str, body: Reason, caller: Who) -> dict[str, Any]:
        """Goes on where it stopped: the integrations that the suspension paused, and no others."""
        return _json(await moves.resume(caller, check_id(tenant_id, "ten"), body.reason))

    return api


def _json(tenant: Tenant) -> dict[str, Any]:
    return {"id": tenant.id, "name": tenant.name, "state": tenant.state, "created_at": instant_text(tenant.created_at)}
