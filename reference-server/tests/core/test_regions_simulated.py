"""Two and three regions that are cut off, crash and heal: what was acknowledged, and what stands.

The machines are those that the server runs. `region_world.py` is what fails around them,
`region_judge.py` what must hold. Each planted bug below must be found by that judge.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest
from region_judge import FaultError, Judge, Store
from region_world import RIGHT, World, Wrong

from fractal_lba_server.core import ingest
from fractal_lba_server.core.first_write import (
    Apply,
    Key,
    Stored,
    resolve,
)
from fractal_lba_server.core.ingest import Ingest, _Candidate, _PeerStream
from fractal_lba_server.core.ingest_events import (
    Effect,
    FramesLost,
    FrameSynced,
    PeerAcked,
    StoreAnswered,
)
from fractal_lba_server.core.streams import Entry
from fractal_lba_sim.explore.zoo.merging import (
    CallsAllReplicated,
    ReplacesWhatIsNotDurable,
    StampsByTheWallClock,
    last_write_wins,
    merge_by_arrival,
    merge_ties_by_arrival,
    resolve_by_arrival,
    resolve_last,
    resolve_ties_by_arrival,
)

SEEDS = int(os.environ.get("FLK_REGION_SIMULATIONS", "1000"))
"""Histories of the real machine; each has its own seed."""

SEEDS_PER_MUTANT = 400
"""A planted bug must be found within this many histories."""


def run_history(seed: int, wrong: Wrong = RIGHT) -> Judge:
    """Run one history; raises FaultError if the judge finds a fault in it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, rule in wrong.rules.items():
            patch.setattr(ingest, name, rule)
        return World(seed, wrong).run()


def test_no_history_loses_or_changes_an_acknowledged_record(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sent = 0
    classes: Counter[str] = Counter()
    for seed in range(SEEDS):
        try:
            judge = run_history(seed)
        except FaultError as error:
            pytest.fail(f"seed {seed}: {error}")
        sent += judge.sent
        classes += judge.classes
    assert min(classes[name] for name in ("winner", "duplicate", "displaced")) > SEEDS / 10
    with capsys.disabled():
        print(f"\n{SEEDS} histories, {sent} submissions, acknowledged: {dict(classes)}")


def test_history_is_its_seed() -> None:
    assert [run_history(seed).classes for seed in range(5)] == [
        run_history(seed).classes for seed in range(5)
    ]


# --- planted bugs: those of the simulator, and some that only this judge sees -------------


class ForgetfulStore(Store):
    """Keeps what stands and nothing else."""

    def override(self, key: Key, loser: Stored) -> None:
        """Let go of a record that was acknowledged."""


class LetsALostFrameStand(Ingest):
    """Holds a peer's frame against an own one that no disk has."""

    def _on_lost(self, event: FramesLost, now_ns: int) -> list[Effect]:
        self._lost = {e.key: e.stored for s in self._streams.values() for e in s.unsynced}
        try:
            return super()._on_lost(event, now_ns)
        finally:
            self._lost = {}

    def _meet_waiting(self, key: Key, now_ns: int) -> list[Effect]:
        lost = getattr(self, "_lost", {}).get(key)
        if lost is None or key in self._recent:
            return super()._meet_waiting(key, now_ns)
        effects: list[Effect] = []
        for item in self._meeting.pop(key, ()):
            effects += self._meet_peer(item, now_ns, StoreAnswered(key, lost))
        return effects


class GivesRowsAsTheyMeet(Ingest):
    """Gives the store the frames of a peer in the order in which the store has answered."""

    def _give(self, stream: _PeerStream) -> list[Effect]:
        effects: list[Effect] = []
        for seq in list(stream.met):
            stream.next_seq = seq
            effects += super()._give(stream)
        return effects


class AppliesBeforeTheSync(Ingest):
    """Puts an own outcome into the store when it is handed to the log."""

    def _decide(self, candidate: _Candidate, now_ns: int) -> list[Effect]:
        effects = super()._decide(candidate, now_ns)
        entry = self._recent[candidate.key]
        entry.durable = True
        return [*effects, self._applied_later(entry, Apply(entry.key, entry.stored, entry.kid))]

    def _on_synced(self, event: FrameSynced, now_ns: int) -> list[Effect]:
        effects = super()._on_synced(event, now_ns)
        for row in [one for one in effects if isinstance(one, Apply)]:
            self._unapplied.remove(self._recent[row.key])
            self._recent[row.key].rows -= 1
            effects.remove(row)
        return effects


class ResolvesForTheStoreAtOnce(Ingest):
    """Fixes what a row replaces when the frame meets, not when the store is given it."""

    def _merge(self, entry: Entry, frame: Stored, now_ns: int) -> list[Effect]:
        before = entry.stored if entry.stored is not frame else entry.kept
        rows = self.__dict__.setdefault("_fixed", {})
        rows[frame] = resolve(entry.key, frame, entry.kid, before, self._rank)
        return super()._merge(entry, frame, now_ns)

    def _give(self, stream: _PeerStream) -> list[Effect]:
        rows: dict[Stored, Apply] = self.__dict__.get("_fixed", {})
        return [
            rows.get(one.stored, one) if isinstance(one, Apply) else one
            for one in super()._give(stream)
        ]


class LeavesTheDisplacedWaiting(Ingest):
    """Answers who waits for `replicated` with what stood when he began to wait."""

    def _merge(self, entry: Entry, frame: Stored, now_ns: int) -> list[Effect]:
        ours, self._streams = self._streams, {}
        try:
            return super()._merge(entry, frame, now_ns)
        finally:
            self._streams = ours


class ForgetsWhatPeersDisplaced(Ingest):
    """Takes an acknowledgement that names a frame as displaced for one that holds it."""

    def _on_peer_acked(self, event: PeerAcked, now_ns: int) -> list[Effect]:
        return super()._on_peer_acked(event._replace(displaced=()), now_ns)


class ForgetsWhileRowsAreOnTheWay(Ingest):
    """Forgets an id when one of its rows is applied although another is still to come."""

    def _let_go(self, entry: Entry) -> None:
        entry.rows = 0
        self._recent.pop(entry.key, None)


THE_MACHINE_FAILS = "the machine fails"

MUTANTS: dict[str, tuple[Wrong, str]] = {
    "merge by arrival": (
        Wrong(rules={"merge": merge_by_arrival, "resolve": resolve_by_arrival}),
        "the first write stands everywhere",
    ),
    "merge by wall clock": (Wrong(StampsByTheWallClock), "what follows an answer is later"),
    "last write wins": (
        Wrong(rules={"merge": last_write_wins, "resolve": resolve_last}),
        "what is answered is what stands",
    ),
    "tie broken by arrival": (
        Wrong(rules={"merge": merge_ties_by_arrival, "resolve": resolve_ties_by_arrival}),
        "the first write stands everywhere",
    ),
    "replicated before the peer is durable": (
        Wrong(acks_before_sync=True), "replicated is on two disks",
    ),
    "replicated before the peer has it": (Wrong(CallsAllReplicated), "replicated is on two disks"),
    "peer replaces what is not durable": (
        Wrong(ReplacesWhatIsNotDurable), "what does not stand is kept as overridden",
    ),
    "lost frame still wins": (Wrong(LetsALostFrameStand), "a row replaces what stands"),
    "displaced is not recorded": (
        Wrong(store=ForgetfulStore), "what does not stand is kept as overridden",
    ),
    "frames of a peer out of order": (
        Wrong(GivesRowsAsTheyMeet), "a stream has no gap in the store",
    ),
    "applied before it is durable": (
        Wrong(AppliesBeforeTheSync), "what is answered is durable here",
    ),
    "merged before it is durable": (
        Wrong(merges_before_sync=True), "what is answered is durable here",
    ),
    "row fixed when it meets": (Wrong(ResolvesForTheStoreAtOnce), "a row replaces what stands"),
    "displaced while it waits": (
        Wrong(LeavesTheDisplacedWaiting), "what is answered is what stands",
    ),
    "displaced elsewhere is forgotten": (
        Wrong(ForgetsWhatPeersDisplaced), "replicated is not what lost elsewhere",
    ),
    "forgotten while a row is on its way": (
        Wrong(ForgetsWhileRowsAreOnTheWay), THE_MACHINE_FAILS,
    ),
    "clock of the own log alone": (
        Wrong(clock_of_own_log=True), "what follows an answer is later",
    ),
    "open before the mirrors are read": (
        Wrong(opens_before_mirrors=True), "what is answered is what stands",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_planted_bug_is_found(name: str) -> None:
    wrong, rule = MUTANTS[name]
    found: set[str] = set()
    for seed in range(SEEDS_PER_MUTANT):
        try:
            run_history(seed, wrong)
        except FaultError as error:
            found.add(str(error))
        except KeyError:
            found.add(THE_MACHINE_FAILS)
        if rule in found:
            return
    pytest.fail(f"found {sorted(found)}, not {rule!r}")
