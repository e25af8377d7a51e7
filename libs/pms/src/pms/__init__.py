"""Vendor knowledge as rows and pure functions: requests to bytes, answers to results, failures to signatures."""
