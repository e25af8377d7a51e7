"""The go-live checklist, and its sign-off."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from auth_gateway.core.change_record import Why
from auth_gateway.core.versions import configuration_digest
from auth_gateway.ports import Integrations
from auth_gateway.use_cases.check_readiness import CheckReadiness
from common.models.clock import Clock, instant_text
from common.models.identifiers import check_id
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import if_match

Who = Annotated[Caller, Depends(caller_of)]


class SignOff(BaseModel):
    """Somebody's word that it may go live, also with lines that did not pass."""

    model_config = ConfigDict(extra="forbid")

    note: str = Field(min_length=3, max_length=2000, description="why it may go live; no patient data")


def router(check: CheckReadiness, integrations: Integrations, clock: Clock) -> APIRouter:
    """The routes; paths begin after /auth/v1."""
    api = APIRouter(tags=["auth-gateway: Change Management (readiness)"])

    @api.post("/integrations/{integration_id}:readiness", summary="Go-live checklist")
    async def readiness(integration_id: str, caller: Who) -> dict[str, Any]:
        """Credentials, permissions, schedules, trial run, quarantine, alerts, contacts: each passed, failed or not
        checked, with evidence and next step; and who signed off."""
        return await check(caller.tenant, check_id(integration_id, "int"))

    @api.post("/integrations/{integration_id}:sign-off", summary="Sign off for going live")
    async def sign_off(integration_id: str, body: SignOff, request: Request, caller: Who) -> dict[str, Any]:
        """With If-Match: for exactly this configuration; the next change ends it."""
        before = await integrations.get(caller.tenant, check_id(integration_id, "int"))
        if_match(request, before.version)
        signed = {"by": caller.subject, "at": instant_text(clock.now()), "version": before.version}
        signed_off = {**signed, "note": body.note, "digest": configuration_digest(before.body)}
        after = before.changed(clock.now(), signed_off=signed_off)
        await integrations.save(caller, before, after, "integration.signed-off", ["signed_off"], Why(body.note))
        return signed_off

    return api
