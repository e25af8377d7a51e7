"""Accesses for a time: support, break-glass."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from common.runtime.columns import UtcInstant

revision = "0009_access"
down_revision = "0008_signing_keys"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "access_for_a_time",
        sa.Column("id", sa.String(), primary_key=True),
        *(
            sa.Column(name, sa.String(), nullable=False)
            for name in ("tenant", "kind", "subject", "role", "reason", "opened_by")
        ),
        sa.Column("opened_at", UtcInstant(), nullable=False),
        sa.Column("expires_at", UtcInstant(), nullable=False),
        sa.Column("ended_at", UtcInstant(), nullable=True),
        sa.Column("reviewed_by", sa.String(), nullable=True),
        sa.Column("reviewed_at", UtcInstant(), nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("comment", sa.String(), nullable=True),
    )
    op.create_index("access_by_tenant", "access_for_a_time", ["tenant", "kind", "opened_at"])
    op.create_index("access_by_subject", "access_for_a_time", ["subject"])
