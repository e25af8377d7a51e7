"""Rules over event streams, the life of an alert, and who is told."""
