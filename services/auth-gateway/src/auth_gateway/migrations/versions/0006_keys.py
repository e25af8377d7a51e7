"""When a data key begins to seal; the versions that a credential's sealed values were sealed under."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from common.runtime.columns import JsonText, UtcInstant

revision = "0006_keys"
down_revision = "0005_expiry"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; what was sealed before was sealed under version 1."""
    op.add_column("tenant_key", sa.Column("seals_from", UtcInstant(), nullable=True))
    op.add_column("credential", sa.Column("sealed_versions", JsonText(), nullable=False, server_default="{}"))
