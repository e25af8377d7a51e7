"""What the use cases of auth-gateway need from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from auth_gateway.core.configuration import Document
from auth_gateway.core.methods import TokenCall
from auth_gateway.core.peer_answers import Probe, Reply, SmartConfiguration
from auth_gateway.core.refresh import TokenState
from common.models.integration import Vendor
from common.models.paging import Page
from common.runtime.authentication import Caller
from common.runtime.connection_probe import StageResult
from common.runtime.keyring import WrappedKey
from common.runtime.leases import Lease
from common.runtime.outbound import ExchangeContext


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
    signature: str | None = None


class Integrations(Protocol):
    """Integrations with their channels; every change is audited and announced with its own transaction."""

    async def add(self, caller: Caller, document: Document) -> None:
        """Raises SuiteError `integration.name-taken`."""

    async def get(self, tenant: str, integration_id: str) -> Document:
        """Raises SuiteError `integration.not-found`."""

    async def list(self, tenant: str, cursor: str | None, limit: int) -> Page[Document]:
        """By time of creation."""

    async def save(
        self, caller: Caller, before: Document, after: Document, action: str, changed: Sequence[str]
    ) -> None:
        """Raises SuiteError `request.version-changed` when somebody was quicker, `integration.name-taken`."""


class Credentials(Protocol):
    """Credentials; secrets and tokens are sealed."""

    async def put(self, caller: Caller, credential: Credential, secret: str | None) -> Credential:
        """Insert or replace; a secret that is not given is kept. A token in hand is dropped."""

    async def get(self, tenant: str, integration_id: str, name: str) -> Credential:
        """Raises SuiteError `credential.not-found`."""

    async def list(self, tenant: str, integration_id: str) -> Sequence[Credential]:
        """By name."""

    async def remove(self, caller: Caller, credential: Credential) -> None:
        """Delete it with its secret and token."""

    async def secret(self, credential: Credential) -> str | None:
        """The secret, unsealed."""

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
    ) -> None:
        """The new state, its event, and the fencing check, in one transaction; `token` None keeps the old one."""

    async def due_for_test(self, now: datetime) -> Sequence[Credential]:
        """Credentials of active integrations whose test is due."""

    async def tested(self, credential: Credential, now: datetime) -> None:
        """Note when it was tested."""


class Tenants(Protocol):
    """Tenants and their keys."""

    async def add(self, caller: Caller, tenant: Tenant) -> Tenant:
        """The tenant with new keys; one that is there already is returned as it is."""

    async def list(self) -> Sequence[Tenant]:
        """By time of creation."""

    async def wrapped(self, tenant: str) -> Sequence[WrappedKey]:
        """Its data keys, wrapped."""

    async def jwks(self, tenant: str) -> dict[str, Any]:
        """Its clients' public keys. Raises SuiteError `tenant.not-found`."""

    async def signer(self, tenant: str, algorithm: str) -> Callable[[dict[str, Any]], str]:
        """Signs assertion claims with the tenant's key for an algorithm."""


class TokenEndpoint(Protocol):
    """A provider's token endpoint."""

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

    async def key_published(self, url: str, exchange: ExchangeContext, *, timeout_s: float) -> bool | None:
        """Whether a JWKS URL answers with keys, None when it could not be asked."""


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
