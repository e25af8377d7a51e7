"""Expiry watch: recorded ends, notices given, and when a secret was changed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from common.runtime.columns import UtcInstant

revision = "0005_expiry"
down_revision = "0004_versions"
branch_labels = None
depends_on = None


def _key() -> list[sa.Column[str]]:
    return [sa.Column(name, sa.String(), primary_key=True) for name in ("integration_id", "name", "kind")]


def upgrade() -> None:
    """Create the tables and the column; what is known of secrets entered before is when their credential changed."""
    op.add_column("credential", sa.Column("secret_changed_at", UtcInstant(), nullable=True))
    op.execute("UPDATE credential SET secret_changed_at = changed_at WHERE sealed_secret IS NOT NULL")
    op.create_table(
        "stated_expiry",
        *_key(),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("expires_at", UtcInstant(), nullable=True),
        sa.Column("life_days", sa.Integer(), nullable=True),
    )
    op.create_index("stated_expiry_by_tenant", "stated_expiry", ["tenant"])
    op.create_table(
        "expiry_notice",
        *_key(),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("expires_at", UtcInstant(), nullable=False),
        sa.Column("days", sa.Integer(), nullable=False),
    )
    op.create_index("expiry_notice_by_tenant", "expiry_notice", ["tenant"])
