"""Records, cross-references, quarantine, runs and schedules."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from common.runtime.columns import JsonText, UtcInstant

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    _records()
    _sources()
    _runs()


def _records() -> None:
    op.create_table(
        "record",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("record_type", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("document", JsonText(), nullable=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("integration_id", sa.String(), nullable=False),
        sa.Column("birth_date", sa.String(), nullable=True),
        sa.Column("created_at", UtcInstant(), nullable=False),
        sa.Column("updated_at", UtcInstant(), nullable=False),
    )
    op.create_index("record_by_type", "record", ["tenant", "record_type", "id"])
    op.create_index("record_by_update", "record", ["tenant", "record_type", "updated_at", "id"])
    op.create_index("record_by_birth_date", "record", ["tenant", "record_type", "birth_date", "id"])
    op.create_table(
        "record_version",
        sa.Column("record_id", sa.String(), primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("document", JsonText(), nullable=False),
        sa.Column("changed", JsonText(), nullable=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("integration_id", sa.String(), nullable=False),
        sa.Column("source_id", sa.String(), nullable=False),
        sa.Column("event_time", UtcInstant(), nullable=True),
        sa.Column("created_at", UtcInstant(), nullable=False),
    )
    op.create_table(
        "record_identifier",
        sa.Column("tenant", sa.String(), primary_key=True),
        sa.Column("record_type", sa.String(), primary_key=True),
        sa.Column("value", sa.String(), primary_key=True),
        sa.Column("system", sa.String(), primary_key=True),
        sa.Column("record_id", sa.String(), nullable=False),
    )
    op.create_index("record_identifier_by_record", "record_identifier", ["record_id"])
    op.create_table(
        "record_name",
        sa.Column("tenant", sa.String(), primary_key=True),
        sa.Column("key", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), primary_key=True),
        sa.Column("record_id", sa.String(), primary_key=True),
    )
    op.create_index("record_name_by_record", "record_name", ["record_id"])


def _sources() -> None:
    op.create_table(
        "cross_reference",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("integration_id", sa.String(), nullable=False),
        sa.Column("record_type", sa.String(), nullable=False),
        sa.Column("external_id", sa.String(), nullable=False),
        sa.Column("record_id", sa.String(), nullable=False),
        sa.Column("content_hash", sa.String(), nullable=False),
        sa.Column("seen", JsonText(), nullable=False),
        sa.Column("created_at", UtcInstant(), nullable=False),
        sa.Column("updated_at", UtcInstant(), nullable=False),
    )
    columns = ["tenant", "integration_id", "record_type", "external_id"]
    op.create_index("cross_reference_by_external_id", "cross_reference", columns, unique=True)
    op.create_index("cross_reference_by_record", "cross_reference", ["tenant", "record_id", "id"])
    op.create_index("cross_reference_by_tenant", "cross_reference", ["tenant", "id"])
    op.create_table(
        "record_event_time",
        sa.Column("record_id", sa.String(), primary_key=True),
        sa.Column("integration_id", sa.String(), primary_key=True),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("event_time", UtcInstant(), nullable=False),
    )
    op.create_table(
        "quarantine",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("integration_id", sa.String(), nullable=False),
        sa.Column("record_type", sa.String(), nullable=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("source_id", sa.String(), nullable=False),
        sa.Column("source_key", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("value_class", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", UtcInstant(), nullable=False),
        sa.Column("updated_at", UtcInstant(), nullable=False),
    )
    columns = ["tenant", "integration_id", "record_type", "source_key"]
    op.create_index("quarantine_by_source", "quarantine", columns, unique=True)
    op.create_index("quarantine_by_tenant", "quarantine", ["tenant", "id"])
    is_open = sa.text("state = 'open'")
    columns = ["tenant", "integration_id"]
    op.create_index("quarantine_open", "quarantine", columns, sqlite_where=is_open, postgresql_where=is_open)


def _runs() -> None:
    op.create_table(
        "run",
        sa.Column("id", sa.String(), primary_key=True),
        *(
            sa.Column(name, sa.String(), nullable=False)
            for name in (
                "tenant",
                "integration_id",
                "resource",
                "direction",
                "mode",
                "trigger",
                "requested_by",
                "state",
            )
        ),
        sa.Column("cursor", JsonText(), nullable=True),
        *(
            sa.Column(name, sa.Integer(), nullable=False)
            for name in ("pages", "records_read", "created", "updated", "unchanged", "quarantined")
        ),
        sa.Column("error_code", sa.String(), nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("created_at", UtcInstant(), nullable=False),
        sa.Column("updated_at", UtcInstant(), nullable=False),
        sa.Column("started_at", UtcInstant(), nullable=True),
        sa.Column("finished_at", UtcInstant(), nullable=True),
    )
    live = sa.text("state IN ('queued', 'running', 'paused')")
    columns = ["tenant", "integration_id", "resource", "direction"]
    op.create_index("run_live", "run", columns, unique=True, sqlite_where=live, postgresql_where=live)
    op.create_index("run_by_tenant", "run", ["tenant", "id"])
    op.create_index("run_by_integration", "run", ["tenant", "integration_id", "id"])
    op.create_table(
        "run_seen",
        sa.Column("run_id", sa.String(), primary_key=True),
        sa.Column("key", sa.String(), primary_key=True),
    )
    op.create_table(
        "schedule",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("integration_id", sa.String(), nullable=False),
        sa.Column("resource", sa.String(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("every_s", sa.Integer(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("due_at", UtcInstant(), nullable=False),
        sa.Column("created_at", UtcInstant(), nullable=False),
        sa.Column("last_run_id", sa.String(), nullable=True),
        sa.Column("last_tick_at", UtcInstant(), nullable=True),
    )
    op.create_index("schedule_by_task", "schedule", ["tenant", "integration_id", "resource", "mode"], unique=True)
    op.create_index("schedule_by_tenant", "schedule", ["tenant", "id"])
    op.create_index("schedule_due", "schedule", ["enabled", "due_at"])
