"""Tenants and keys, integrations, credentials."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from common.runtime.columns import JsonText, UtcInstant

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _text(name: str, *, nullable: bool = False, primary_key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(), nullable=nullable, primary_key=primary_key)


def _bytes(name: str, *, nullable: bool = False) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary(), nullable=nullable)


def _instant(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, UtcInstant(), nullable=nullable)


def upgrade() -> None:
    """Create the tables."""
    op.create_table("tenant", _text("id", primary_key=True), _text("name"), _text("state"), _instant("created_at"))
    op.create_table(
        "tenant_key",
        _text("tenant", primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True, autoincrement=False),
        _bytes("wrapped"),
    )
    op.create_table(
        "signing_key",
        _text("kid", primary_key=True),
        _text("tenant"),
        _text("algorithm"),
        sa.Column("public", JsonText(), nullable=False),
        _bytes("sealed_private"),
        _instant("created_at"),
    )
    op.create_index("signing_key_by_tenant", "signing_key", ["tenant", "algorithm", "created_at"])
    op.create_table(
        "integration",
        _text("id", primary_key=True),
        *(_text(name) for name in ("tenant", "name", "state")),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("body", JsonText(), nullable=False),
        _instant("created_at"),
        _instant("updated_at"),
    )
    op.create_index("integration_by_tenant", "integration", ["tenant", "created_at", "id"])
    op.create_index("integration_name", "integration", ["tenant", "name"], unique=True)
    op.create_table(
        "credential",
        _text("integration_id", primary_key=True),
        _text("name", primary_key=True),
        *(_text(name) for name in ("tenant", "method", "client_id", "token_url")),
        sa.Column("scopes", JsonText(), nullable=False),
        _text("algorithm"),
        sa.Column("test_every_s", sa.Integer(), nullable=False),
        _bytes("sealed_secret", nullable=True),
        _instant("secret_expires_at", nullable=True),
        _instant("changed_at"),
        sa.Column("version", sa.Integer(), nullable=False),
        _bytes("sealed_token", nullable=True),
        _text("token_sha256", nullable=True),
        _instant("obtained_at", nullable=True),
        _instant("expires_at", nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        _instant("retry_at", nullable=True),
        _text("error_code", nullable=True),
        _instant("tested_at", nullable=True),
        _instant("test_due_at"),
    )
    op.create_table("used_assertion", _text("jti", primary_key=True), _instant("expires_at"))
    op.create_index("used_assertion_expiry", "used_assertion", ["expires_at"])
