"""Judges traces, whoever wrote them: promises, books, recovery (spec/drills.md 2-4).

Nothing in this package imports an engine or the server: it believes the lines of a trace alone.
"""
