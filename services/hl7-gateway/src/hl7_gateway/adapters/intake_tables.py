"""Tables of the intake: what is written before a message is acknowledged, and nothing else.

They lie apart from the catalogue (embedded: in a file of their own), so that nothing that can wait ever holds the lock
a sender waits for. Bodies are appended, and read by their sequence; what recognises a message again has its own table
and window.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, LargeBinary
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from common.runtime.columns import Sequence


class IntakeBase(SQLModel, registry=registry()):
    """Registry of the intake."""


class BodyRow(IntakeBase, table=True):
    """One message: its sealed body, and what the bytes do not say. `received_ms`: milliseconds since 1970."""

    __tablename__ = "body"

    sequence: int | None = Field(default=None, sa_column=Column(Sequence, primary_key=True))
    id: str
    tenant: str
    integration_id: str
    channel: str
    peer: str
    received_ms: int = Field(sa_column=Column(BigInteger, nullable=False))
    rejection: str
    sealed_body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    duplicate_key: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    connection_id: str


class ProgressRow(IntakeBase, table=True):
    """How far something has come, where one process stores in order (SQLite)."""

    __tablename__ = "progress"

    name: str = Field(primary_key=True)
    sequence: int = Field(sa_column=Column(Sequence, nullable=False))


class WaitingRow(IntakeBase, table=True):
    """A body that is not catalogued yet, where several replicas store (PostgreSQL)."""

    __tablename__ = "waiting"

    sequence: int = Field(sa_column=Column(Sequence, primary_key=True, autoincrement=False))


class SeenRow(IntakeBase, table=True):
    """By what a message is recognised when it comes again, for a time; and the first one's receipt."""

    __tablename__ = "seen"
    __table_args__ = (Index("seen_by_key", "duplicate_key", unique=True),)

    sequence: int | None = Field(default=None, sa_column=Column(Sequence, primary_key=True))
    duplicate_key: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    message_id: str
    received_ms: int = Field(sa_column=Column(BigInteger, nullable=False))
