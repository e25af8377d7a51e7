"""Tables, stores, sockets."""
