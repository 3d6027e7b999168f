"""Durations that vary, as scenarios write them.

The distributions are those with which the loader draws the lengths of faults; there is one copy
of them, beside it.
"""

from __future__ import annotations

from fractal_lba_server.drill.times import Time

__all__ = ["Time"]
