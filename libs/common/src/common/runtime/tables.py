"""Tables that every service's database has, on a registry of their own."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Column, Index, LargeBinary, Table, Text, text
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from common.runtime.columns import JsonText, Sequence, UtcInstant

UNPUBLISHED: Final = "published_at IS NULL"
PUBLISHED: Final = "published_at IS NOT NULL"


class Base(SQLModel, registry=registry()):
    """Registry of the chassis."""


class OutboxRow(Base, table=True):
    """An event that the relay publishes; a dead letter's topic is not its type's, and it has a reason (error code)."""

    __tablename__ = "outbox"
    __table_args__ = (
        Index(
            "outbox_pending",
            "topic",
            "id",
            sqlite_where=text(UNPUBLISHED),
            postgresql_where=text(UNPUBLISHED),
        ),
        Index(
            "outbox_published",
            "published_at",
            sqlite_where=text(PUBLISHED),
            postgresql_where=text(PUBLISHED),
        ),
        # ids are never given out twice, also not after the newest rows were pruned
        {"sqlite_autoincrement": True},
    )

    id: int = Field(sa_column=Column(Sequence, primary_key=True, autoincrement=True))
    topic: str = Field(sa_column=Column(Text, nullable=False))
    key: str = Field(sa_column=Column(Text, nullable=False))
    event: str = Field(sa_column=Column(Text, nullable=False))
    reason: str | None = Field(sa_column=Column(Text, nullable=True))
    created_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    published_at: datetime | None = Field(sa_column=Column(UtcInstant, nullable=True))


class InboxRow(Base, table=True):
    """An event that a consumer has handled (or parked), by generation."""

    __tablename__ = "inbox"
    __table_args__ = (Index("inbox_by_time", "received_at"),)

    consumer: str = Field(sa_column=Column(Text, primary_key=True))
    generation: int = Field(primary_key=True)
    event_id: str = Field(sa_column=Column(Text, primary_key=True))
    received_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))


class ParkedRow(Base, table=True):
    """An event that a consumer could not handle (`failed`), or that waits behind one of its key (`waiting`)."""

    __tablename__ = "parked"
    __table_args__ = (
        Index("parked_by_key", "consumer", "key", "topic", "sequence"),
        Index("parked_by_tenant", "tenant", "sequence"),
        Index("parked_by_id", "id", unique=True),
        {"sqlite_autoincrement": True},
    )

    sequence: int = Field(sa_column=Column(Sequence, primary_key=True, autoincrement=True))
    id: str = Field(sa_column=Column(Text, nullable=False))
    tenant: str = Field(sa_column=Column(Text, nullable=False))
    consumer: str = Field(sa_column=Column(Text, nullable=False))
    topic: str = Field(sa_column=Column(Text, nullable=False))
    key: str = Field(sa_column=Column(Text, nullable=False))
    event: str = Field(sa_column=Column(Text, nullable=False))
    state: str = Field(sa_column=Column(Text, nullable=False))
    reason: str | None = Field(sa_column=Column(Text, nullable=True))
    attempts: int
    parked_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))


class LeaseRow(Base, table=True):
    """Who owns a piece of work, and until when; a row is never deleted, so that fencing numbers only rise."""

    __tablename__ = "lease"

    name: str = Field(sa_column=Column(Text, primary_key=True))
    owner: str = Field(sa_column=Column(Text, nullable=False))
    fencing: int = Field(sa_column=Column(Sequence, nullable=False))
    expires_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))


class IdempotencyRow(Base, table=True):
    """A request with an Idempotency-Key: being handled (`started`), or answered (`finished`), the answer sealed."""

    __tablename__ = "idempotency"
    __table_args__ = (Index("idempotency_by_expiry", "expires_at"),)

    scope: str = Field(sa_column=Column(Text, primary_key=True))
    tenant: str = Field(sa_column=Column(Text, nullable=False))
    state: str = Field(sa_column=Column(Text, nullable=False))
    request_sha256: str = Field(sa_column=Column(Text, nullable=False))
    claim: str = Field(sa_column=Column(Text, nullable=False))
    claimed_until: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    expires_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    status: int | None
    headers: dict[str, str] | None = Field(sa_column=Column(JsonText, nullable=True))
    body: bytes | None = Field(sa_column=Column(LargeBinary, nullable=True))


class AuditRow(Base, table=True):
    """One entry of a tenant's hash chain; rows are only ever inserted."""

    __tablename__ = "audit"
    __table_args__ = (
        Index("audit_by_action", "tenant", "action", "sequence"),
        Index("audit_by_subject", "tenant", "subject", "sequence"),
    )

    tenant: str = Field(sa_column=Column(Text, primary_key=True))
    sequence: int = Field(sa_column=Column(Sequence, primary_key=True, autoincrement=False))
    id: str = Field(sa_column=Column(Text, nullable=False))
    time: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    action: str = Field(sa_column=Column(Text, nullable=False))
    subject: str = Field(sa_column=Column(Text, nullable=False))
    caller: str = Field(sa_column=Column(Text, nullable=False))
    outcome: str = Field(sa_column=Column(Text, nullable=False))
    reason: str | None = Field(sa_column=Column(Text, nullable=True))
    detail: dict[str, Any] = Field(sa_column=Column(JsonText, nullable=False))
    hash: str = Field(sa_column=Column(Text, nullable=False))


def _table(row: type[SQLModel]) -> Table:
    return Base.metadata.tables[str(row.__tablename__)]


OUTBOX: Final = _table(OutboxRow)
INBOX: Final = _table(InboxRow)
PARKED: Final = _table(ParkedRow)
LEASE: Final = _table(LeaseRow)
IDEMPOTENCY: Final = _table(IdempotencyRow)
AUDIT: Final = _table(AuditRow)
