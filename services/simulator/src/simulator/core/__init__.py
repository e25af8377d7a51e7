"""Synthetic practices and the vendors' behaviour: values, bytes and time in; answers out."""
