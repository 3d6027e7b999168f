"""The exact engine: the server's own core moves every byte, in simulated time."""
