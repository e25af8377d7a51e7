"""Sans-IO decisions of alerts."""
