"""Which integrations a suspension has paused: a resumption takes up these and no others."""

from __future__ import annotations

from sqlalchemy import Index
from sqlmodel import Field

from auth_gateway.adapters.tables import Base


class SuspendedIntegrationRow(Base, table=True):
    """An integration that was active when its practice was suspended."""

    __tablename__ = "suspended_integration"
    __table_args__ = (Index("suspended_integration_by_tenant", "tenant"),)

    integration_id: str = Field(primary_key=True)
    tenant: str
