"""Messages are found by visit, order, finding, sender, type and connection."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the keys' table and the indexes; messages that were catalogued before are found as before."""
    op.create_table(
        "message_key",
        *(sa.Column(name, sa.String(), primary_key=True) for name in ("tenant", "kind", "key", "message_id")),
        sqlite_with_rowid=False,
    )
    op.create_index("message_key_of", "message_key", ["tenant", "message_id"])
    op.create_index("message_by_sender", "message", ["tenant", "application", "id"])
    op.create_index("message_by_type", "message", ["tenant", "message_type", "trigger_event", "id"])
    op.create_index("message_by_connection", "message", ["tenant", "connection_id", "id"])
    rejected = sa.text("state = 'rejected'")
    op.create_index("message_rejected", "message", ["tenant", "id"], sqlite_where=rejected, postgresql_where=rejected)
