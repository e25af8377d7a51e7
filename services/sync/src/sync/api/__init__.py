"""HTTP of sync: a file per resource."""
