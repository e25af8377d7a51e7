"""The practice's own signing keys (JWKS) in each environment: list, rotate with an overlap, and a look from outside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal, Protocol

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from auth_gateway.core.signing_keys import SigningKey, of_environment, published, state_of
from common.models.clock import Clock
from common.models.integration import Environment
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import page_body

Who = Annotated[Caller, Depends(caller_of)]
ReadOutside = Callable[[str, Environment], Awaitable[Sequence[str] | None]]
"""The key ids that a tenant's public JWKS URL of an environment serves, None when it does not answer."""


class SigningKeys(Protocol):
    """Where the keys are."""

    async def signing_keys(self, tenant: str) -> Sequence[SigningKey]:
        """All of them, retired ones too."""

    async def add_signing_key(
        self, caller: Caller, environment: Environment, algorithm: str, wait: timedelta
    ) -> SigningKey:
        """A new one of an environment, used after a while; audited."""


class Look(BaseModel):
    """Of which environment."""

    model_config = ConfigDict(extra="forbid")

    environment: Environment = Environment.PRODUCTION


class Rotation(Look):
    """Which kind of key, and how long it is only published."""

    algorithm: Literal["RS384", "ES384"] = "RS384"
    used_after_h: int = Field(
        default=30, ge=0, le=720, description="hours until it signs; vendors keep a key set up to 29 h (Epic)"
    )


def router(
    keys: SigningKeys, read_outside: ReadOutside, clock: Clock, url_of: Callable[[str, Environment], str]
) -> APIRouter:
    """The routes; paths begin after /auth/v1."""
    api = APIRouter(tags=["auth-gateway: Credentials (signing keys)"])

    @api.get("/signing-keys", summary="Signing keys of the practice")
    async def list_keys(caller: Who, environment: Environment | None = None) -> dict[str, Any]:
        """Per environment: which signs, which is announced, which is retiring; the JWKS URLs to register with vendors.
        A key that is `shared` is from before keys had an environment, and good until each has rotated."""
        held, now = await keys.signing_keys(caller.tenant), clock.now()
        asked = [environment] if environment else list(Environment)
        items = [
            {"environment": one.value, **state_of(of_environment(held, one), key, now)}
            for one in asked
            for key in published(of_environment(held, one), now)
        ]
        return {**page_body(items, None), "jwks_urls": {one.value: url_of(caller.tenant, one) for one in asked}}

    @api.post("/signing-keys:rotate", status_code=201, summary="New signing key of an environment")
    async def rotate(body: Rotation, caller: Who) -> dict[str, Any]:
        """Published at once and used later; the one before stays published until no vendor can need it."""
        wait = timedelta(hours=body.used_after_h)
        made = await keys.add_signing_key(caller, body.environment, body.algorithm, wait)
        mine = of_environment(await keys.signing_keys(caller.tenant), body.environment)
        return {
            "environment": body.environment.value,
            **state_of(mine, made, clock.now()),
            "jwks_url": url_of(caller.tenant, body.environment),
        }

    @api.post("/signing-keys:check", summary="See the JWKS of an environment as a vendor does")
    async def check(caller: Who, body: Look | None = None) -> dict[str, Any]:
        """Reads the public URL and says which keys it serves, which it should, and which belong elsewhere."""
        environment = (body or Look()).environment
        held = await keys.signing_keys(caller.tenant)
        wanted = [key.kid for key in published(of_environment(held, environment), clock.now())]
        served = await read_outside(caller.tenant, environment)
        elsewhere = {key.kid for key in held if key.environment not in (environment, None)}
        missing = wanted if served is None else [kid for kid in wanted if kid not in served]
        foreign = [kid for kid in served or () if kid in elsewhere]
        return {
            "environment": environment.value,
            "jwks_url": url_of(caller.tenant, environment),
            "status": "failed" if missing or foreign else "passed",
            "served": list(served) if served is not None else None,
            "missing": missing,
            "foreign": foreign,
            "next_step": _next_step(served, missing, foreign),
        }

    return api


def _next_step(served: Sequence[str] | None, missing: Sequence[str], foreign: Sequence[str]) -> str | None:
    if served is None:
        return "Make PS_PUBLIC_URL the address that vendors reach, and let it through the firewall."
    if foreign:
        return "Something between here and the vendor serves the key set of another environment: look at its rules."
    if missing:
        return "Something between here and the vendor serves an old key set: clear its cache."
    return None
