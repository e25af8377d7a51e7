"""Tables of the HL7 gateway."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Index, LargeBinary, text
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from common.runtime.columns import JsonText, UtcInstant

HAS_PATIENT = "patient_key IS NOT NULL"


class Base(SQLModel, registry=registry()):
    """Registry of this service."""


class MessageRow(Base, table=True):
    """One message: its header and what became of it. Ids sort by time, so they order every search.

    `sequence` is the place of its body in the intake; one that was stored before there was an intake has it here.
    """

    __tablename__ = "message"
    __table_args__ = (
        Index("message_by_control_id", "tenant", "control_id", "id"),
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
