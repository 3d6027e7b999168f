"""Drills: real regions, real clients, real faults, a trace, and a judge that trusts none of them.

`check.py`, `register.py`, `accounts.py` and `recovery.py` are the judge: they read a trace and
import neither an engine nor the server. The others are the live engine (spec/drills.md).
"""
