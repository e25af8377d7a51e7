"""Migrations of this service, forward only."""
