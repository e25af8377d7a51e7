"""One test class per port, over every adapter: embedded and real servers."""
