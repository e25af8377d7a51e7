"""What sync does, a file per verb."""
