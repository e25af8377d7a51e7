"""What the use cases of auth-gateway need from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from auth_gateway.core.change_record import ChangeRecord, Why
from auth_gateway.core.configuration import Document
from auth_gateway.core.methods import Grant, TokenCall
from auth_gateway.core.peer_answers import Probe, Reply, SmartConfiguration, UnityReply
from auth_gateway.core.refresh import TokenState
from auth_gateway.core.versions import Version
from common.models.integration import Environment, Vendor
from common.models.paging import Page
from common.runtime.authentication import Caller
from common.runtime.connection_probe import StageResult
from common.runtime.keyring import WrappedKey
from common.runtime.leases import Lease
from common.runtime.outbound import ExchangeContext
from pms.unity import UnityRequest


@dataclass(frozen=True, slots=True)
class Tenant:
    """One practice."""

    id: str
    name: str
    state: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential without its secret."""

    tenant: str
    integration_id: str
    name: str
    vendor: Vendor
    method: str
    client_id: str
    token_url: str
    scopes: Sequence[str]
    algorithm: str
    test_every_s: int
    secret_set: bool
    secret_expires_at: datetime | None
    changed_at: datetime
    version: int
    token: TokenState = field(default_factory=TokenState)
    tested_at: datetime | None = None
    grant: Grant = Grant.CLIENT_CREDENTIALS
    options: Mapping[str, Any] = field(default_factory=dict)
    """What else its method needs and is no secret: user names, certificate, URLs, margins."""
    second_set: bool = False
    connected: bool = False
    """Whether a refresh token is in hand (grant authorization_code)."""

    @property
    def record(self) -> str:
        """The name under which its secrets are sealed."""
        return f"{self.integration_id}/{self.name}"


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token in hand."""

    access_token: str = field(repr=False)
    token_type: str
    scope: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """How a token request ended: a token, or an error code with what the provider said in codes."""

    token: AccessToken | None
    obtained_at: datetime
    http_status: int | None = None
    error_code: str | None = None
    oauth_error: str | None = None
    rejected: bool = False
    clock_offset_ms: int | None = None
    retry_after_s: float | None = None
    duration_ms: float = 0.0
    refresh_token: str | None = field(default=None, repr=False)
    """A refresh token that came with it; None: the one before stays in use."""
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class Secrets:
    """What a method keeps sealed; `second`: the field that its row names."""

    secret: str | None = field(default=None, repr=False)
    second: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class History:
    """What we remember about a credential; None: it says nothing.

    `key_read`: whether somebody read our key set since the signing key was made; `other_environment`: where the same
    client id had a token.
    """

    key_read: bool | None = None
    other_environment: str | None = None


@dataclass(frozen=True, slots=True)
class Authorization:
    """A browser that was sent to a vendor and is expected back."""

    tenant: str
    integration_id: str
    name: str
    credential_version: int
    verifier: str = field(repr=False)
    caller: str
    expires_at: datetime


class Authorizations(Protocol):
    """Who was sent where; each is good for one return."""

    async def add(self, state: str, authorization: Authorization) -> None:
        """Keep it under a state that only the browser has."""

    async def take(self, state: str) -> Authorization | None:
        """What belongs to a state, once; None when it is unknown or was taken before."""


class Integrations(Protocol):
    """Integrations with their channels; every change is audited and announced with its own transaction."""

    async def add(self, caller: Caller, document: Document, why: Why = ...) -> None:
        """Raises SuiteError `integration.name-taken`."""

    async def get(self, tenant: str, integration_id: str) -> Document:
        """Raises SuiteError `integration.not-found`."""

    async def list(self, tenant: str, cursor: str | None, limit: int) -> Page[Document]:
        """By time of creation."""

    async def save(
        self,
        caller: Caller,
        before: Document,
        after: Document,
        action: str,
        changed: Sequence[str],
        why: Why = ...,
    ) -> None:
        """Raises SuiteError `request.version-changed` when somebody was quicker, `integration.name-taken`, or
        `change.required` when the configuration changes without the change record that it wants."""


class Versions(Protocol):
    """What integrations were before, and their end."""

    async def get(self, tenant: str, integration_id: str, version: int) -> Version:
        """Raises SuiteError `integration.version-not-found`."""

    async def list(self, tenant: str, integration_id: str, cursor: str | None, limit: int) -> Page[Version]:
        """Newest first."""

    async def under(self, tenant: str, change_id: str, limit: int) -> Sequence[Version]:
        """Those that were saved under a change record, by number."""

    async def counterpart(self, tenant: str, integration_id: str) -> Document | None:
        """The integration that was promoted from this one."""

    async def counts(self, tenant: str, integration_id: str) -> Mapping[str, int]:
        """How many credentials and versions there are of an integration."""

    async def remove(self, caller: Caller, document: Document, why: Why) -> None:
        """The integration with its credentials; versions stay. Raises SuiteError `request.version-changed` or
        `change.required`."""


class Changes(Protocol):
    """Change records; every change of them is audited."""

    async def add(self, caller: Caller, record: ChangeRecord) -> None:
        """A planned one."""

    async def get(self, tenant: str, change_id: str) -> ChangeRecord:
        """Raises SuiteError `change.not-found`."""

    async def list(
        self, tenant: str, integration_id: str | None, state: str | None, cursor: str | None, limit: int
    ) -> Page[ChangeRecord]:
        """Newest first."""

    async def require(self, tenant: str, integration_id: str, change_id: str | None) -> None:
        """Raises SuiteError `change.required` when the record does not cover a change of the integration now."""

    async def save(self, caller: Caller, before: ChangeRecord, after: ChangeRecord, action: str) -> None:
        """Raises SuiteError `request.version-changed` when somebody was quicker."""


class Credentials(Protocol):
    """Credentials; secrets and tokens are sealed."""

    async def put(self, caller: Caller, credential: Credential, secrets: Secrets) -> Credential:
        """Insert or replace; a secret that is not given is kept. Tokens in hand are dropped. Raises SuiteError
        `request.version-changed` when the credential is not at the version it was read at."""

    async def get(self, tenant: str, integration_id: str, name: str) -> Credential:
        """Raises SuiteError `credential.not-found`."""

    async def list(self, tenant: str, integration_id: str) -> Sequence[Credential]:
        """By name."""

    async def remove(self, caller: Caller, credential: Credential) -> None:
        """Delete it with its secret and token."""

    async def secrets(self, credential: Credential) -> Secrets:
        """The secrets, unsealed."""

    async def refresh_token(self, credential: Credential) -> str | None:
        """The refresh token in hand, unsealed."""

    async def begin_refresh(self, credential: Credential, lease: Lease | None) -> None:
        """Note, before it is made, that a request with the refresh token is made; `keep` takes the note away."""

    async def lent(self, caller: Caller, credential: Credential, purpose: str) -> None:
        """Audit that the credential itself was given to a service."""

    async def token(self, credential: Credential) -> AccessToken | None:
        """The token in hand, unsealed."""

    async def keep(
        self,
        credential: Credential,
        state: TokenState,
        token: AccessToken | None,
        event: Mapping[str, Any],
        event_type: str,
        lease: Lease | None,
        refresh_token: str | None = None,
    ) -> None:
        """The new state, its event, and the fencing check, in one transaction; a `token` or `refresh_token` of None
        keeps the old one."""

    async def due_for_test(self, now: datetime) -> Sequence[Credential]:
        """Credentials of active integrations whose test is due."""

    async def tested(self, credential: Credential, now: datetime) -> None:
        """Note when it was tested."""


class Tenants(Protocol):
    """Tenants and their keys."""

    async def add(self, caller: Caller, tenant: Tenant) -> Tenant:
        """The tenant with new keys; one that is there already is returned as it is. Raises SuiteError
        `tenant.offboarding` or `tenant.offboarded` for one that ends or has ended."""

    async def name_gone(self, name: str) -> bool:
        """Whether a practice of this name is being offboarded or was."""

    async def list(self) -> Sequence[Tenant]:
        """By time of creation."""

    async def wrapped(self, tenant: str) -> Sequence[WrappedKey]:
        """Its data keys, wrapped."""

    async def jwks(self, tenant: str, environment: Environment | None = None) -> dict[str, Any]:
        """Its clients' public keys in an environment; None: those of the address from before keys had one. Raises
        SuiteError `tenant.not-found`."""

    async def signer(self, tenant: str, integration_id: str, algorithm: str) -> Callable[[dict[str, Any]], str]:
        """Signs assertion claims with the tenant's key for an algorithm in the environment of the integration. Raises
        SuiteError `integration.not-found`."""


class TokenEndpoint(Protocol):
    """A provider's token endpoint."""

    async def open_session(self, credential: Credential, secrets: Secrets) -> TokenAnswer:
        """A Unity token whose user is logged in; never raises for what the provider does."""

    async def request(self, credential: Credential, call: TokenCall, operation: str) -> TokenAnswer:
        """One request; never raises for what the provider does."""


class Prober(Protocol):
    """What Test Connection and the check of permissions ask a peer; nothing here raises for what the peer does."""

    async def run(self, url: str, exchange: ExchangeContext, *, budget_s: float) -> list[StageResult]:
        """DNS, TCP, TLS, HTTP, clock."""

    async def metadata(self, base: str, exchange: ExchangeContext, token: str | None, *, timeout_s: float) -> Reply:
        """Reads [base]/metadata."""

    async def smart_configuration(
        self, base: str, exchange: ExchangeContext, *, timeout_s: float
    ) -> SmartConfiguration:
        """Reads [base]/.well-known/smart-configuration."""

    async def probe(
        self, vendor: Vendor, base: str, resource: str, exchange: ExchangeContext, token: str, *, timeout_s: float
    ) -> Probe:
        """A search that finds nobody."""

    async def unity(
        self, base: str, request: UnityRequest, exchange: ExchangeContext, *, timeout_s: float
    ) -> UnityReply:
        """One Unity call."""

    async def key_published(self, url: str, exchange: ExchangeContext, *, timeout_s: float) -> bool | None:
        """Whether a JWKS URL answers with keys, None when it could not be asked."""


class CredentialHistory(Protocol):
    """What our own side remembers that tells the causes of a refused token apart."""

    async def of(self, credential: Credential, environment: Environment) -> History:
        """Of a credential whose integration is of that environment."""


class SingleFlight(Protocol):
    """One refresher per credential, over all replicas."""

    def hold(self, name: str, *, ttl_s: float) -> AbstractAsyncContextManager[Lease | None]:
        """The lease, or None when another replica refreshes now."""


class IssuerKeys(Protocol):
    """The suite's own issuer."""

    async def jwks(self, tenant: str) -> dict[str, Any]:
        """Public keys."""

    async def rotate_issuer(self, caller: Caller) -> None:
        """A new signing key."""
