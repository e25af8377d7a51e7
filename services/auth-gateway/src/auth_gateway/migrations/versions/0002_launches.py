"""SMART launches."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from common.runtime.columns import JsonText, UtcInstant

revision = "0002_launches"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "launch",
        sa.Column("id", sa.String(), primary_key=True),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("tenant", "integration_id", "kind")),
        sa.Column("parameters", JsonText(), nullable=False),
        sa.Column("findings", JsonText(), nullable=False),
        sa.Column("launched_at", UtcInstant(), nullable=False),
    )
    op.create_index("launch_by_tenant", "launch", ["tenant", "launched_at", "id"])
