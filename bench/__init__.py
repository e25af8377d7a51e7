"""Figures of the suite: one JSON line each."""
