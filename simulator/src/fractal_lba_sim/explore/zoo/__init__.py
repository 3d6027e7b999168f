"""Planted bugs: wrong protocols and wrong simulators that the judge and the tests must catch.

Importing this package registers every one of them.
"""

from __future__ import annotations

from . import durability, environment, merging, migrations, restoring, roles, shipping, tiers
from .bases import BASES, base
from .bug import BUGS, Bug, swarm_of

__all__ = [
    "BASES", "BUGS", "Bug", "base", "durability", "environment", "merging", "migrations", "restoring", "roles",
    "shipping", "swarm_of", "tiers",
]  # fmt: skip
