"""Migrations of sync, forward only."""
