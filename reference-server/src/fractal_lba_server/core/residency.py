"""Own what may leave a region for another, and what a region may say of a tenant in its metrics.

The invariant of this file: denied unless a row of the table allows it (spec/roles.md 2). A kind
of thing that the table does not know, a placement or a region that is not registered, and a
region that is retired get nothing.
"""

from __future__ import annotations

from typing import Final

from .regions import Registry
from .tenants import OPEN_PLACEMENT

FRAMES: Final = "frames"
"""Records and outcomes: segments, tails, rows of a dedup shard."""
MIRROR: Final = "mirror"
"""The copy of another region's segments."""
DIGEST: Final = "digest"
"""Hashes over ids and content; they say that somebody has stored a known record."""
SECRET: Final = "secret"
"""HMAC secrets of tenants."""
POLICY: Final = "policy"
"""Policies, which replay needs."""
OBJECT: Final = "object"
"""Segments and snapshots in an object store, at the region of the store."""
EXPORT: Final = "export"
"""Files made for a person or another system."""
TRAFFIC: Final = "traffic"
"""A client that is told to submit there: a hint, a route, a failover."""
POSITION: Final = "position"
"""Numbers without content: watermarks, region epochs, leases, votes."""

WITHIN_PLACEMENT: Final = frozenset(
    {FRAMES, MIRROR, DIGEST, SECRET, POLICY, OBJECT, EXPORT, TRAFFIC}
)
"""What goes to the regions of the placement alone."""

ANYWHERE: Final = frozenset({POSITION})
"""What goes to every region that is not retired, the arbiter and the checkers."""


def may_leave(registry: Registry, placement: str, kind: str, region: str) -> bool:
    """Tell whether what belongs to a placement may go to a region."""
    info = registry.regions.get(region)
    if info is None or info.retired or placement not in registry.placements:
        return False
    if kind in WITHIN_PLACEMENT:
        return registry.may_hold(placement, region)
    return kind in ANYWHERE


def is_locked(placement: str) -> bool:
    """Tell whether a placement is more than the default: its tenants chose where they are held."""
    return placement != OPEN_PLACEMENT


def shows_tenant_label(placement: str) -> bool:
    """Tell whether metrics, which any collector may carry away, name the tenant's pseudonym."""
    return not is_locked(placement)


def successors(registry: Registry, placement: str, lost: frozenset[str]) -> tuple[str, ...]:
    """Name the regions that may take over from those that are lost, in order of the placement.

    None left means that the placement is unavailable; no region outside it ever helps.
    """
    found = registry.placements.get(placement)
    if found is None:
        return ()
    return tuple(
        code
        for code in found.regions
        if code not in lost and may_leave(registry, placement, TRAFFIC, code)
    )
