"""Support access granted by a practice, and rights taken in an emergency (break-glass)."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from auth_gateway.core.access_for_a_time import BREAK_GLASS_MINUTES_MAX, EMERGENCY_ROLES, SUPPORT_HOURS_MAX, Kind
from auth_gateway.use_cases.grant_access import (
    AccessDesk,
    of_practice,
    open_access,
    review_access,
    support_token,
    token_for,
)
from common.models.access import TENANT_ROLES, Role
from common.models.errors import FieldError, SuiteError
from common.models.identifiers import check_id
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import page_body

Who = Annotated[Caller, Depends(caller_of)]


class SupportGrant(BaseModel):
    """Whom the practice lets in, as what, and for how long."""

    model_config = ConfigDict(extra="forbid")

    subject: str = Field(min_length=1, max_length=200, description="`sub` of the support person's token")
    role: Role = Field(description="a role of the practice, and no more than it")
    reason: str = Field(min_length=3, max_length=500, description="why, without a patient's data")
    hours: int = Field(default=8, ge=1, le=SUPPORT_HOURS_MAX, description="how long, from now")


class BreakGlass(BaseModel):
    """The rights that an emergency needs."""

    model_config = ConfigDict(extra="forbid")

    role: Role = Field(description="the role that is taken")
    reason: str = Field(min_length=10, max_length=500, description="why, without a patient's data")
    minutes: int = Field(default=BREAK_GLASS_MINUTES_MAX, ge=1, le=BREAK_GLASS_MINUTES_MAX, description="how long")


class Review(BaseModel):
    """What a review found; who sends it signs it off."""

    model_config = ConfigDict(extra="forbid")

    outcome: Literal["justified", "not-justified"]
    comment: str = Field(min_length=3, max_length=500, description="what was seen, without a patient's data")


def router(desk: AccessDesk) -> APIRouter:
    """The routes; paths begin after /auth/v1."""
    api = APIRouter(tags=["auth-gateway: access for a time"])
    _support(api, desk)
    _break_glass(api, desk)
    return api


def _support(api: APIRouter, desk: AccessDesk) -> None:
    @api.post("/support-access", status_code=201, summary="Grant support access")
    async def grant(body: SupportGrant, caller: Who) -> dict[str, Any]:
        """Lets one person of support in, in one role and for a time; every use is audited."""
        _check_role(body.role, TENANT_ROLES)
        life = timedelta(hours=body.hours)
        made = await open_access(desk, caller, Kind.SUPPORT, body.subject, body.role, body.reason, life)
        return made.as_json(desk.clock.now())

    @api.get("/support-access", summary="Support accesses")
    async def read(caller: Who) -> dict[str, Any]:
        """A practice sees what it granted; a support person what was granted to him."""
        mine = {"subject": caller.subject} if caller.tenant == "platform" else {"tenant": caller.tenant}
        now = desk.clock.now()
        return page_body([row.as_json(now) for row in await desk.accesses.list(Kind.SUPPORT, **mine)], None)

    @api.post("/support-access/{access_id}:revoke", summary="Revoke support access")
    async def revoke(access_id: str, caller: Who) -> dict[str, Any]:
        """Tokens in use are refused as soon as every process was told."""
        access = await of_practice(desk, caller, Kind.SUPPORT, check_id(access_id, "acc"))
        now = desk.clock.now()
        return (await desk.accesses.end(caller, access, now)).as_json(now)

    @api.post("/support-access/{access_id}:token", summary="A token for support access")
    async def token(access_id: str, caller: Who) -> dict[str, Any]:
        """For the person named in the grant: five minutes, in the granted role of that practice."""
        return await support_token(desk, caller, check_id(access_id, "acc"))


def _break_glass(api: APIRouter, desk: AccessDesk) -> None:
    @api.post("/break-glass", status_code=201, summary="Take rights in an emergency")
    async def take(body: BreakGlass, caller: Who) -> dict[str, Any]:
        """A token with one more role for an hour at most. It raises an alert, and is reviewed later."""
        _check_role(body.role, EMERGENCY_ROLES)
        life = timedelta(minutes=body.minutes)
        made = await open_access(desk, caller, Kind.BREAK_GLASS, caller.subject, body.role, body.reason, life)
        return {**made.as_json(desk.clock.now()), "token": await token_for(desk, caller, made)}

    @api.get("/break-glass", summary="Rights taken in an emergency")
    async def read(caller: Who) -> dict[str, Any]:
        """The newest first, with their reviews."""
        rows = await desk.accesses.list(Kind.BREAK_GLASS, tenant=caller.tenant)
        return page_body([row.as_json(desk.clock.now()) for row in rows], None)

    @api.post("/break-glass/{access_id}:review", summary="Review rights taken in an emergency")
    async def review(access_id: str, body: Review, caller: Who) -> dict[str, Any]:
        """Signs it off; an access that is still open ends. Not by the one who took it."""
        made = await review_access(desk, caller, check_id(access_id, "acc"), body.outcome, body.comment)
        return made.as_json(desk.clock.now())


def _check_role(role: Role, allowed: frozenset[Role]) -> None:
    if role not in allowed:
        raise SuiteError(
            "request.invalid", fields=[FieldError("/role", "unsupported", f"Expected: {', '.join(sorted(allowed))}.")]
        )
