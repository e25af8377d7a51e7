"""Schema of diagnostics (Alembic, forward only: expand, then contract)."""
