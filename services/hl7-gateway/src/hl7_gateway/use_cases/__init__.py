"""What the gateway does, one file per verb."""
