"""When a signing key is used."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from common.runtime.columns import UtcInstant

revision = "0008_signing_keys"
down_revision = "0007_tenants"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; keys that are there have been used since they were made (empty)."""
    op.add_column("signing_key", sa.Column("used_from", UtcInstant(), nullable=True))
