"""The vendor of each credential, so that its token's timing is known without its integration."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from common.runtime.columns import JsonText

revision = "0015_credential_vendors"
down_revision = "0014_change_ids"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column and fill it from the integrations."""
    op.add_column("credential", sa.Column("vendor", sa.String(), nullable=False, server_default="fhir"))
    integration = sa.table("integration", sa.column("id", sa.String()), sa.column("body", JsonText()))
    credential = sa.table("credential", sa.column("integration_id", sa.String()), sa.column("vendor", sa.String()))
    connection = op.get_bind()
    for row in connection.execute(sa.select(integration.c.id, integration.c.body)).all():
        here = credential.c.integration_id == row.id
        connection.execute(sa.update(credential).where(here).values(vendor=row.body["vendor"]))
