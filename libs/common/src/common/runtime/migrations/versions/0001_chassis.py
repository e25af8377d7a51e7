"""Outbox, inbox, parked events, leases, idempotency, audit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from common.runtime.columns import JsonText, Sequence, UtcInstant

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    _outbox()
    _inbox()
    op.create_table(
        "lease",
        sa.Column("name", sa.Text(), primary_key=True),
        _text("owner"),
        sa.Column("fencing", Sequence, nullable=False),
        _instant("expires_at"),
    )
    op.create_table(
        "idempotency",
        sa.Column("scope", sa.Text(), primary_key=True),
        *(_text(name) for name in ("tenant", "state", "request_sha256", "claim")),
        _instant("claimed_until"),
        _instant("expires_at"),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("headers", JsonText(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
    )
    op.create_index("idempotency_by_expiry", "idempotency", ["expires_at"])
    op.create_table(
        "audit",
        sa.Column("tenant", sa.Text(), primary_key=True),
        sa.Column("sequence", Sequence, primary_key=True, autoincrement=False),
        _text("id"),
        _instant("time"),
        *(_text(name) for name in ("action", "subject", "caller", "outcome")),
        _text("reason", nullable=True),
        sa.Column("detail", JsonText(), nullable=False),
        _text("hash"),
    )
    op.create_index("audit_by_action", "audit", ["tenant", "action", "sequence"])
    op.create_index("audit_by_subject", "audit", ["tenant", "subject", "sequence"])


def _outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", Sequence, primary_key=True, autoincrement=True),
        *(_text(name) for name in ("topic", "key", "event")),
        _text("reason", nullable=True),
        _instant("created_at"),
        _instant("published_at", nullable=True),
        sqlite_autoincrement=True,
    )
    for name, columns, condition in (
        ("outbox_pending", ["topic", "id"], "published_at IS NULL"),
        ("outbox_published", ["published_at"], "published_at IS NOT NULL"),
    ):
        op.create_index(name, "outbox", columns, sqlite_where=sa.text(condition), postgresql_where=sa.text(condition))


def _inbox() -> None:
    op.create_table(
        "inbox",
        sa.Column("consumer", sa.Text(), primary_key=True),
        sa.Column("generation", sa.Integer(), primary_key=True),
        sa.Column("event_id", sa.Text(), primary_key=True),
        _instant("received_at"),
    )
    op.create_index("inbox_by_time", "inbox", ["received_at"])
    op.create_table(
        "parked",
        sa.Column("sequence", Sequence, primary_key=True, autoincrement=True),
        *(_text(name) for name in ("id", "tenant", "consumer", "topic", "key", "event", "state")),
        _text("reason", nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        _instant("parked_at"),
        sqlite_autoincrement=True,
    )
    op.create_index("parked_by_key", "parked", ["consumer", "key", "topic", "sequence"])
    op.create_index("parked_by_tenant", "parked", ["tenant", "sequence"])
    op.create_index("parked_by_id", "parked", ["id"], unique=True)


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _instant(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, UtcInstant(), nullable=nullable)
