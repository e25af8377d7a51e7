"""Tables, signing and clients of auth-gateway."""
