"""Grants of persons, refresh tokens, methods without tokens."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from common.runtime.columns import JsonText, UtcInstant

revision = "0003_grants"
down_revision = "0002_launches"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, and the table of browsers that are expected back."""
    for column in (
        sa.Column("grant", sa.String(), nullable=False, server_default="client_credentials"),
        sa.Column("options", JsonText(), nullable=False, server_default="{}"),
        sa.Column("sealed_second", sa.LargeBinary(), nullable=True),
        sa.Column("sealed_refresh", sa.LargeBinary(), nullable=True),
        sa.Column("reconnect", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("unanswered", sa.Integer(), nullable=False, server_default="0"),
    ):
        op.add_column("credential", column)
    op.create_table(
        "authorization",
        sa.Column("state_sha256", sa.String(), primary_key=True),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("tenant", "integration_id", "name")),
        sa.Column("credential_version", sa.Integer(), nullable=False),
        sa.Column("sealed_verifier", sa.LargeBinary(), nullable=False),
        sa.Column("caller", sa.String(), nullable=False),
        sa.Column("expires_at", UtcInstant(), nullable=False),
    )
    op.create_index("authorization_expiry", "authorization", ["expires_at"])
