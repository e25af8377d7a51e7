"""Tables of the fleet view: figures and codes of practices, never a patient."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Column, Index
from sqlmodel import Field

from auth_gateway.adapters.tables import Base
from common.runtime.columns import UtcInstant


class FleetRunRow(Base, table=True):
    """How the last run of an integration ended."""

    __tablename__ = "fleet_run"
    __table_args__ = (Index("fleet_run_by_tenant", "tenant"),)

    integration_id: str = Field(primary_key=True)
    tenant: str
    state: str
    error_code: str | None
    at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))


class FleetUndeliveredRow(Base, table=True):
    """An HL7 message that is not delivered yet: it waits after a failed try, or is parked."""

    __tablename__ = "fleet_undelivered"
    __table_args__ = (Index("fleet_undelivered_by_tenant", "tenant"),)

    message_id: str = Field(primary_key=True)
    tenant: str
    since: datetime = Field(sa_column=Column(UtcInstant, nullable=False))


class FleetOutboxRow(Base, table=True):
    """How old the oldest event is that a module of a replica has not published."""

    __tablename__ = "fleet_outbox"

    module: str = Field(primary_key=True)
    replica: str = Field(primary_key=True)
    age_s: float
    at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
