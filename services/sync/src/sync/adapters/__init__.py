"""Tables, stores and clients of sync."""
