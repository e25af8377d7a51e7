"""Tables of the expiry watch: what persons recorded, and which notices were given."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Column, Index, delete
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import Field

from auth_gateway.adapters.tables import Base
from common.runtime.columns import UtcInstant


class StatedExpiryRow(Base, table=True):
    """What a person recorded about one kind of end of a credential."""

    __tablename__ = "stated_expiry"
    __table_args__ = (Index("stated_expiry_by_tenant", "tenant"),)

    integration_id: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    tenant: str
    expires_at: datetime | None = Field(sa_column=Column(UtcInstant, nullable=True))
    life_days: int | None


class ExpiryNoticeRow(Base, table=True):
    """The last notice given of one end: for which instant, and which mark."""

    __tablename__ = "expiry_notice"
    __table_args__ = (Index("expiry_notice_by_tenant", "tenant"),)

    integration_id: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    tenant: str
    expires_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    days: int


async def forget_expiries(session: AsyncSession, integration_id: str, name: str) -> None:
    """What was recorded and announced of a credential goes with it."""
    for table in (Base.metadata.tables["stated_expiry"], Base.metadata.tables["expiry_notice"]):
        await session.execute(delete(table).where(table.c.integration_id == integration_id, table.c.name == name))
