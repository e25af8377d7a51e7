"""Keys: which key-encryption key wraps what, wrapping anew, and new data keys."""

from __future__ import annotations

from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from common.models.clock import instant_text
from common.models.identifiers import check_id
from common.runtime.authentication import Caller, caller_of
from common.runtime.keyring import WrappedKey

Who = Annotated[Caller, Depends(caller_of)]


class DataKeys(Protocol):
    """The wrapped data keys of all tenants."""

    async def state(self) -> dict[str, Any]:
        """How many are wrapped by which key-encryption key."""

    async def rotate(self, caller: Caller) -> None:
        """A new key-encryption key in the KMS; SuiteError `keys.rotated-elsewhere` where it is a setting."""

    async def rewrap(self, caller: Caller, keys_max: int) -> dict[str, Any]:
        """Wrap data keys by the newest key-encryption key; every one is good at any moment."""

    async def new_version(self, caller: Caller, tenant: str) -> WrappedKey:
        """A new data key of a tenant. Raises SuiteError `tenant.not-found`, `request.conflict`."""


class Rewrap(BaseModel):
    """How much is done in one call."""

    model_config = ConfigDict(extra="forbid")

    keys_max: int = Field(default=1000, ge=1, le=10_000, description="data keys wrapped anew in this call")


def router(keys: DataKeys) -> APIRouter:
    """The routes; paths begin after /auth/v1."""
    api = APIRouter(tags=["auth-gateway: platform"])

    @api.get("/platform/keys", summary="Key-encryption keys in use")
    async def state(_: Who) -> dict[str, Any]:
        """How many data keys are wrapped by which key-encryption key; one that wraps none can be taken away."""
        return await keys.state()

    @api.post("/platform/keys:rotate", summary="New key-encryption key in the KMS")
    async def rotate(caller: Who) -> dict[str, Any]:
        """A new version of the transit key; what the former one wrapped still opens. Then wrap anew."""
        await keys.rotate(caller)
        return await keys.state()

    @api.post("/platform/keys:rewrap", summary="Wrap all data keys anew")
    async def rewrap(caller: Who, body: Rewrap) -> dict[str, Any]:
        """By the newest key-encryption key, while everything runs; repeat it until `remaining` is 0."""
        return await keys.rewrap(caller, body.keys_max)

    @api.post("/tenants/{tenant_id}/keys:rotate", status_code=201, summary="New data key of a practice")
    async def new_version(tenant_id: str, caller: Who) -> dict[str, Any]:
        """It seals from `seals_from` on, when every service knows it; credentials are sealed anew as they are used."""
        made = await keys.new_version(caller, check_id(tenant_id, "ten"))
        return {"version": made.version, "seals_from": instant_text(made.seals_from) if made.seals_from else None}

    return api
