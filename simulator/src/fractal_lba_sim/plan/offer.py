"""What clients offer: new records, repeats, rivals and canaries, each at moments of its own.

The invariant of this file: when a call is due depends on the seed, its client and its kind, and on
nothing that happens.
"""

from __future__ import annotations

from typing import Any

from ..waiting import NS_PER_S, Agenda
from .arrivals import Even, Poisson, Shared, Source
from .setup import Setup, client_rows
from .sites import CANARY, NEW, REPEAT, RIVAL, Feed


class Offer:
    """The load of a run."""

    def __init__(self, setup: Setup, agenda: Agenda) -> None:
        self._setup, self._agenda = setup, agenda

    def leg(self, row: dict[str, Any], code: str, share: float) -> list[Feed]:
        """Make the feeds of a client behind a name that go to one region."""
        feeds = self.feeds(row, (row["name"], "leg", str(self._setup.rank(code))))
        for feed in feeds:
            feed.source = Shared(
                feed.source, share=share, end_ns=self._setup.load_end_ns, clock=self._now_ns
            )
        return feeds

    def _now_ns(self) -> int:
        return self._agenda.now_ns

    def feeds(self, row: dict[str, Any], name: tuple[str, ...]) -> list[Feed]:
        """Make the feeds of a client."""
        setup = self._setup
        rate_per_s = row["share"] * setup.load["rate_per_s"]
        shares = {kind: setup.load.get(f"{kind}_share", 0.0) for kind in (REPEAT, RIVAL, "read")}
        shares[CANARY] = min(0.5, setup.load.get("canary_per_s", 0.0) / setup.load["rate_per_s"])
        shares[NEW] = max(0.0, 1 - sum(shares.values()))
        tenant, found = setup.tenant(row), []
        for kind in (NEW, REPEAT, RIVAL, CANARY):
            if shares[kind] <= 0:
                continue
            if kind == RIVAL:
                source = self._rivals(row, rate_per_s * shares[kind], tenant.placement)
            else:
                source = self._source(rate_per_s * shares[kind], ("client", *name, kind))
            found.append(
                Feed(
                    row["name"], kind, source, tenant.placement, level=tenant.level,
                    copies_kept=setup.outbox_until != "durable",
                )
            )  # fmt: skip
        return found

    def _rivals(self, row: dict[str, Any], rate_per_s: float, placement: str) -> Source:
        """Make the ids that several clients submit: at common moments, each a little later."""
        setup = self._setup
        chance = setup.streams.of("client", row["name"], RIVAL, "late")
        late_ns = int(chance.random() * NS_PER_S / (row["share"] * setup.load["rate_per_s"]))
        per_client = rate_per_s / row["share"] / len(client_rows(setup.scenario))
        return self._source(per_client, (RIVAL, placement), late_ns=late_ns)

    def _source(self, rate_per_s: float, name: tuple[str, ...], *, late_ns: int = 0) -> Source:
        setup, end_ns = self._setup, self._setup.load_end_ns
        if setup.load.get("arrivals", "even") == "poisson":
            return Poisson(
                rate_per_s, streams=setup.streams, name=name, start_ns=late_ns, end_ns=end_ns
            )
        # A stream of its own, so that whoever asks first or second draws the same.
        phase = setup.streams.anew().of(*name, "phase").random()
        return Even(rate_per_s, phase=phase, start_ns=late_ns, end_ns=end_ns)
