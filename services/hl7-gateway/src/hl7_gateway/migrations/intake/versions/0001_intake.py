"""The intake: bodies, which of them wait to be catalogued, and what recognises a message again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from common.runtime.columns import Sequence

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "body",
        sa.Column("sequence", Sequence, primary_key=True),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("id", "tenant", "integration_id", "channel")),
        sa.Column("peer", sa.String(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        sa.Column("rejection", sa.String(), nullable=False),
        sa.Column("sealed_body", sa.LargeBinary(), nullable=False),
        sa.Column("duplicate_key", sa.LargeBinary(), nullable=False),
        sa.Column("connection_id", sa.String(), nullable=False),
    )
    op.create_table(
        "progress",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("sequence", Sequence, nullable=False),
    )
    op.create_table("waiting", sa.Column("sequence", Sequence, primary_key=True, autoincrement=False))
    op.create_table(
        "seen",
        sa.Column("sequence", Sequence, primary_key=True),
        sa.Column("duplicate_key", sa.LargeBinary(), nullable=False),
        sa.Column("message_id", sa.String(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
    )
    op.create_index("seen_by_key", "seen", ["duplicate_key"], unique=True)
