"""The whole suite through its public URLs, in both shapes."""
