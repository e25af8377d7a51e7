"""Versions of integrations, and change records."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from common.runtime.columns import JsonText, UtcInstant

revision = "0004_versions"
down_revision = "0003_grants"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables; what is there now is everybody's first known version."""
    op.create_table(
        "integration_version",
        sa.Column("integration_id", sa.String(), primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("body", JsonText(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("changed", JsonText(), nullable=False),
        sa.Column("author", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("created_at", UtcInstant(), nullable=False),
    )
    op.create_index("integration_version_by_tenant", "integration_version", ["tenant", "integration_id", "version"])
    op.execute(
        "INSERT INTO integration_version"
        " (integration_id, version, tenant, body, action, changed, author, reason, created_at)"
        " SELECT id, version, tenant, body, 'integration.changed', '[]', 'upgrade', NULL, updated_at FROM integration"
    )
    op.create_table(
        "change_record",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("integration_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("body", JsonText(), nullable=False),
        sa.Column("created_at", UtcInstant(), nullable=False),
        sa.Column("updated_at", UtcInstant(), nullable=False),
    )
    op.create_index("change_record_by_tenant", "change_record", ["tenant", "id"])
