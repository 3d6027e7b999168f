"""Planted bugs: wrong protocols and wrong simulators that the judge and the tests must catch.

Importing this package registers every one of them.
"""

from __future__ import annotations

from . import (
    durability,
    environment,
    judging,
    merging,
    migrations,
    restoring,
    roles,
    shipping,
    tiers,
)
from .bases import BASES, base
from .bug import BUGS, Bug, small_start, small_swarm, swarm_of

__all__ = [
    "BASES", "BUGS", "Bug", "base", "durability", "environment", "judging", "merging", "migrations",
    "restoring", "roles", "shipping", "small_start", "small_swarm", "swarm_of", "tiers",
]  # fmt: skip
