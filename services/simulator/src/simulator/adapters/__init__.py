"""Sockets: key sets of clients, MLLP receivers."""
