"""Test vectors, the oracle that writes them, and other people's vectors."""
