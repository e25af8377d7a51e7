"""When a key set was last read."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from common.runtime.columns import UtcInstant

revision = "0012_key_set_readings"
down_revision = "0011_signing_environments"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "key_set_reading",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("environment", sa.String(), nullable=False),
        sa.Column("read_at", UtcInstant(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "environment"),
    )
