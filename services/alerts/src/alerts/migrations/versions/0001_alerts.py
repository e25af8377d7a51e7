"""Alerts, rule settings, webhooks and deliveries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from common.runtime.columns import UtcInstant

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(), nullable=nullable)


def _instant(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, UtcInstant(), nullable=nullable)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "alert",
        sa.Column("id", sa.String(), primary_key=True),
        *(_text(name) for name in ("tenant", "rule", "integration_id", "subject", "severity", "state", "title")),
        _text("cause_code", nullable=True),
        _text("next_step"),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("threshold", sa.Float(), nullable=False),
        _text("unit"),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("count", "fired", "cleared")),
        *(_instant(name) for name in ("began_at", "last_fired_at", "told_at")),
        sa.Column("version", sa.Integer(), nullable=False),
        _instant("opened_at", nullable=True),
        _instant("acknowledged_at", nullable=True),
        _text("acknowledged_by", nullable=True),
        _instant("resolved_at", nullable=True),
    )
    live = sa.text("state <> 'resolved'")
    op.create_index(
        "alert_live",
        "alert",
        ["tenant", "rule", "integration_id", "subject"],
        unique=True,
        sqlite_where=live,
        postgresql_where=live,
    )
    op.create_index("alert_by_time", "alert", ["tenant", "began_at", "id"])
    op.create_table(
        "rule_setting",
        sa.Column("tenant", sa.String(), primary_key=True),
        sa.Column("rule", sa.String(), primary_key=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("threshold", sa.Float(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
    )
    op.create_table(
        "webhook",
        sa.Column("id", sa.String(), primary_key=True),
        *(_text(name) for name in ("tenant", "url", "description")),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("sealed_key", sa.LargeBinary(), nullable=False),
        _instant("created_at"),
        sa.Column("version", sa.Integer(), nullable=False),
    )
    op.create_index("webhook_by_tenant", "webhook", ["tenant", "created_at", "id"])
    op.create_table(
        "delivery",
        sa.Column("id", sa.String(), primary_key=True),
        _text("tenant"),
        sa.Column("webhook_id", sa.String(), sa.ForeignKey("webhook.id", ondelete="CASCADE"), nullable=False),
        _text("event_type"),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        _text("state"),
        sa.Column("attempts", sa.Integer(), nullable=False),
        _instant("next_attempt_at"),
        _instant("created_at"),
        sa.Column("last_status", sa.Integer(), nullable=True),
        _text("last_error", nullable=True),
        _instant("delivered_at", nullable=True),
    )
    waiting = sa.text("state = 'waiting'")
    op.create_index(
        "delivery_due", "delivery", ["next_attempt_at", "id"], sqlite_where=waiting, postgresql_where=waiting
    )
    op.create_index("delivery_by_webhook", "delivery", ["webhook_id", "created_at", "id"])
