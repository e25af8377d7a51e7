"""HTTP of auth-gateway, a file per resource."""
