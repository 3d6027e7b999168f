"""What the literal designs of the hazards would do, and what this one does, before one judge each.

Each test runs the design that the hazard describes next to ours and holds both against the same
sentence: the literal one must fail it.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from ingest_machine import MS, NOW_NS, Machine, directory
from region import BETA, signed, tenants_document
from region_judge import FaultError
from region_world import RIGHT, Wrong
from test_ingest_regions import LATER, merge, pair, peer_frame, two
from test_regions_simulated import (
    CallsAllReplicated,
    StampsByTheWallClock,
    last_write_wins,
    merge_by_arrival,
    resolve_by_arrival,
    resolve_last,
    run_history,
)

from fractal_lba_server.core.facts import Facts, read_facts
from fractal_lba_server.core.first_write import Key, Origin, Stored, resolve
from fractal_lba_server.core.ingest import Ingest, _Candidate
from fractal_lba_server.core.ingest_events import (
    Answer,
    Append,
    Ask,
    BodyReceived,
    DirectoryChanged,
    Draining,
    Effect,
    FrameSynced,
    PeerAcked,
    PeerFrames,
    ReadRequested,
    Refuse,
    StoreAnswered,
)
from fractal_lba_server.core.segment import read_frame
from fractal_lba_server.core.state_digest import total_of
from fractal_lba_server.core.streams import StreamStart

HISTORIES = 60


def fails(wrong: Wrong) -> set[str]:
    """Name what the judge of regions finds in some histories."""
    found = set()
    for seed in range(HISTORIES):
        try:
            run_history(seed, wrong)
        except FaultError as error:
            found.add(str(error))
    return found


def test_h09_a_later_outcome_never_replaces_the_first() -> None:
    """The literal read-repair lets the newest of two outcomes stand."""
    assert fails(Wrong(rules={"merge": last_write_wins, "resolve": resolve_last})) >= {
        "what is answered is what stands"
    }
    assert fails(RIGHT) == set()


def test_h37_an_id_that_two_regions_call_new_ends_as_one_everywhere() -> None:
    """The literal deduplication is each region's own: whoever comes first there stands there."""
    literal = fails(Wrong(rules={"merge": merge_by_arrival, "resolve": resolve_by_arrival}))
    assert "the first write stands everywhere" in literal
    assert fails(RIGHT) == set()
    mine, theirs = two()
    machine = pair()
    waiting = machine.recorded(mine.body)
    assert waiting.origin.region == "loc", "both said new"
    merge(machine, peer_frame(theirs))
    displaced = machine.one(BodyReceived("again", mine.body))
    assert displaced.extras["first_acked"] == "loc/open/1/1", "the conflict is recorded"


@pytest.mark.parametrize(("kind", "is_later"), [(Ingest, True), (StampsByTheWallClock, False)])
def test_h38_what_follows_an_outcome_sorts_after_it_although_the_clock_is_behind(
    kind: type[Ingest], is_later: bool
) -> None:
    """The literal merge sorts by each region's wall clock, which may be behind."""
    machine = pair(kind=kind)
    ahead = LATER + (400 << 16)
    merge(machine, peer_frame(signed(), stamp=ahead))
    assert (machine.recorded(signed().body).hlc > ahead) == is_later


def test_h38_the_time_that_a_client_names_decides_nothing() -> None:
    mine, theirs = signed("h38", sent_at="2026-01-15T12:00:00Z"), signed("h38", r=0.5)
    machine = pair()
    standing = machine.recorded(mine.body)
    early = signed("h38", r=0.5, sent_at="2026-01-15T11:59:59Z")
    merge(machine, peer_frame(early, stamp=LATER))
    assert machine.one(BodyReceived("a", mine.body)).stored == standing
    assert machine.one(BodyReceived("b", theirs.body)).code == "pcs_id_conflict"


@pytest.mark.parametrize(
    ("kind", "survives"), [(Ingest, True), (CallsAllReplicated, False)], ids=["ours", "literal"]
)
def test_h40_a_record_called_replicated_survives_the_region(
    kind: type[Ingest], survives: bool
) -> None:
    """The literal answer promises no loss as soon as one disk holds the record."""
    machine = pair(kind=kind)
    elsewhere: set[int] = set()
    promised: list[Stored] = []

    def hear(effects: list[Effect]) -> None:
        promised.extend(
            one.stored for one in effects if isinstance(one, Answer) and one.level == "replicated"
        )

    for number in range(1, 4):
        machine.submit(signed().body, number, level="replicated")
        hear(machine.feed(FrameSynced(number)))
        if number == 1:
            elsewhere.add(number)
            hear(machine.feed(PeerAcked("open", "eu1", number)))
    assert promised
    assert all(stored.seq in elsewhere for stored in promised) == survives, "its disk is gone"


def states() -> tuple[dict[Key, Stored], dict[Key, Stored]]:
    """Give two states of equal size after a split with writes on both sides, never healed."""
    keys = [("acme", f"{number:064x}") for number in range(10)]
    sides = []
    for code in ("eu1", "us1"):
        origin = Origin(code, "open", 1)
        sides.append({key: Stored(n, code, 200, b"", origin, n) for n, key in enumerate(keys, 1)})
    return sides[0], sides[1]


def by_counts(one: dict[Key, Stored], other: dict[Key, Stored]) -> bool:
    """Compare as the literal alert does: 20 % more ids on one side."""
    return abs(len(one) - len(other)) > 0.2 * max(len(one), len(other))


def by_digest(one: dict[Key, Stored], other: dict[Key, Stored]) -> bool:
    """Compare as regions do."""
    return total_of(one.items()) != total_of(other.items())


@pytest.mark.parametrize(
    ("alert", "is_seen"), [(by_digest, True), (by_counts, False)], ids=["ours", "literal"]
)
def test_h54_states_that_differ_in_every_outcome_are_told_apart(
    alert: Callable[[dict[Key, Stored], dict[Key, Stored]], bool], is_seen: bool
) -> None:
    one, other = states()
    assert alert(one, other) == is_seen
    assert not alert(one, dict(one)), "equal states raise nothing"
    one_gone = dict(list(one.items())[1:])
    assert alert(one, one_gone) == is_seen


@pytest.mark.parametrize("drains", [False, True], ids=["ours", "literal"])
def test_h56_a_region_answers_while_a_whole_split_is_merged(drains: bool) -> None:
    """The literal reconciliation drains both regions until it is done."""
    machine = pair()
    old = signed()
    standing = machine.recorded(old.body)
    if drains:
        machine.feed(Draining())
    taken = read = 0
    for number in range(1, 21):
        machine.feed(PeerFrames(number, (peer_frame(signed(), number),)))
        taken += isinstance(machine.submit(signed().body)[0], Append)
        answer = machine.one(ReadRequested("r", "acme", old.pcs_id))
        read += isinstance(answer, Answer) and answer.stored == standing
    assert (taken, read) == ((0 if drains else 20), 20)


class TakesEveryTenant(Ingest):
    """The literal replication: one stream for all, whatever placement a tenant has."""

    def _misplaced(self, candidate: _Candidate, now_ns: int) -> Refuse | None:
        return None

    def _decide(self, candidate: _Candidate, now_ns: int) -> list[Effect]:
        self._streams.setdefault("eu-only", self._streams["open"])
        return super()._decide(candidate, now_ns)


@pytest.mark.parametrize("is_literal", [False, True], ids=["ours", "literal"])
def test_h57_nothing_of_a_locked_tenant_is_kept_outside_its_regions(is_literal: bool) -> None:
    machine = pair(kind=TakesEveryTenant if is_literal else Ingest)
    document = tenants_document()
    document["tenants"][0]["placement"] = "eu-only"
    machine.feed(DirectoryChanged(directory(document)))
    effects: list[Effect] = machine.feed(BodyReceived("a", signed().body))
    left = []
    for effect in effects:
        if isinstance(effect, Ask):
            left += machine.feed(StoreAnswered(effect.key, None))
    kept = [one for one in (*effects, *left) if isinstance(one, Append | Ask)]
    assert bool(kept) == is_literal
    if not is_literal:
        assert [one.code for one in effects if isinstance(one, Refuse)] == ["wrong_region"]
        assert (machine.core.in_flight, machine.core.recent) == (0, 0)


def test_h57_a_tenant_that_moves_leaves_its_frames_in_the_streams_they_were_written_to() -> None:
    machine = Machine(streams=(StreamStart(), StreamStart(placement="eu-only")))
    machine.now_ns = NOW_NS + MS
    document = tenants_document()
    document["tenants"][0]["placement"] = "eu-only"
    (before,) = machine.submit(signed().body)
    machine.feed(DirectoryChanged(directory(document)))
    (after,) = machine.submit(signed().body)
    assert isinstance(before, Append)
    assert isinstance(after, Append)
    assert (before.placement, after.placement) == ("open", "eu-only")
    facts: Facts = read_facts(read_frame(after.frame, 0), Origin("loc", "eu-only", 1))
    assert resolve(facts.key, facts.stored, facts.kid, None, ("loc",).index) is not None


@pytest.mark.parametrize("is_literal", [True, False])
def test_h17_a_member_that_was_altered_on_the_way_is_no_record_of_its_signer(
    *, is_literal: bool
) -> None:
    # The literal design signs eight members: N_j is none of them. Version 2 signs the body.
    version, tenant, signer = (1, None, BETA) if is_literal else (2, "beta", BETA)
    whole = signed(version=version, tenant=tenant, signer=signer)
    record = json.loads(whole.body)
    scale, count = next(iter(record["N_j"].items()))
    record["N_j"][scale] = count + 1
    machine = Machine()
    effects = machine.submit(json.dumps(record).encode(), tenant_header="beta")
    taken = [effect for effect in effects if isinstance(effect, Append)]
    assert bool(taken) == is_literal
    if not is_literal:
        assert [e.code for e in effects if isinstance(e, Refuse)] == ["signature_invalid"]
