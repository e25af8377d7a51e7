"""Tables of the HL7 gateway."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Index, LargeBinary, text
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from common.runtime.columns import JsonText, Sequence, UtcInstant

HAS_PATIENT = "patient_key IS NOT NULL"
REJECTED = "state = 'rejected'"
NOT_REMOVED = "removed_at IS NULL"
LISTENS = "removed_at IS NULL AND direction = 'listener'"
QUEUED = "state = 'queued'"
UNSETTLED = "state IN ('queued', 'in-flight', 'held', 'parked')"
STOPPED = "state IN ('in-flight', 'held', 'parked')"
SETTLED = "settled_at IS NOT NULL"


class Base(SQLModel, registry=registry()):
    """Registry of this service."""


class MessageRow(Base, table=True):
    """One message: its header and what became of it. Ids sort by time, so they order every search.

    `sequence` is the place of its body in the intake; one that was stored before there was an intake has it here.
    """

    __tablename__ = "message"
    __table_args__ = (
        Index("message_by_control_id", "tenant", "control_id", "id"),
        Index("message_by_sender", "tenant", "application", "id"),
        Index("message_by_type", "tenant", "message_type", "trigger_event", "id"),
        Index("message_by_connection", "tenant", "connection_id", "id"),
        Index(
            "message_rejected",
            "tenant",
            "id",
            sqlite_where=text(REJECTED),
            postgresql_where=text(REJECTED),
        ),
        Index("message_by_sequence", "tenant", "sequence"),
        Index(
            "message_by_patient",
            "tenant",
            "patient_key",
            "id",
            sqlite_where=text(HAS_PATIENT),
            postgresql_where=text(HAS_PATIENT),
        ),
    )

    tenant: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    integration_id: str
    channel: str
    peer: str
    application: str
    facility: str
    control_id: str
    message_type: str
    trigger_event: str
    version: str
    patient_key: str | None
    received_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    state: str
    acknowledgment_code: str
    size_bytes: int
    findings: list[Any] = Field(sa_column=Column(JsonText, nullable=False))
    sealed_body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    sequence: int | None = Field(sa_column=Column(BigInteger, nullable=True))
    connection_id: str = Field(default="", sa_column_kwargs={"server_default": ""})


class MessageKeyRow(Base, table=True):
    """By what else a message is found: `kind` and `key` as of `core.message_keys`, a number as its pseudonym."""

    __tablename__ = "message_key"
    __table_args__ = (
        Index("message_key_of", "tenant", "message_id"),
        {"sqlite_with_rowid": False},
    )

    tenant: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    message_id: str = Field(primary_key=True)


class ConnectionRow(Base, table=True):
    """One connection; its PEM texts are sealed. A removed one keeps its row, so that its history keeps its name."""

    __tablename__ = "connection"
    __table_args__ = (
        Index("connection_by_tenant", "tenant", "id"),
        Index(
            "connection_name",
            "tenant",
            "name",
            unique=True,
            sqlite_where=text(NOT_REMOVED),
            postgresql_where=text(NOT_REMOVED),
        ),
        Index(
            "connection_listening",
            "port",
            "host",
            unique=True,
            sqlite_where=text(LISTENS),
            postgresql_where=text(LISTENS),
        ),
    )

    id: str = Field(primary_key=True)
    tenant: str
    name: str
    direction: str
    host: str
    port: int
    state: str
    version: int
    body: Any = Field(sa_column=Column(JsonText, nullable=False))
    tls_facts: Any = Field(sa_column=Column(JsonText, nullable=False))
    sealed_tls: bytes | None = Field(sa_column=Column(LargeBinary, nullable=True))
    author: str
    reason: str
    created_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    updated_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    removed_at: datetime | None = Field(sa_column=Column(UtcInstant, nullable=True))


class ConnectionVersionRow(Base, table=True):
    """What a connection was, from `changed_at` on; without anything sealed."""

    __tablename__ = "connection_version"

    connection_id: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    tenant: str
    state: str
    body: Any = Field(sa_column=Column(JsonText, nullable=False))
    tls_facts: Any = Field(sa_column=Column(JsonText, nullable=False))
    author: str
    reason: str
    changed_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))


class ConnectionCounterRow(Base, table=True):
    """What a connection counted: written in the transactions that it counts, so that the two never differ."""

    __tablename__ = "connection_counter"

    connection_id: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    value: int = Field(sa_column=Column(BigInteger, nullable=False))


class ConnectionLinkRow(Base, table=True):
    """Where a sender's connection to its receiver stands, as its owner saw it last."""

    __tablename__ = "connection_link"

    connection_id: str = Field(primary_key=True)
    state: str
    code: str | None
    replica: str
    since: datetime = Field(sa_column=Column(UtcInstant, nullable=False))


class OutboundMessageRow(Base, table=True):
    """One message on its way out. `sequence` is the order in which the messages of a connection were taken."""

    __tablename__ = "outbound_message"
    __table_args__ = (
        Index("outbound_id", "tenant", "id", unique=True),
        Index(
            "outbound_next",
            "connection_id",
            "sequence",
            sqlite_where=text(QUEUED),
            postgresql_where=text(QUEUED),
        ),
        Index(
            "outbound_of_key",
            "connection_id",
            "order_key",
            "sequence",
            sqlite_where=text(UNSETTLED),
            postgresql_where=text(UNSETTLED),
        ),
        Index(
            "outbound_stopped",
            "connection_id",
            "state",
            "sequence",
            sqlite_where=text(STOPPED),
            postgresql_where=text(STOPPED),
        ),
        Index("outbound_by_tenant", "tenant", "sequence"),
        Index("outbound_by_control_id", "tenant", "control_id", "sequence"),
        Index(
            "outbound_by_patient",
            "tenant",
            "patient_key",
            "sequence",
            sqlite_where=text(HAS_PATIENT),
            postgresql_where=text(HAS_PATIENT),
        ),
        Index(
            "outbound_settled",
            "settled_at",
            sqlite_where=text(SETTLED),
            postgresql_where=text(SETTLED),
        ),
        # sequences are never given out twice, also not after the newest rows were deleted
        {"sqlite_autoincrement": True},
    )

    sequence: int = Field(sa_column=Column(Sequence, primary_key=True, autoincrement=True))
    id: str
    tenant: str
    connection_id: str
    integration_id: str
    order_key: str
    patient_key: str | None
    control_id: str
    message_type: str
    trigger_event: str
    size_bytes: int
    state: str
    attempts: int
    refusals: int
    silences: int
    not_before: datetime | None = Field(sa_column=Column(UtcInstant, nullable=True))
    acknowledgment_code: str | None
    error_code: str | None
    queued_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    settled_at: datetime | None = Field(sa_column=Column(UtcInstant, nullable=True))
    traceparent: str
    sealed_body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class OutboundAttemptRow(Base, table=True):
    """One try to deliver a message, and how it ended."""

    __tablename__ = "outbound_attempt"

    sequence: int = Field(sa_column=Column(Sequence, primary_key=True, autoincrement=False))
    number: int = Field(primary_key=True)
    began_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    ended_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    outcome: str
    acknowledgment_code: str | None
    error_code: str | None
