"""What a region is in each placement with one writer, kept across crashes.

One file for each, `roles/<placement>.json` in the data directory.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..core.roles import KEPT_ROLES, STEPS, Kept
from .data_dir import write_durably

REGION_EPOCH_MAX = 2**32 - 1
"""Positions and segments have 32 bits for it."""


class RoleFiles:
    """One small file for each placement, replaced whole."""

    def __init__(self, data: Path) -> None:
        self._folder = data / "roles"
        self._folder.mkdir(mode=0o700, exist_ok=True)

    def read(self, placement: str) -> Kept | None:
        """Give what was kept, or None if nothing was; ValueError for a damaged file."""
        path = self._path(placement)
        try:
            document = json.loads(path.read_bytes())
            kept = Kept(**{name: document[name] for name in Kept._fields})
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{path}: not a role; restore the file") from None
        if not _is_whole(kept):
            raise ValueError(f"{path}: not a role; restore the file")
        return kept

    def write(self, placement: str, kept: Kept) -> None:
        """Make it durable."""
        document: dict[str, Any] = {"version": 1, **kept._asdict()}
        write_durably(self._path(placement), json.dumps(document).encode() + b"\n")

    def _path(self, placement: str) -> Path:
        return self._folder / f"{placement}.json"


def _is_whole(kept: Kept) -> bool:
    return (
        kept.role in KEPT_ROLES
        and type(kept.region_epoch) is int
        and 0 < kept.region_epoch <= REGION_EPOCH_MAX
        and (kept.leader is None or isinstance(kept.leader, str))
        and kept.step in {"", *STEPS}
        and type(kept.old_is_stopped) is bool
    )
