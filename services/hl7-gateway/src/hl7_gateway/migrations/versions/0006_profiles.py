"""Site profiles and their versions."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from common.runtime.columns import JsonText, UtcInstant

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def _text(name: str, *, primary_key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(), nullable=False, primary_key=primary_key)


def _instant(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, UtcInstant(), nullable=nullable)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "profile",
        *(_text(name, primary_key=True) for name in ("tenant", "name")),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("document", JsonText(), nullable=False),
        *(_text(name) for name in ("author", "reason")),
        *(_instant(name) for name in ("created_at", "updated_at")),
        _instant("removed_at", nullable=True),
    )
    op.create_table(
        "profile_version",
        *(_text(name, primary_key=True) for name in ("tenant", "name")),
        sa.Column("version", sa.Integer(), primary_key=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("document", JsonText(), nullable=False),
        *(_text(name) for name in ("author", "reason")),
        _instant("changed_at"),
    )
