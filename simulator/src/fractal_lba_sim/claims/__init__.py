"""The claims register: every promise of the sources, and what became of it here."""
