"""The live engine: real regions, real clients, real faults, and a trace (spec/drills.md 5)."""
