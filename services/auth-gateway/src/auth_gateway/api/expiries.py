"""Expiry watch: what ends when, and what a person records of it."""

from __future__ import annotations

from typing import Annotated, Any, Self

from fastapi import APIRouter, Depends, Path
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from auth_gateway.core.expiry import Statement
from auth_gateway.use_cases.announce_expiry import Expiries, list_expiries, state_expiry
from common.models.clock import Clock
from common.models.identifiers import check_id
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import page_body

Who = Annotated[Caller, Depends(caller_of)]
Name = Annotated[str, Path(pattern="^[a-z][a-z0-9-]{0,62}$", description="lower case letters, digits and hyphens")]
_PATH = "/integrations/{integration_id}/credentials/{name}/expiries/{kind}"


class StatedExpiry(BaseModel):
    """When it ends, or how many days it lives from the day it was entered or last used: one of the two."""

    model_config = ConfigDict(extra="forbid")

    expires_at: AwareDatetime | None = Field(default=None, description="when it ends, with an offset")
    life_days: int | None = Field(default=None, ge=1, le=3650, description="days it lives (password age, idle limit)")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.expires_at is None) == (self.life_days is None):
            raise ValueError("give expires_at or life_days")
        return self


def router(expiries: Expiries, clock: Clock) -> APIRouter:
    """The routes; paths begin after /auth/v1."""
    api = APIRouter(tags=["auth-gateway: Credentials"])

    @api.get("/expiries", summary="Expiry watch")
    async def read(caller: Who) -> dict[str, Any]:
        """Everything that ends, the nearest first, with the days left; what has no recorded date comes last."""
        return page_body(await list_expiries(expiries, clock, caller.tenant), None)

    @api.put(_PATH, status_code=204, summary="Record when something of a credential ends")
    async def put(integration_id: str, name: Name, kind: str, body: StatedExpiry, caller: Who) -> None:
        """It goes before what is read or counted; put again it replaces what was recorded."""
        statement = Statement(body.expires_at, body.life_days)
        await state_expiry(expiries, caller, (check_id(integration_id, "int"), name, kind), statement)

    @api.delete(_PATH, status_code=204, summary="Forget a recorded end")
    async def remove(integration_id: str, name: Name, kind: str, caller: Who) -> None:
        """What is read or counted counts again."""
        await state_expiry(expiries, caller, (check_id(integration_id, "int"), name, kind), None)

    return api
