"""Tables and clients of diagnostics."""
