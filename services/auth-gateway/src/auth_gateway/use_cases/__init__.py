"""What auth-gateway does, a file per verb."""
