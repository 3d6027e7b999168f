"""What the clocks of the regions show, where a fault has set one wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Clocks:
    """The errors of all clocks, as they changed in time."""

    def __init__(self) -> None:
        self._changes: dict[str, list[tuple[int, int, float]]] = {}

    def set(self, region: str, at_ns: int, step_ns: int, drift: float) -> None:
        """Have a clock be wrong by a step, and more and more by a drift, from a moment on."""
        self._changes.setdefault(region, [(0, 0, 0.0)]).append((at_ns, step_ns, drift))

    def shown(self, region: str, at_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give what a clock shows at moments in time."""
        changes = self._changes.get(region)
        if changes is None:
            return at_ns
        begins: NDArray[Any] = np.array([begin for begin, _, _ in changes])
        steps = np.array([step for _, step, _ in changes])
        drifts = np.array([drift for _, _, drift in changes])
        place = np.maximum(np.searchsorted(begins, at_ns, side="right") - 1, 0)
        late = (drifts[place] * (at_ns - begins[place])).astype(np.int64)
        return np.asarray(at_ns + steps[place] + late)
