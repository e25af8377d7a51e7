"""Tables of diagnostics."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Column, Index
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from common.runtime.columns import JsonText, UtcInstant


class Base(SQLModel, registry=registry()):
    """Registry of this service."""


class Exchange(Base, table=True):
    """One exchange, without contents."""

    __tablename__ = "exchange"
    __table_args__ = (
        Index("exchange_by_time", "tenant", "started_at", "id"),
        Index("exchange_by_integration", "tenant", "integration_id", "started_at", "id"),
        Index("exchange_for_pruning", "started_at"),
    )

    id: str = Field(primary_key=True)
    tenant: str
    integration_id: str
    channel: str
    kind: str
    direction: str
    operation: str
    endpoint: str
    method: str
    status: int | None
    outcome: str
    error_code: str | None
    duration_ms: float
    request_bytes: int
    response_bytes: int
    clock_offset_ms: int | None
    retry_after_s: float | None
    started_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    module: str
    trace_id: str


class ConnectionTestRow(Base, table=True):
    """One connection test with its stages."""

    __tablename__ = "connection_test"
    __table_args__ = (Index("connection_test_by_time", "tenant", "started_at", "id"),)

    id: str = Field(primary_key=True)
    tenant: str
    integration_id: str
    channel: str
    status: str
    stages: Any = Field(sa_column=Column(JsonText, nullable=False))
    started_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    duration_ms: float
