"""The table of accesses for a time."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Column, Index
from sqlmodel import Field

from auth_gateway.adapters.tables import Base
from common.runtime.columns import UtcInstant


class AccessRow(Base, table=True):
    """One access; rows are kept, they belong to the audit."""

    __tablename__ = "access_for_a_time"
    __table_args__ = (Index("access_by_tenant", "tenant", "kind", "opened_at"), Index("access_by_subject", "subject"))

    id: str = Field(primary_key=True)
    tenant: str
    kind: str
    subject: str
    role: str
    reason: str
    opened_by: str
    opened_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    expires_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    ended_at: datetime | None = Field(sa_column=Column(UtcInstant, nullable=True))
    reviewed_by: str | None
    reviewed_at: datetime | None = Field(sa_column=Column(UtcInstant, nullable=True))
    outcome: str | None
    comment: str | None
