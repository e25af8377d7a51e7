"""The table of SMART launches: names and findings, never a value that the EHR sent."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Column, Index
from sqlmodel import Field

from auth_gateway.adapters.tables import Base
from common.runtime.columns import JsonText, UtcInstant


class LaunchRow(Base, table=True):
    """One launch."""

    __tablename__ = "launch"
    __table_args__ = (Index("launch_by_tenant", "tenant", "launched_at", "id"),)

    id: str = Field(primary_key=True)
    tenant: str
    integration_id: str
    kind: str
    parameters: Any = Field(sa_column=Column(JsonText, nullable=False))
    findings: Any = Field(sa_column=Column(JsonText, nullable=False))
    launched_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
