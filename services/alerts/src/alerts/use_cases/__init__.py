"""What alerts does, a file per verb."""
