"""Field mappings: rows that say which field of a record comes from where in a source, compiled once to closures."""
