"""Offboarding of a practice."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from auth_gateway.api.tenant_states import Reason
from auth_gateway.use_cases.offboard_tenant import Asked, OffboardTenant
from common.models.access import Role
from common.models.errors import SuiteError
from common.models.identifiers import check_id
from common.runtime.authentication import Caller, caller_of

Who = Annotated[Caller, Depends(caller_of)]
_DONE = 202


class Offboard(Reason):
    """Why, and the confirmation of what was looked at."""

    confirmation: str | None = Field(
        default=None, max_length=100, description="of the answer without it; absent: only say what would be done"
    )
    despite_runs: bool = Field(default=False, description="also while runs of the practice are going on")
    without_download: bool = Field(default=False, description="also when files of the export were not downloaded")


def router(offboard: OffboardTenant) -> APIRouter:
    """The routes; paths begin after /auth/v1."""
    api = APIRouter(tags=["auth-gateway: platform"])
    base = "/tenants/{tenant_id}/offboarding"

    @api.post("/tenants/{tenant_id}:offboard", summary="Offboard a practice", responses={_DONE: {}})
    async def step(tenant_id: str, body: Offboard, caller: Who, response: Response) -> dict[str, Any]:
        """Two steps, each of which is first told and then confirmed: the practice is suspended and exported; then its
        keys are destroyed and its rows deleted. Without `confirmation`: what the next step does, and its confirmation.
        """
        tenant = check_id(tenant_id, "ten")
        if body.confirmation is None:
            return await offboard.preview(tenant)
        response.status_code = _DONE
        asked = Asked(body.reason, body.confirmation, body.despite_runs, body.without_download)
        return await offboard.go_on(caller, tenant, asked)

    @api.get(base, summary="How far the offboarding of a practice is")
    async def state(tenant_id: str, caller: Who) -> dict[str, Any]:
        """Its phase, its export's files, what every service has deleted, and which are missing."""
        return await offboard.state(_theirs(caller, tenant_id))

    @api.get(base + "/manifest", summary="Manifest of a practice's export")
    async def manifest(tenant_id: str, caller: Who) -> Response:
        """Its files with rows, size and SHA-256. The SHA-256 of these bytes stands in the state."""
        found = await offboard.here(_theirs(caller, tenant_id))
        return Response(await offboard.store.manifest(found.tenant), media_type="application/json")

    @api.get(base + "/files/{service}/{file}", summary="A file of a practice's export")
    async def download(tenant_id: str, service: str, file: str, caller: Who) -> StreamingResponse:
        """NDJSON; while the export is kept. Every download is in the audit log."""
        offboarding, found = await offboard.file(_theirs(caller, tenant_id), f"{service}/{file}")
        name = f"{service}-{file}"
        headers = {"content-disposition": f'attachment; filename="{name}"', "x-content-sha256": found.sha256 or ""}
        return StreamingResponse(
            offboard.download(caller, offboarding, found), media_type="application/x-ndjson", headers=headers
        )

    return api


def _theirs(caller: Caller, tenant_id: str) -> str:
    """A practice's own people see their practice, the platform's operator every one."""
    tenant = check_id(tenant_id, "ten")
    if tenant != caller.tenant and Role.PLATFORM_OPERATOR not in caller.roles:
        raise SuiteError("tenant.not-found")
    return tenant
