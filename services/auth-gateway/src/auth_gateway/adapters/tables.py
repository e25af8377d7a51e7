"""Tables of auth-gateway. Secrets, tokens and private keys are sealed or wrapped; nothing here is readable without
keys."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Column, Index, LargeBinary
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from common.runtime.columns import JsonText, UtcInstant


class Base(SQLModel, registry=registry()):
    """Registry of this service."""


class TenantRow(Base, table=True):
    """One practice."""

    __tablename__ = "tenant"

    id: str = Field(primary_key=True)
    name: str
    state: str
    created_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))


class TenantKeyRow(Base, table=True):
    """A tenant's data key, wrapped by the key-encryption key."""

    __tablename__ = "tenant_key"

    tenant: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    wrapped: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    seals_from: datetime | None = Field(sa_column=Column(UtcInstant, nullable=True))


class SigningKeyRow(Base, table=True):
    """A signing key of a tenant's clients, or of the suite's own issuer (tenant `platform`); the private part is
    sealed."""

    __tablename__ = "signing_key"
    __table_args__ = (Index("signing_key_by_tenant", "tenant", "algorithm", "created_at"),)

    kid: str = Field(primary_key=True)
    tenant: str
    algorithm: str
    public: Any = Field(sa_column=Column(JsonText, nullable=False))
    sealed_private: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    used_from: datetime | None = Field(sa_column=Column(UtcInstant, nullable=True))
    environment: str | None


class IntegrationRow(Base, table=True):
    """One integration with its channels."""

    __tablename__ = "integration"
    __table_args__ = (
        Index("integration_by_tenant", "tenant", "created_at", "id"),
        Index("integration_name", "tenant", "name", unique=True),
    )

    id: str = Field(primary_key=True)
    tenant: str
    name: str
    state: str
    version: int
    body: Any = Field(sa_column=Column(JsonText, nullable=False))
    created_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    updated_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))


class CredentialRow(Base, table=True):
    """One credential, its sealed secret, its sealed token and the state of refreshing."""

    __tablename__ = "credential"

    integration_id: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    tenant: str
    vendor: str
    method: str
    client_id: str
    token_url: str
    scopes: Any = Field(sa_column=Column(JsonText, nullable=False))
    algorithm: str
    test_every_s: int
    sealed_secret: bytes | None = Field(sa_column=Column(LargeBinary, nullable=True))
    secret_expires_at: datetime | None = Field(sa_column=Column(UtcInstant, nullable=True))
    changed_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    secret_changed_at: datetime | None = Field(sa_column=Column(UtcInstant, nullable=True))
    version: int
    sealed_versions: Any = Field(sa_column=Column(JsonText, nullable=False))
    sealed_token: bytes | None = Field(sa_column=Column(LargeBinary, nullable=True))
    token_sha256: str | None
    obtained_at: datetime | None = Field(sa_column=Column(UtcInstant, nullable=True))
    expires_at: datetime | None = Field(sa_column=Column(UtcInstant, nullable=True))
    failures: int
    retry_at: datetime | None = Field(sa_column=Column(UtcInstant, nullable=True))
    error_code: str | None
    tested_at: datetime | None = Field(sa_column=Column(UtcInstant, nullable=True))
    test_due_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    grant: str
    options: Any = Field(sa_column=Column(JsonText, nullable=False))
    sealed_second: bytes | None = Field(sa_column=Column(LargeBinary, nullable=True))
    sealed_refresh: bytes | None = Field(sa_column=Column(LargeBinary, nullable=True))
    reconnect: bool
    unanswered: int


class AuthorizationRow(Base, table=True):
    """A browser that was sent to a vendor; known by the hash of its state, the PKCE verifier sealed."""

    __tablename__ = "authorization"
    __table_args__ = (Index("authorization_expiry", "expires_at"),)

    state_sha256: str = Field(primary_key=True)
    tenant: str
    integration_id: str
    name: str
    credential_version: int
    sealed_verifier: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    caller: str
    expires_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))


class AssertionRow(Base, table=True):
    """A service assertion that was used: it is not taken twice."""

    __tablename__ = "used_assertion"
    __table_args__ = (Index("used_assertion_expiry", "expires_at"),)

    jti: str = Field(primary_key=True)
    expires_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
