"""Credentials: put, Test Connection, Refresh Token, and the broker for services."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from auth_gateway.api.why import Said
from auth_gateway.core.change_record import Why, wants_change_record
from auth_gateway.core.configuration import Document, usable_url
from auth_gateway.core.methods import METHODS, Grant, Method, check_fields
from auth_gateway.ports import AccessToken, Credential, Credentials, Integrations, Secrets, TokenAnswer
from auth_gateway.use_cases.obtain_token import error_of
from common.models.clock import Clock, instant_text
from common.models.errors import FieldError, SuiteError
from common.models.identifiers import check_id
from common.models.integration import Vendor
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import etag, if_match, page_body

Name = Annotated[str, Path(pattern="^[a-z][a-z0-9-]{0,62}$", description="lower case letters, digits and hyphens")]
Who = Annotated[Caller, Depends(caller_of)]


class CredentialBody(BaseModel):
    """How the suite proves itself to the PMS. Secrets are sealed and never come back.

    Which fields a method needs stands in its row (`core/methods.py`); a wrong one is named.
    """

    model_config = ConfigDict(extra="forbid")

    method: Literal[
        "private_key_jwt", "client_secret_basic", "client_secret_post", "unity", "api_key", "http_basic", "mutual_tls",
        "sftp_password", "sftp_key",
    ]  # fmt: skip
    client_id: str = Field(
        default="", max_length=500, description="the client id the vendor gave; Unity: the application name"
    )
    token_url: str = Field(default="", max_length=2000, description="the token endpoint; Unity: the base URL")
    grant: Grant = Field(
        default=Grant.CLIENT_CREDENTIALS,
        description="client_credentials: the app's own rights; authorization_code: a person connects it",
    )
    scopes: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(default_factory=list, max_length=100)
    secret: SecretStr | None = Field(
        default=None,
        max_length=20_000,
        description="client secret, key, password or private key (PEM); left out: the one before is kept",
    )
    secret_expires_at: datetime | None = Field(default=None, description="when the vendor says it expires")
    algorithm: Literal["RS384", "ES384"] = Field(
        default="RS384", description="private_key_jwt: how assertions are signed"
    )
    authorize_url: str | None = Field(
        default=None, max_length=2000, description="authorization_code: the vendor's authorization endpoint"
    )
    audience: str | None = Field(
        default=None, max_length=2000, description="authorization_code: `aud`, the FHIR base URL that is meant"
    )
    issuer: str | None = Field(
        default=None, max_length=2000, description="authorization_code: `iss` of the answer, where the vendor sends it"
    )
    username: str | None = Field(
        default=None, min_length=1, max_length=200, description="HTTP basic, SFTP; Unity: the service user"
    )
    user_name: str | None = Field(default=None, min_length=1, max_length=200, description="Unity: the EHR user")
    user_secret: SecretStr | None = Field(default=None, max_length=500, description="Unity: the EHR user's password")
    passphrase: SecretStr | None = Field(default=None, max_length=500, description="of the private key")
    certificate: str | None = Field(
        default=None, max_length=40_000, description="mutual TLS: the certificate and its chain (PEM)"
    )
    host_key: str | None = Field(
        default=None, max_length=200, pattern="^SHA256:[A-Za-z0-9+/]{43}$", description="SFTP: the server's fingerprint"
    )
    header: str | None = Field(
        default=None, max_length=100, pattern="^[A-Za-z0-9-]+$", description="API key: the header it goes into"
    )
    query: str | None = Field(
        default=None, max_length=100, pattern="^[A-Za-z0-9_.-]+$", description="API key: the query parameter"
    )
    refresh_margin_s: int | None = Field(
        default=None, ge=5, le=86_400, description="refresh so long before the expiry (else after a share of the life)"
    )
    token_life_max_s: int | None = Field(
        default=None, ge=30, le=86_400, description="use a token no longer than this, whatever its provider says"
    )
    test_every_s: int = Field(
        default=60, ge=10, le=86400, description="how often a token is asked for to see that it works"
    )


_OPTIONS: Final = (
    "authorize_url", "audience", "issuer", "username", "user_name", "certificate", "host_key", "header", "query",
    "refresh_margin_s", "token_life_max_s",
)  # fmt: skip
_URLS: Final = ("token_url", "authorize_url", "audience", "issuer")


class LeaseRequest(BaseModel):
    """What a service says when it borrows a credential that has no token."""

    model_config = ConfigDict(extra="forbid")

    purpose: str = Field(min_length=3, max_length=200, description="what for; it is audited")


class TokenRequest(BaseModel):
    """What a service says when it asks for a token."""

    model_config = ConfigDict(extra="forbid")

    rejected_token_sha256: str | None = Field(
        default=None, pattern="^[0-9a-f]{64}$", description="the token that the PMS has just refused"
    )


@dataclass(frozen=True, slots=True)
class Actions:
    """The use cases behind the verbs."""

    test: Callable[[str, str, str], Awaitable[dict[str, Any]]]
    refresh: Callable[[str, str, str, str], Awaitable[tuple[Credential, TokenAnswer]]]
    token: Callable[[str, str, str, str | None], Awaitable[AccessToken]]
    lend: Callable[[Caller, str, str, str], Awaitable[dict[str, Any]]]
    put: Callable[[Caller, Credential, Secrets], Awaitable[Credential]]
    require_change: Callable[[str, str, str | None], Awaitable[None]]


def router(integrations: Integrations, credentials: Credentials, actions: Actions, clock: Clock) -> APIRouter:
    """The routes; paths begin after /auth/v1."""
    api = APIRouter(tags=["auth-gateway: Credentials"])
    _resource(api, integrations, credentials, actions, clock)
    _verbs(api, actions)
    return api


def _resource(
    api: APIRouter, integrations: Integrations, credentials: Credentials, actions: Actions, clock: Clock
) -> None:
    async def may_change(tenant: str, integration_id: str, why: Why) -> Document:
        document = await integrations.get(tenant, integration_id)
        if wants_change_record(document.body):
            await actions.require_change(tenant, integration_id, why.change_id)
        return document

    @api.get("/integrations/{integration_id}/credentials", summary="Credentials of a PMS system")
    async def list_credentials(integration_id: str, caller: Who) -> dict[str, Any]:
        """All credentials, without secrets."""
        await integrations.get(caller.tenant, check_id(integration_id, "int"))
        return page_body([_json(row) for row in await credentials.list(caller.tenant, integration_id)], None)

    @api.put("/integrations/{integration_id}/credentials/{name}", summary="Put a credential")
    async def put(
        integration_id: str,
        name: Name,
        body: CredentialBody,
        request: Request,
        response: Response,
        caller: Who,
        why: Said,
    ) -> dict[str, Any]:
        """Adds the credential, or replaces it (then If-Match with its ETag)."""
        document = await may_change(caller.tenant, check_id(integration_id, "int"), why)
        present = {row.name: row for row in await credentials.list(caller.tenant, integration_id)}.get(name)
        if present is not None:
            if_match(request, present.version)
        secrets = _checked(body, present)
        credential = Credential(
            tenant=caller.tenant,
            integration_id=integration_id,
            name=name,
            vendor=Vendor(document.body["vendor"]),
            method=body.method,
            client_id=body.client_id,
            token_url=body.token_url,
            scopes=tuple(body.scopes),
            algorithm=body.algorithm,
            test_every_s=body.test_every_s,
            secret_set=secrets.secret is not None,
            grant=body.grant,
            options={name: value for name in _OPTIONS if (value := getattr(body, name)) is not None},
            secret_expires_at=body.secret_expires_at,
            changed_at=clock.now(),
            version=present.version if present else 0,
        )
        kept = await actions.put(caller, credential, secrets)
        response.headers["ETag"] = etag(kept.version)
        return _json(kept)

    @api.get("/integrations/{integration_id}/credentials/{name}", summary="One credential")
    async def read(integration_id: str, name: Name, response: Response, caller: Who) -> dict[str, Any]:
        """Without its secret; with the state of its token."""
        credential = await credentials.get(caller.tenant, check_id(integration_id, "int"), name)
        response.headers["ETag"] = etag(credential.version)
        return _json(credential)

    @api.delete("/integrations/{integration_id}/credentials/{name}", status_code=204, summary="Remove a credential")
    async def remove(integration_id: str, name: Name, request: Request, caller: Who, why: Said) -> None:
        """Its secret and token are deleted with it."""
        credential = await credentials.get(caller.tenant, check_id(integration_id, "int"), name)
        if_match(request, credential.version)
        await may_change(caller.tenant, integration_id, why)
        await credentials.remove(caller, credential)


def _verbs(api: APIRouter, actions: Actions) -> None:
    @api.post("/integrations/{integration_id}/credentials/{name}:test", summary="Test Connection")
    async def test(integration_id: str, name: Name, caller: Who) -> dict[str, Any]:
        """DNS, TCP, TLS, HTTP, clock, token and metadata, each with evidence, likely cause and next step."""
        return await actions.test(caller.tenant, check_id(integration_id, "int"), name)

    @api.post("/integrations/{integration_id}/credentials/{name}:refresh", summary="Refresh Token")
    async def refresh(integration_id: str, name: Name, caller: Who) -> dict[str, Any]:
        """A new access token, now; the token itself is not shown."""
        _, answer = await actions.refresh(caller.tenant, check_id(integration_id, "int"), name, "person")
        if answer.token is None:
            raise error_of(answer)
        return {
            "expires_at": instant_text(answer.token.expires_at),
            "scope": answer.token.scope,
            "token_type": answer.token.token_type,
        }

    @api.post(
        "/integrations/{integration_id}/credentials/{name}:token", summary="A short-lived access token (services)"
    )
    async def token(integration_id: str, name: Name, body: TokenRequest, caller: Who) -> dict[str, Any]:
        """From the cache, or refreshed by one replica for all."""
        found = await actions.token(caller.tenant, check_id(integration_id, "int"), name, body.rejected_token_sha256)
        return {
            "access_token": found.access_token,
            "token_type": found.token_type,
            "expires_at": instant_text(found.expires_at),
            "scope": found.scope,
        }

    @api.post(
        "/integrations/{integration_id}/credentials/{name}:lease", summary="A credential without a token (services)"
    )
    async def lease(integration_id: str, name: Name, body: LeaseRequest, caller: Who) -> dict[str, Any]:
        """Keys, passwords and certificates for one purpose, for some minutes; audited."""
        return await actions.lend(caller, check_id(integration_id, "int"), name, body.purpose)


def _checked(body: CredentialBody, present: Credential | None) -> Secrets:
    """The secrets of a form whose fields fit its method. Raises SuiteError `request.invalid` naming every field."""
    method = METHODS[body.method]
    second = getattr(body, method.second) if method.second else None
    given = {name for name in body.model_fields_set if getattr(body, name) not in (None, "", [])}
    kept = _kept(method, present) if present is not None and present.method == body.method else set()
    check_fields(method, given, grant=body.grant, kept=kept)
    fields = [
        FieldError(f"/{name}", "url", "Expected an http or https URL without user, query or fragment.")
        for name in _URLS
        if getattr(body, name) and not usable_url(getattr(body, name))
    ]
    if body.secret_expires_at is not None and body.secret_expires_at.tzinfo is None:
        fields.append(FieldError("/secret_expires_at", "time_zone", "Expected an instant with an offset."))
    if fields:
        raise SuiteError("request.invalid", fields=fields)
    return Secrets(_revealed(body.secret), _revealed(second))


def _kept(method: Method, present: Credential) -> set[str]:
    held = {"secret": present.secret_set, method.second: present.second_set}
    return {name for name, is_held in held.items() if is_held}


def _revealed(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None


def _json(credential: Credential) -> dict[str, Any]:
    state = credential.token
    instants = {
        "secret_expires_at": credential.secret_expires_at,
        "changed_at": credential.changed_at,
        "tested_at": credential.tested_at,
    }
    return {
        "integration_id": credential.integration_id,
        "name": credential.name,
        "method": credential.method,
        "client_id": credential.client_id,
        "token_url": credential.token_url,
        "scopes": list(credential.scopes),
        "algorithm": credential.algorithm,
        "test_every_s": credential.test_every_s,
        "secret_set": credential.secret_set,
        "grant": credential.grant.value,
        **{name: credential.options.get(name) for name in _OPTIONS},
        "connected": credential.connected,
        "version": credential.version,
        **{name: instant_text(value) if value else None for name, value in instants.items()},
        "token": {
            "expires_at": instant_text(state.expires_at) if state.expires_at else None,
            "failures": state.failures,
            "error_code": state.error_code,
            "reconnect": state.reconnect,
        },
    }
