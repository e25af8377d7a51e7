"""Schema of auth-gateway (Alembic, forward only: expand, then contract)."""
