"""Sans-IO decisions of diagnostics."""
