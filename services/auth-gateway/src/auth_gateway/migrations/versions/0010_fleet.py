"""The fleet view."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from common.runtime.columns import UtcInstant

revision = "0010_fleet"
down_revision = "0009_access"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "fleet_run",
        sa.Column("integration_id", sa.String(), primary_key=True),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("error_code", sa.String(), nullable=True),
        sa.Column("at", UtcInstant(), nullable=False),
    )
    op.create_index("fleet_run_by_tenant", "fleet_run", ["tenant"])
    op.create_table(
        "fleet_undelivered",
        sa.Column("message_id", sa.String(), primary_key=True),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("since", UtcInstant(), nullable=False),
    )
    op.create_index("fleet_undelivered_by_tenant", "fleet_undelivered", ["tenant"])
    op.create_table(
        "fleet_outbox",
        sa.Column("module", sa.String(), primary_key=True),
        sa.Column("replica", sa.String(), primary_key=True),
        sa.Column("age_s", sa.Float(), nullable=False),
        sa.Column("at", UtcInstant(), nullable=False),
    )
