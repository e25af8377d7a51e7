"""Whom records concern, so that a merge of two patients finds what it has to change."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

from common.runtime.columns import JsonText

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ROWS_AT_ONCE: Final = 500


def upgrade() -> None:
    """Create the table and fill it from the appointments that are there."""
    reference = op.create_table(
        "record_reference",
        *(sa.Column(name, sa.String(), primary_key=True) for name in ("tenant", "target_id", "record_id")),
        sqlite_with_rowid=False,
    )
    record = sa.table(
        "record", sa.column("id"), sa.column("tenant"), sa.column("record_type"), sa.column("document", JsonText())
    )
    statement = sa.select(record.c.id, record.c.tenant, record.c.document).order_by(record.c.id).limit(_ROWS_AT_ONCE)
    last = ""
    while True:
        wanted = statement.where(record.c.record_type == "appointment", record.c.id > last)
        rows = op.get_bind().execute(wanted).all()
        if not rows:
            return
        last = rows[-1].id
        found = [
            {"tenant": row.tenant, "target_id": target, "record_id": row.id}
            for row in rows
            for target in sorted(_patients(row.document))
        ]
        if found:
            op.get_bind().execute(reference.insert(), found)


def _patients(document: dict[str, Any]) -> set[str]:
    actors = [one["actor"] for one in document.get("participants", ())]
    return {actor["record_id"] for actor in actors if actor["type"] == "Patient" and actor.get("record_id")}
