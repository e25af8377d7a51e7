"""Connections as configuration, and the queues of what is sent."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from common.runtime.columns import JsonText, Sequence, UtcInstant

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _text(name: str, *, nullable: bool = False, primary_key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(), nullable=nullable, primary_key=primary_key)


def _instant(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, UtcInstant(), nullable=nullable)


def _index(name: str, table: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, unique=unique, sqlite_where=condition, postgresql_where=condition)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "connection",
        _text("id", primary_key=True),
        *(_text(name) for name in ("tenant", "name", "direction", "host")),
        sa.Column("port", sa.Integer(), nullable=False),
        _text("state"),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("body", JsonText(), nullable=False),
        sa.Column("tls_facts", JsonText(), nullable=False),
        sa.Column("sealed_tls", sa.LargeBinary(), nullable=True),
        *(_text(name) for name in ("author", "reason")),
        *(_instant(name) for name in ("created_at", "updated_at")),
        _instant("removed_at", nullable=True),
    )
    op.create_index("connection_by_tenant", "connection", ["tenant", "id"])
    _index("connection_name", "connection", ["tenant", "name"], "removed_at IS NULL", unique=True)
    listens = "removed_at IS NULL AND direction = 'listener'"
    _index("connection_listening", "connection", ["port", "host"], listens, unique=True)
    op.create_table(
        "connection_version",
        _text("connection_id", primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True),
        *(_text(name) for name in ("tenant", "state")),
        sa.Column("body", JsonText(), nullable=False),
        sa.Column("tls_facts", JsonText(), nullable=False),
        *(_text(name) for name in ("author", "reason")),
        _instant("changed_at"),
    )
    op.create_table(
        "connection_counter",
        _text("connection_id", primary_key=True),
        _text("name", primary_key=True),
        sa.Column("value", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "connection_link",
        _text("connection_id", primary_key=True),
        _text("state"),
        _text("code", nullable=True),
        _text("replica"),
        _instant("since"),
    )
    _outbound()


def _outbound() -> None:
    op.create_table(
        "outbound_message",
        sa.Column("sequence", Sequence, primary_key=True, autoincrement=True),
        *(_text(name) for name in ("id", "tenant", "connection_id", "integration_id", "order_key")),
        _text("patient_key", nullable=True),
        *(_text(name) for name in ("control_id", "message_type", "trigger_event")),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        _text("state"),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("attempts", "refusals", "silences")),
        _instant("not_before", nullable=True),
        *(_text(name, nullable=True) for name in ("acknowledgment_code", "error_code")),
        _instant("queued_at"),
        _instant("settled_at", nullable=True),
        _text("traceparent"),
        sa.Column("sealed_body", sa.LargeBinary(), nullable=False),
        sqlite_autoincrement=True,
    )
    table = "outbound_message"
    op.create_index("outbound_id", table, ["tenant", "id"], unique=True)
    _index("outbound_next", table, ["connection_id", "sequence"], "state = 'queued'")
    unsettled = "state IN ('queued', 'in-flight', 'held', 'parked')"
    _index("outbound_of_key", table, ["connection_id", "order_key", "sequence"], unsettled)
    stopped = "state IN ('in-flight', 'held', 'parked')"
    _index("outbound_stopped", table, ["connection_id", "state", "sequence"], stopped)
    op.create_index("outbound_by_tenant", table, ["tenant", "sequence"])
    op.create_index("outbound_by_control_id", table, ["tenant", "control_id", "sequence"])
    _index("outbound_by_patient", table, ["tenant", "patient_key", "sequence"], "patient_key IS NOT NULL")
    _index("outbound_settled", table, ["settled_at"], "settled_at IS NOT NULL")
    op.create_table(
        "outbound_attempt",
        sa.Column("sequence", Sequence, primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer(), primary_key=True),
        *(_instant(name) for name in ("began_at", "ended_at")),
        _text("outcome"),
        *(_text(name, nullable=True) for name in ("acknowledgment_code", "error_code")),
    )
