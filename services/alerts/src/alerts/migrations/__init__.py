"""Schema of alerts (Alembic, forward only: expand, then contract)."""
