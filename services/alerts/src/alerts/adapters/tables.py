"""Tables of alerts."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Column, ForeignKey, Index, LargeBinary, text
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from common.runtime.columns import UtcInstant


class Base(SQLModel, registry=registry()):
    """Registry of this service."""


class AlertRow(Base, table=True):
    """One alert; at most one that is not resolved per tenant, rule, integration and subject."""

    __tablename__ = "alert"
    __table_args__ = (
        Index(
            "alert_live",
            "tenant",
            "rule",
            "integration_id",
            "subject",
            unique=True,
            sqlite_where=text("state <> 'resolved'"),
            postgresql_where=text("state <> 'resolved'"),
        ),
        Index("alert_by_time", "tenant", "began_at", "id"),
    )

    id: str = Field(primary_key=True)
    tenant: str
    rule: str
    integration_id: str
    subject: str
    severity: str
    state: str
    title: str
    cause_code: str | None
    next_step: str
    value: float | None
    threshold: float
    unit: str
    count: int
    fired: int
    cleared: int
    began_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    last_fired_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    told_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    version: int
    opened_at: datetime | None = Field(sa_column=Column(UtcInstant, nullable=True))
    acknowledged_at: datetime | None = Field(sa_column=Column(UtcInstant, nullable=True))
    acknowledged_by: str | None
    resolved_at: datetime | None = Field(sa_column=Column(UtcInstant, nullable=True))


class RuleSetting(Base, table=True):
    """What a tenant has set for a rule."""

    __tablename__ = "rule_setting"

    tenant: str = Field(primary_key=True)
    rule: str = Field(primary_key=True)
    enabled: bool
    threshold: float | None
    version: int


class WebhookRow(Base, table=True):
    """Who is told by HTTP; the signing key is sealed."""

    __tablename__ = "webhook"
    __table_args__ = (Index("webhook_by_tenant", "tenant", "created_at", "id"),)

    id: str = Field(primary_key=True)
    tenant: str
    url: str
    description: str
    enabled: bool
    sealed_key: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    version: int


class DeliveryRow(Base, table=True):
    """One message to one webhook."""

    __tablename__ = "delivery"
    __table_args__ = (
        Index(
            "delivery_due",
            "next_attempt_at",
            "id",
            sqlite_where=text("state = 'waiting'"),
            postgresql_where=text("state = 'waiting'"),
        ),
        Index("delivery_by_webhook", "webhook_id", "created_at", "id"),
    )

    id: str = Field(primary_key=True)
    tenant: str
    webhook_id: str = Field(sa_column=Column(ForeignKey("webhook.id", ondelete="CASCADE"), nullable=False))
    event_type: str
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    state: str
    attempts: int
    next_attempt_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    created_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    last_status: int | None
    last_error: str | None
    delivered_at: datetime | None = Field(sa_column=Column(UtcInstant, nullable=True))
