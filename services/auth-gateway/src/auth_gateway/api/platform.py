"""Tenants, keys, the suite's own issuer, and who the caller is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl

from fastapi import APIRouter, BackgroundTasks, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from auth_gateway.ports import IssuerKeys, Tenant, Tenants
from auth_gateway.use_cases.issue_token import Exchange
from common.models.clock import Clock, Ids, instant_text
from common.models.errors import SuiteError
from common.models.identifiers import check_id
from common.models.integration import Environment
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import page_body
from common.runtime.keyring import PLATFORM
from common.runtime.peers import TOKEN_EXCHANGE, TOKEN_TYPE_JWT

OurLook = Annotated[bool, Query(description="a look of our own: not taken for a vendor's")]
_KEYS_LIFE_S: Final = 300
_ISSUER_KEYS_LIFE_S: Final = 30


NoteReading = Callable[[str, Environment | None], Awaitable[None]]
"""Called after somebody else read a tenant's key set."""


class NewTenant(BaseModel):
    """A practice."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200, description="the practice's name")
    reuse_name: bool = Field(default=False, description="also when a practice of this name was offboarded")
    id: str | None = Field(
        default=None, max_length=40, description="an id of ours, to create it once however often it is sent"
    )


def router(
    tenants: Tenants,
    issuer: IssuerKeys,
    issue: Callable[[Exchange], Awaitable[dict[str, Any]]],
    read: NoteReading,
    clock: Clock,
    ids: Ids,
) -> APIRouter:
    """The routes; paths begin after /auth/v1."""
    api = APIRouter(tags=["auth-gateway: platform"])
    _callers(api, issuer, issue)
    _tenants(api, tenants, clock, ids)
    _key_sets(api, tenants, read)
    return api


def _callers(api: APIRouter, issuer: IssuerKeys, issue: Callable[[Exchange], Awaitable[dict[str, Any]]]) -> None:
    @api.get("/me", summary="Who am I")
    async def me(caller: Annotated[Caller, Depends(caller_of)]) -> dict[str, Any]:
        """The caller's tenant and rights."""
        return {
            "tenant": caller.tenant,
            "subject": caller.subject,
            "roles": sorted(caller.roles),
            "issuer": caller.issuer,
        }

    @api.post("/token", summary="Token exchange (RFC 8693)")
    async def token(request: Request) -> dict[str, Any]:
        """For services of the suite and the local operator: an assertion for a token of one tenant. Form-encoded."""
        return await issue(_exchange(await request.body()))

    @api.get("/issuer/jwks.json", summary="Keys of the suite's own tokens")
    async def issuer_keys(response: Response) -> dict[str, Any]:
        """Public keys (RFC 7517)."""
        response.headers["Cache-Control"] = f"public, max-age={_ISSUER_KEYS_LIFE_S}"
        return await issuer.jwks(PLATFORM)

    @api.post("/issuer:rotate", status_code=204, summary="Rotate the issuer's key")
    async def rotate(caller: Annotated[Caller, Depends(caller_of)]) -> None:
        """A new signing key; every token handed out before stops working within half a minute."""
        await issuer.rotate_issuer(caller)


def _tenants(api: APIRouter, tenants: Tenants, clock: Clock, ids: Ids) -> None:
    @api.post("/tenants", status_code=201, summary="Create a tenant")
    async def create(body: NewTenant, caller: Annotated[Caller, Depends(caller_of)]) -> dict[str, Any]:
        """A practice with keys of its own; sent twice with the same id it is created once."""
        tenant_id = check_id(body.id, "ten") if body.id else ids.new("ten")
        if not body.reuse_name and await tenants.name_gone(body.name):
            raise SuiteError("tenant.name-offboarded")
        return _tenant_json(await tenants.add(caller, Tenant(tenant_id, body.name, "active", clock.now())))

    @api.get("/tenants", summary="Tenants")
    async def list_tenants(_: Annotated[Caller, Depends(caller_of)]) -> dict[str, Any]:
        """All practices, without any patient."""
        return page_body([_tenant_json(tenant) for tenant in await tenants.list()], None)

    @api.get("/tenants/{tenant_id}/keys", summary="A tenant's wrapped data keys (services)")
    async def wrapped_keys(tenant_id: str, caller: Annotated[Caller, Depends(caller_of)]) -> dict[str, Any]:
        """Wrapped by the key-encryption key, which the services hold and nobody else."""
        if tenant_id != caller.tenant:
            raise SuiteError("tenant.not-found")
        rows = await tenants.wrapped(tenant_id)
        if not rows:
            raise SuiteError("tenant.not-found")
        return {
            "keys": [
                {
                    "version": row.version,
                    "wrapped": row.wrapped.hex(),
                    "seals_from": instant_text(row.seals_from) if row.seals_from else None,
                }
                for row in rows
            ]
        }


def _key_sets(api: APIRouter, tenants: Tenants, read: NoteReading) -> None:
    @api.get("/tenants/{tenant_id}/jwks.json", summary="A practice's public keys for its vendors")
    async def tenant_keys(
        tenant_id: str, response: Response, tasks: BackgroundTasks, probe: OurLook = False
    ) -> dict[str, Any]:
        """The JWKS that a vendor reads to verify our client assertions (RFC 7517), at the address from before keys had
        an environment: production's keys and those that were registered by it."""
        response.headers["Cache-Control"] = f"public, max-age={_KEYS_LIFE_S}"
        if tenant_id == PLATFORM:
            raise SuiteError("tenant.not-found")
        document = await tenants.jwks(tenant_id)
        if not probe:
            tasks.add_task(read, tenant_id, None)
        return document

    @api.get("/tenants/{tenant_id}/{environment}/jwks.json", summary="A practice's public keys in an environment")
    async def environment_keys(
        tenant_id: str, environment: Environment, response: Response, tasks: BackgroundTasks, probe: OurLook = False
    ) -> dict[str, Any]:
        """The address to register with a vendor: what signs for a sandbox is not among production's keys."""
        response.headers["Cache-Control"] = f"public, max-age={_KEYS_LIFE_S}"
        if tenant_id == PLATFORM:
            raise SuiteError("tenant.not-found")
        document = await tenants.jwks(tenant_id, environment)
        if not probe:
            tasks.add_task(read, tenant_id, environment)
        return document


def _exchange(body: bytes) -> Exchange:
    try:
        form = dict(parse_qsl(body.decode("ascii"), strict_parsing=True, max_num_fields=10))
        if form["grant_type"] != TOKEN_EXCHANGE or form["subject_token_type"] != TOKEN_TYPE_JWT:
            raise SuiteError("request.malformed", "Only a token exchange of a JWT is offered here.")
        lifetime_s = int(form["lifetime_s"]) if "lifetime_s" in form else None
        return Exchange(form["subject_token"], form["tenant"], form.get("scope", ""), lifetime_s)
    except (KeyError, ValueError) as error:
        raise SuiteError(
            "request.malformed", "Send a form with grant_type, subject_token, subject_token_type and tenant."
        ) from error


def _tenant_json(tenant: Tenant) -> dict[str, Any]:
    return {"id": tenant.id, "name": tenant.name, "state": tenant.state, "created_at": instant_text(tenant.created_at)}
