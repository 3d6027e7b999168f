"""Own what people add to a recovery: to be paged, to decide, to act; to be absent, to be misled.

Where nobody promotes by itself, an operator is paged when a quorum of checkers holds the writer of
a placement for down, and promotes after page, decide and act. What makes that longer is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from fractal_lba_server.drill.times import Time

from ..waiting import NS_PER_S

if TYPE_CHECKING:
    from .world import World

Act = Callable[[], str]
"""What is done in the end; gives what came of it."""

PAGE_S: Final = 60.0
DECIDE_S: Final = 120.0
ACT_S: Final = 60.0
EXTRA_S: Final = 300.0
"""How long each part takes, if the settings say nothing else."""


class Operator:
    """Whoever is on call."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.counts: Counter[str] = Counter()
        self.absent = False
        """Whether nobody answers pages."""
        self.expert_absent = False
        self.runbook_is_stale = False
        self._settings = world.part("settings", "people")
        self._paged: dict[str, None] = {}

    def _sample_ns(self, name: str, default_s: float) -> int:
        chance = self.world.streams.of("people", name)
        return int(Time.of(self._settings.get(name, default_s)).sample(chance) * NS_PER_S)

    def _draws(self, share: str) -> bool:
        value = self._settings.get(share, 0.0)
        return bool(value) and self.world.streams.of("people", share).random() < value

    def page(self, about: str, act: Act) -> None:
        """Page whoever is on call about something, unless that was done; in the end he acts."""
        if about in self._paged:
            return
        self._paged[about] = None
        self.world.trace.note(f"operator: paged about {about}")
        self.world.watch.detected()
        self._ring(about, act)

    def _ring(self, about: str, act: Act) -> None:
        wait_ns = self._sample_ns("page_s", PAGE_S)
        self.world.agenda.after(wait_ns, self._answer, about, act)

    def _answer(self, about: str, act: Act) -> None:
        if self.absent:
            self.counts["pages_missed"] += 1
            self._ring(about, act)
            return
        wait_ns = self._sample_ns("decide_s", DECIDE_S)
        wait_ns += self._delay_ns("absent", "waited", is_certain=self.expert_absent)
        self.world.agenda.after(wait_ns, self._decide, about, act)

    def _decide(self, about: str, act: Act) -> None:
        self.world.watch.declared("operator")
        wait_ns = self._sample_ns("act_s", ACT_S)
        wait_ns += self._delay_ns("stale_step", "steps_repeated", is_certain=self.runbook_is_stale)
        self.world.agenda.after(wait_ns, self._act, about, act)

    def _delay_ns(self, cause: str, count: str, *, is_certain: bool) -> int:
        """Give how much longer a part takes for a cause that a fault makes certain."""
        if not is_certain and not self._draws(f"{cause}_share"):
            return 0
        self.counts[count] += 1
        return self._sample_ns(f"{cause}_extra_s", EXTRA_S)

    def _act(self, about: str, act: Act) -> None:
        self._paged.pop(about, None)
        self.world.trace.note(f"operator: {about}: {act()}")
