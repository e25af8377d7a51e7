"""Evidence: what was exchanged with the outside, and whether an endpoint can be reached."""
