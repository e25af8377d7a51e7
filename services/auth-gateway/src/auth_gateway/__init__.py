"""Integrations, credential vault, token broker, tenants and their keys."""
