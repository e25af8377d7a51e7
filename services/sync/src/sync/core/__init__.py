"""Decisions of sync: values, times and ids in, decisions out."""
