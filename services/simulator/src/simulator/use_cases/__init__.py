"""What the simulator does, a file per verb."""
