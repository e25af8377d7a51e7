"""Sans-IO decisions of auth-gateway."""
