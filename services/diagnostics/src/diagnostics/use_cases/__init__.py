"""What diagnostics does, a file per verb."""
