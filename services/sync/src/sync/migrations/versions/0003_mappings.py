"""Field mappings and value maps with their versions, and values that no map names."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from common.runtime.columns import JsonText, UtcInstant

revision = "0003_mappings"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "mapping_version",
        *(sa.Column(name, sa.String(), primary_key=True) for name in ("tenant", "integration_id", "subject")),
        sa.Column("version", sa.Integer(), primary_key=True),
        sa.Column("content", JsonText(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("saved_by", sa.String(), nullable=False),
        sa.Column("saved_at", UtcInstant(), nullable=False),
        sa.Column("restored_from", sa.Integer(), nullable=True),
    )
    keys = ("tenant", "integration_id", "kind", "source_system", "source_code")
    op.create_table(
        "unmapped_value",
        *(sa.Column(name, sa.String(), primary_key=True) for name in keys),
        sa.Column("display", sa.String(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("first_seen_at", UtcInstant(), nullable=False),
        sa.Column("last_seen_at", UtcInstant(), nullable=False),
    )
