"""Integrations that a suspension has paused."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007_tenants"
down_revision = "0006_keys"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "suspended_integration",
        sa.Column("integration_id", sa.String(), primary_key=True),
        sa.Column("tenant", sa.String(), nullable=False),
    )
    op.create_index("suspended_integration_by_tenant", "suspended_integration", ["tenant"])
