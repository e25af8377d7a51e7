"""The change record that a version of an integration was saved under."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014_change_ids"
down_revision = "0013_offboarding"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column and its index."""
    op.add_column("integration_version", sa.Column("change_id", sa.String(), nullable=True))
    op.create_index("integration_version_by_change", "integration_version", ["tenant", "change_id"])
