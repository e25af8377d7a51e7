"""Synchronisation: runs, mappings, matching, records and cross-references of Practice Studio Integrations."""
