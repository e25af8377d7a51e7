"""Pure vocabulary: no framework, socket, clock or random source. Time and ids are arguments."""
