"""Decisions: bytes, values, time and ids in; events and decisions out."""
