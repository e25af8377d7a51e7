"""Replays, and what was made of which message by a person."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from common.runtime.columns import JsonText, UtcInstant

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def _text(name: str, *, nullable: bool = False, primary_key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(), nullable=nullable, primary_key=primary_key)


def upgrade() -> None:
    """Create the tables, and the index by which replays go through the messages in their order."""
    op.create_index("message_by_sequence", "message", ["tenant", "sequence"])
    op.create_table(
        "replay",
        _text("id", primary_key=True),
        *(_text(name) for name in ("tenant", "connection_id")),
        sa.Column("filter", JsonText(), nullable=False),
        sa.Column("rate_per_s", sa.Float(), nullable=False),
        _text("state"),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("total", "done", "cursor", "up_to")),
        sa.Column("skipped", JsonText(), nullable=False),
        *(_text(name, nullable=True) for name in ("waiting_code", "error_code")),
        *(_text(name) for name in ("author", "reason")),
        *(sa.Column(name, UtcInstant(), nullable=False) for name in ("created_at", "updated_at")),
        sa.Column("ended_at", UtcInstant(), nullable=True),
        sa.Column("worked_ms", sa.BigInteger(), nullable=False),
    )
    op.create_index("replay_by_tenant", "replay", ["tenant", "id"])
    running = sa.text("state = 'running'")
    op.create_index("replay_running", "replay", ["id"], sqlite_where=running, postgresql_where=running)
    open_ = sa.text("state IN ('running', 'paused', 'failed')")
    op.create_index("replay_not_ended", "replay", ["tenant", "id"], sqlite_where=open_, postgresql_where=open_)
    op.create_table(
        "message_edit",
        _text("tenant", primary_key=True),
        _text("id", primary_key=True),
        *(_text(name) for name in ("edited_from", "connection_id")),
        sa.Column("changed", JsonText(), nullable=False),
        *(_text(name) for name in ("author", "reason")),
        sa.Column("edited_at", UtcInstant(), nullable=False),
    )
    op.create_index("message_edit_of", "message_edit", ["tenant", "edited_from", "id"])
