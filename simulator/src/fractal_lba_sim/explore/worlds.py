"""Which worlds a schedule can be played in, by the name that a token holds.

The invariant of this file: every planted bug is known to whoever plays here.
"""

from __future__ import annotations

from typing import Final

from ..engine import ENGINES, Engine, engine
from . import zoo
from .token import TokenError
from .zoo.bug import SHARDS
from .zoo.shard_engine import Engine as ShardEngine

WORLDS: Final = ("exact", "plan", SHARDS)
"""Worlds whose traces follow from scenario and seed."""


def world(name: str) -> Engine:
    """Give what plays here. Raises TokenError for a name that is none, or that measures."""
    if name not in WORLDS:
        raise TokenError(f"the engine {name!r:.40} plays nothing again; these do: {WORLDS}")
    if name == SHARDS:
        return ShardEngine()
    assert name in ENGINES
    assert zoo.BUGS, "the plants are registered by their import"
    return engine(name)
