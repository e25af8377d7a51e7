"""Tables of sync."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Column, Index, LargeBinary, Table, Text, text
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from common.runtime.columns import JsonText, UtcInstant

# Conditions of partial indexes. Queries use the same texts: with a parameter in its place neither database could know
# that the index covers it.
LIVE_RUN: Final = "state IN ('queued', 'running', 'paused')"
OPEN: Final = "state = 'open'"

# Prefix searches compare by code point on both databases; a PostgreSQL default collation would not.
SearchText: Final = Text().with_variant(Text(collation="C"), "postgresql")


class Base(SQLModel, registry=registry()):
    """Registry of this service."""


class RecordRow(Base, table=True):
    """A record in its newest version."""

    __tablename__ = "record"
    __table_args__ = (
        Index("record_by_type", "tenant", "record_type", "id"),
        Index("record_by_update", "tenant", "record_type", "updated_at", "id"),
        Index("record_by_birth_date", "tenant", "record_type", "birth_date", "id"),
    )

    id: str = Field(primary_key=True)
    tenant: str
    record_type: str
    version: int
    document: Any = Field(sa_column=Column(JsonText, nullable=False))
    origin: str
    integration_id: str
    birth_date: str | None
    created_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    updated_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))


class RecordVersionRow(Base, table=True):
    """One version of a record: where it came from and which fields it changed."""

    __tablename__ = "record_version"

    record_id: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    tenant: str
    document: Any = Field(sa_column=Column(JsonText, nullable=False))
    changed: Any = Field(sa_column=Column(JsonText, nullable=False))
    origin: str
    integration_id: str
    source_id: str
    event_time: datetime | None = Field(sa_column=Column(UtcInstant, nullable=True))
    created_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))


class RecordIdentifierRow(Base, table=True):
    """An identifier that finds a record; it belongs to one record only."""

    __tablename__ = "record_identifier"
    __table_args__ = (Index("record_identifier_by_record", "record_id"),)

    tenant: str = Field(primary_key=True)
    record_type: str = Field(primary_key=True)
    value: str = Field(primary_key=True)
    system: str = Field(primary_key=True)
    record_id: str


class RecordNameRow(Base, table=True):
    """A folded name that finds a patient."""

    __tablename__ = "record_name"
    __table_args__ = (Index("record_name_by_record", "record_id"),)

    tenant: str = Field(primary_key=True)
    key: str = Field(sa_column=Column(SearchText, primary_key=True))
    record_id: str = Field(primary_key=True)


class RecordReferenceRow(Base, table=True):
    """A record (appointment, charge) that concerns a patient: what a merge of the patient has to change."""

    __tablename__ = "record_reference"

    tenant: str = Field(primary_key=True)
    target_id: str = Field(primary_key=True)
    record_id: str = Field(primary_key=True)


class CrossReferenceRow(Base, table=True):
    """A source's id of a record, and the fingerprint of what it said last."""

    __tablename__ = "cross_reference"
    __table_args__ = (
        Index("cross_reference_by_external_id", "tenant", "integration_id", "record_type", "external_id", unique=True),
        Index("cross_reference_by_record", "tenant", "record_id", "id"),
        Index("cross_reference_by_tenant", "tenant", "id"),
    )

    id: str = Field(primary_key=True)
    tenant: str
    integration_id: str
    record_type: str
    external_id: str
    record_id: str
    content_hash: str
    seen: Any = Field(sa_column=Column(JsonText, nullable=False))
    created_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    updated_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))


class RecordEventTimeRow(Base, table=True):
    """The newest HL7 event of an integration that was applied to a record."""

    __tablename__ = "record_event_time"

    record_id: str = Field(primary_key=True)
    integration_id: str = Field(primary_key=True)
    tenant: str
    event_time: datetime = Field(sa_column=Column(UtcInstant, nullable=False))


class QuarantineTableRow(Base, table=True):
    """A row of a source that was not taken; the body is sealed."""

    __tablename__ = "quarantine"
    __table_args__ = (
        Index("quarantine_by_source", "tenant", "integration_id", "record_type", "source_key", unique=True),
        Index("quarantine_by_tenant", "tenant", "id"),
        Index("quarantine_open", "tenant", "integration_id", sqlite_where=text(OPEN), postgresql_where=text(OPEN)),
    )

    id: str = Field(primary_key=True)
    tenant: str
    integration_id: str
    record_type: str
    origin: str
    source_id: str
    source_key: str
    position: int
    code: str
    rule: str
    value_class: str
    state: str
    times: int
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    updated_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))


class RunRow(Base, table=True):
    """A run with its cursor."""

    __tablename__ = "run"
    __table_args__ = (
        Index(
            "run_live",
            "tenant",
            "integration_id",
            "resource",
            "direction",
            unique=True,
            sqlite_where=text(LIVE_RUN),
            postgresql_where=text(LIVE_RUN),
        ),
        Index("run_by_tenant", "tenant", "id"),
        Index("run_by_integration", "tenant", "integration_id", "id"),
    )

    id: str = Field(primary_key=True)
    tenant: str
    integration_id: str
    resource: str
    direction: str
    mode: str
    trigger: str
    requested_by: str
    state: str
    cursor: Any = Field(sa_column=Column(JsonText, nullable=True))
    pages: int
    records_read: int
    created: int
    updated: int
    unchanged: int
    quarantined: int
    error_code: str | None
    cancel_requested: bool
    created_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    updated_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    started_at: datetime | None = Field(sa_column=Column(UtcInstant, nullable=True))
    finished_at: datetime | None = Field(sa_column=Column(UtcInstant, nullable=True))


class RunSeenRow(Base, table=True):
    """What a run has had in its hands: links, pages and ids; gone when the run ends."""

    __tablename__ = "run_seen"

    run_id: str = Field(primary_key=True)
    key: str = Field(primary_key=True)


class ScheduleRow(Base, table=True):
    """A schedule and when it is due."""

    __tablename__ = "schedule"
    __table_args__ = (
        Index("schedule_by_task", "tenant", "integration_id", "resource", "mode", unique=True),
        Index("schedule_by_tenant", "tenant", "id"),
        Index("schedule_due", "enabled", "due_at"),
    )

    id: str = Field(primary_key=True)
    tenant: str
    integration_id: str
    resource: str
    mode: str
    every_s: int
    enabled: bool
    version: int
    due_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    created_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    last_run_id: str | None
    last_tick_at: datetime | None = Field(sa_column=Column(UtcInstant, nullable=True))


class MappingVersionRow(Base, table=True):
    """A version of a field mapping or a value map (`subject`: mapping/patient, value-map/payer)."""

    __tablename__ = "mapping_version"

    tenant: str = Field(primary_key=True)
    integration_id: str = Field(primary_key=True)
    subject: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    content: Any = Field(sa_column=Column(JsonText, nullable=False))
    note: str
    saved_by: str
    saved_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    restored_from: int | None


class UnmappedValueRow(Base, table=True):
    """A code of the source that a value map was asked for in vain."""

    __tablename__ = "unmapped_value"

    tenant: str = Field(primary_key=True)
    integration_id: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    source_system: str = Field(primary_key=True)
    source_code: str = Field(primary_key=True)
    display: str
    times: int
    first_seen_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    last_seen_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))


def _table(row: type[SQLModel]) -> Table:
    return Base.metadata.tables[str(row.__tablename__)]


RECORD: Final = _table(RecordRow)
VERSION: Final = _table(RecordVersionRow)
IDENTIFIER: Final = _table(RecordIdentifierRow)
NAME: Final = _table(RecordNameRow)
REFERENCE: Final = _table(RecordReferenceRow)
CROSS_REFERENCE: Final = _table(CrossReferenceRow)
EVENT_TIME: Final = _table(RecordEventTimeRow)
QUARANTINE: Final = _table(QuarantineTableRow)
RUN: Final = _table(RunRow)
RUN_SEEN: Final = _table(RunSeenRow)
SCHEDULE: Final = _table(ScheduleRow)
MAPPING_VERSION: Final = _table(MappingVersionRow)
UNMAPPED_VALUE: Final = _table(UnmappedValueRow)
