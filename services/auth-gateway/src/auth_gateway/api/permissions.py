"""Check Permissions (guide: Authentication Problems > Check Permissions)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from auth_gateway.use_cases.check_permissions import PROBES_MAX, Question, Wanted
from common.models.identifiers import check_id
from common.runtime.authentication import Caller, caller_of
from pms.capabilities import Interaction

Who = Annotated[Caller, Depends(caller_of)]
Check = Callable[[str, str, Question], Awaitable[dict[str, Any]]]


class WantedResource(BaseModel):
    """A resource that the integration needs."""

    model_config = ConfigDict(extra="forbid")

    resource: str = Field(pattern="^[A-Z][A-Za-z]{1,63}$", description="FHIR type, e.g. Appointment")
    interactions: list[Interaction] = Field(default=[Interaction.SEARCH], min_length=1, max_length=len(Interaction))
    purpose: str = Field(default="", max_length=200, description="stands in the request to the administrator")


class PermissionsCheck(BaseModel):
    """What to check; empty: what the integration's schedules need, with a probe of each resource."""

    model_config = ConfigDict(extra="forbid")

    resources: list[WantedResource] | None = Field(
        default=None, min_length=1, max_length=PROBES_MAX, description="left out: those of sync's schedules"
    )
    credential: str | None = Field(
        default=None, pattern="^[a-z][a-z0-9-]{0,62}$", description="left out: the fhir channel's"
    )
    probe: bool = Field(default=True, description="search each resource for an id that nobody has")


def router(check: Check) -> APIRouter:
    """The routes; paths begin after /auth/v1."""
    api = APIRouter(tags=["auth-gateway: Credentials"])

    @api.post("/integrations/{integration_id}/permissions:check", summary="Check Permissions")
    async def check_permissions(integration_id: str, body: PermissionsCheck, caller: Who) -> dict[str, Any]:
        """Required against granted: missing, excess, unknown, not offered by the vendor at all; `request_text` is
        ready to be sent to the PMS administrator."""
        wanted = None
        if body.resources is not None:
            wanted = [Wanted(row.resource, tuple(row.interactions), row.purpose) for row in body.resources]
        question = Question(wanted, body.credential, body.probe)
        return await check(caller.tenant, check_id(integration_id, "int"), question)

    return api
