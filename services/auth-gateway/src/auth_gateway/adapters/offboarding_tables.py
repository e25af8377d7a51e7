"""Offboardings, and the exports they make; an export is sealed by a key of its own, which ends with it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, LargeBinary
from sqlmodel import Field

from auth_gateway.adapters.tables import Base
from common.runtime.columns import JsonText, UtcInstant


class OffboardingRow(Base, table=True):
    """One practice's end; the row stays."""

    __tablename__ = "offboarding"

    tenant: str = Field(primary_key=True)
    id: str
    name: str
    phase: str
    reason: str
    requested_by: str
    started_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    services: Any = Field(sa_column=Column(JsonText, nullable=False))
    acknowledged: Any = Field(sa_column=Column(JsonText, nullable=False))
    exported_at: datetime | None = Field(sa_column=Column(UtcInstant, nullable=True))
    destroyed_at: datetime | None = Field(sa_column=Column(UtcInstant, nullable=True))
    ended_at: datetime | None = Field(sa_column=Column(UtcInstant, nullable=True))
    kept_until: datetime | None = Field(sa_column=Column(UtcInstant, nullable=True))
    swept_at: datetime | None = Field(sa_column=Column(UtcInstant, nullable=True))
    manifest: bytes | None = Field(sa_column=Column(LargeBinary, nullable=True))
    wrapped_key: bytes | None = Field(sa_column=Column(LargeBinary, nullable=True))


class OffboardingFileRow(Base, table=True):
    """One file of an export."""

    __tablename__ = "offboarding_file"

    offboarding_id: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    rows: int
    size_bytes: int = Field(sa_column=Column(BigInteger, nullable=False))
    chunks: int
    cursor: str | None
    sha256: str | None
    downloaded_at: datetime | None = Field(sa_column=Column(UtcInstant, nullable=True))


class OffboardingChunkRow(Base, table=True):
    """A page of a file, compressed and sealed."""

    __tablename__ = "offboarding_chunk"

    offboarding_id: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    number: int = Field(primary_key=True)
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
