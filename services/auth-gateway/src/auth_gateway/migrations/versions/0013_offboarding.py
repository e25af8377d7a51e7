"""Offboarding of practices."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from common.runtime.columns import JsonText, UtcInstant

revision = "0013_offboarding"
down_revision = "0012_key_set_readings"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    texts = ("id", "name", "phase", "reason", "requested_by")
    instants = ("exported_at", "destroyed_at", "ended_at", "kept_until", "swept_at")
    op.create_table(
        "offboarding",
        sa.Column("tenant", sa.String(), primary_key=True),
        *(sa.Column(name, sa.String(), nullable=False) for name in texts),
        sa.Column("started_at", UtcInstant(), nullable=False),
        sa.Column("services", JsonText(), nullable=False),
        sa.Column("acknowledged", JsonText(), nullable=False),
        *(sa.Column(name, UtcInstant(), nullable=True) for name in instants),
        sa.Column("manifest", sa.LargeBinary(), nullable=True),
        sa.Column("wrapped_key", sa.LargeBinary(), nullable=True),
    )
    op.create_table(
        "offboarding_file",
        sa.Column("offboarding_id", sa.String(), primary_key=True),
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("chunks", sa.Integer(), nullable=False),
        sa.Column("cursor", sa.String(), nullable=True),
        sa.Column("sha256", sa.String(), nullable=True),
        sa.Column("downloaded_at", UtcInstant(), nullable=True),
    )
    op.create_table(
        "offboarding_chunk",
        sa.Column("offboarding_id", sa.String(), primary_key=True),
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
    )
