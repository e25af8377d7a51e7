"""Tables and clients of alerts."""
