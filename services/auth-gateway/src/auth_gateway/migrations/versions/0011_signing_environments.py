"""The environment of a signing key."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011_signing_environments"
down_revision = "0010_fleet"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; keys that are there stay those of all environments (empty), at the address they had."""
    op.add_column("signing_key", sa.Column("environment", sa.String(), nullable=True))
