"""The practice's own signing keys (JWKS): list, rotate with an overlap, and a look from outside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal, Protocol

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from auth_gateway.core.signing_keys import SigningKey, published, state_of
from common.models.clock import Clock
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import page_body

Who = Annotated[Caller, Depends(caller_of)]
ReadOutside = Callable[[str], Awaitable[Sequence[str] | None]]
"""The key ids that a tenant's public JWKS URL serves, None when it does not answer."""


class SigningKeys(Protocol):
    """Where the keys are."""

    async def signing_keys(self, tenant: str) -> Sequence[SigningKey]:
        """All of them, retired ones too."""

    async def add_signing_key(self, caller: Caller, algorithm: str, wait: timedelta) -> SigningKey:
        """A new one, used after a while; audited."""


class Rotation(BaseModel):
    """Which kind of key, and how long it is only published."""

    model_config = ConfigDict(extra="forbid")

    algorithm: Literal["RS384", "ES384"] = "RS384"
    used_after_h: int = Field(
        default=30, ge=0, le=720, description="hours until it signs; vendors keep a key set up to 29 h (Epic)"
    )


def router(keys: SigningKeys, read_outside: ReadOutside, clock: Clock, url_of: Callable[[str], str]) -> APIRouter:
    """The routes; paths begin after /auth/v1."""
    api = APIRouter(tags=["auth-gateway: Credentials (signing keys)"])

    @api.get("/signing-keys", summary="Signing keys of the practice")
    async def list_keys(caller: Who) -> dict[str, Any]:
        """Which signs, which is announced, which is retiring; the JWKS URL to register with vendors."""
        held, now = await keys.signing_keys(caller.tenant), clock.now()
        items = [state_of(held, key, now) for key in published(held, now)]
        return {**page_body(items, None), "jwks_url": url_of(caller.tenant)}

    @api.post("/signing-keys:rotate", status_code=201, summary="New signing key")
    async def rotate(body: Rotation, caller: Who) -> dict[str, Any]:
        """Published at once and used later; the one before stays published until no vendor can need it."""
        made = await keys.add_signing_key(caller, body.algorithm, timedelta(hours=body.used_after_h))
        return state_of(await keys.signing_keys(caller.tenant), made, clock.now())

    @api.post("/signing-keys:check", summary="See the JWKS as a vendor does")
    async def check(caller: Who) -> dict[str, Any]:
        """Reads the public URL and says which keys it serves, and which it should."""
        held, url = await keys.signing_keys(caller.tenant), url_of(caller.tenant)
        wanted = [key.kid for key in published(held, clock.now())]
        served = await read_outside(caller.tenant)
        missing = wanted if served is None else [kid for kid in wanted if kid not in served]
        next_step = None
        if served is None:
            next_step = "Make PS_PUBLIC_URL the address that vendors reach, and let it through the firewall."
        elif missing:
            next_step = "Something between here and the vendor serves an old key set: clear its cache."
        return {
            "jwks_url": url,
            "status": "failed" if missing else "passed",
            "served": list(served) if served is not None else None,
            "missing": missing,
            "next_step": next_step,
        }

    return api
