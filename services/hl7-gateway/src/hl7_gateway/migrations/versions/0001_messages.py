"""Messages, and what recognises them again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from common.runtime.columns import JsonText, UtcInstant

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(), nullable=nullable)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "message",
        sa.Column("tenant", sa.String(), primary_key=True),
        sa.Column("id", sa.String(), primary_key=True),
        *(_text(name) for name in ("integration_id", "channel", "peer", "application", "facility", "control_id")),
        *(_text(name) for name in ("message_type", "trigger_event", "version")),
        _text("patient_key", nullable=True),
        sa.Column("received_at", UtcInstant(), nullable=False),
        *(_text(name) for name in ("state", "acknowledgment_code")),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("findings", JsonText(), nullable=False),
        sa.Column("sealed_body", sa.LargeBinary(), nullable=False),
    )
    op.create_index("message_by_control_id", "message", ["tenant", "control_id", "id"])
    has_patient = sa.text("patient_key IS NOT NULL")
    op.create_index(
        "message_by_patient",
        "message",
        ["tenant", "patient_key", "id"],
        sqlite_where=has_patient,
        postgresql_where=has_patient,
    )
    op.create_table(
        "seen",
        sa.Column("duplicate_key", sa.LargeBinary(), primary_key=True),
        _text("message_id"),
        sa.Column("received_at", UtcInstant(), nullable=False),
        _text("state"),
    )
    op.create_index("seen_by_time", "seen", ["received_at"])
