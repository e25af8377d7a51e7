"""Tables of replays and of edited messages."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Index, text
from sqlmodel import Field

from common.runtime.columns import JsonText, UtcInstant
from hl7_gateway.adapters.tables import Base

RUNNING = "state = 'running'"
NOT_ENDED = "state IN ('running', 'paused', 'failed')"


class ReplayRow(Base, table=True):
    """One replay. `cursor` moves on in the transactions that hand its messages over."""

    __tablename__ = "replay"
    __table_args__ = (
        Index("replay_by_tenant", "tenant", "id"),
        Index("replay_running", "id", sqlite_where=text(RUNNING), postgresql_where=text(RUNNING)),
        Index("replay_not_ended", "tenant", "id", sqlite_where=text(NOT_ENDED), postgresql_where=text(NOT_ENDED)),
    )

    id: str = Field(primary_key=True)
    tenant: str
    connection_id: str
    filter: Any = Field(sa_column=Column(JsonText, nullable=False))
    rate_per_s: float
    state: str
    total: int = Field(sa_column=Column(BigInteger, nullable=False))
    done: int = Field(sa_column=Column(BigInteger, nullable=False))
    skipped: Any = Field(sa_column=Column(JsonText, nullable=False))
    cursor: int = Field(sa_column=Column(BigInteger, nullable=False))
    up_to: int = Field(sa_column=Column(BigInteger, nullable=False))
    waiting_code: str | None
    error_code: str | None
    author: str
    reason: str
    created_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    updated_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    ended_at: datetime | None = Field(sa_column=Column(UtcInstant, nullable=True))
    worked_ms: int = Field(sa_column=Column(BigInteger, nullable=False))


class MessageEditRow(Base, table=True):
    """Message `id` was made of `edited_from` by a person; `changed` are paths, never values."""

    __tablename__ = "message_edit"
    __table_args__ = (Index("message_edit_of", "tenant", "edited_from", "id"),)

    tenant: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    edited_from: str
    connection_id: str
    changed: Any = Field(sa_column=Column(JsonText, nullable=False))
    author: str
    reason: str
    edited_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
