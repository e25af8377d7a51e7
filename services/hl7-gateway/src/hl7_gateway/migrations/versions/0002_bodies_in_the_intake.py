"""Bodies, and what recognises messages, lie in the intake from now on.

A message that was stored before keeps its body here; the others' is empty, and `sequence` says where it lies. No
version was ever released that needs `seen` here, so it goes at once.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A message names its body, and the connection it came by (empty: the listener of the settings)."""
    op.add_column("message", sa.Column("sequence", sa.BigInteger(), nullable=True))
    op.add_column("message", sa.Column("connection_id", sa.String(), nullable=False, server_default=""))
    op.drop_table("seen")
