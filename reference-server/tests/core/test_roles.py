"""One writer at a time, in every schedule that was tried (spec/roles.md 3 to 5); and the zoo."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from role_world import Rules, World, explore

from fractal_lba_server.core import lease, roles
from fractal_lba_server.core.lease import Decision, Row, Terms
from fractal_lba_server.core.regions import WARM_STANDBY, Placement
from fractal_lba_server.core.roles import Kept, Role

SHAPES: dict[str, dict[str, Any]] = {
    "two regions": {},
    "three regions, two copies": {"count": 3},
    "three regions, three copies": {"count": 3, "copies": 3},
    "two regions without an arbiter": {"has_arbiter": False},
    "three regions without an arbiter": {"count": 3, "has_arbiter": False},
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_no_schedule_has_two_writers_or_loses_a_replicated_frame(shape: dict[str, Any]) -> None:
    broken, acks, switches = explore(Rules(), seeds=range(150), **shape)
    assert broken is None
    assert acks > 2_000
    assert switches > 100


@given(st.integers(min_value=1_000), st.sampled_from(sorted(SHAPES)))
@settings(max_examples=60, deadline=None)
def test_other_schedules_neither(seed: int, shape: str) -> None:
    world = World(random.Random(seed), Rules(), **SHAPES[shape])
    for _ in range(300):
        world.step()


# --- the zoo: wrong designs that the same judge must catch


class NeverFenced(Role):
    """Serves as soon as it is promoted: nobody is asked, nobody is refused."""

    def _is_fenced(self) -> bool:
        return True

    def _lacking(self) -> roles.Fetch | None:
        return None


class NeverLearned(Role):
    """Comes back, or takes over, before it holds what the others hold."""

    def _lacking(self) -> roles.Fetch | None:
        return None


class EveryFollower(Role):
    """Counts a peer that follows another candidate of the same epoch."""

    def _is_fenced(self) -> bool:
        kept = self.kept
        followers = [s for s in self._said.values() if s.region_epoch >= kept.region_epoch]
        return kept.old_is_stopped or len(followers) == len(self._others)


class DeafWriter(Role):
    """The old primary that notes its successor and goes on."""

    def _step_down(self, region_epoch: int, leader: str | None) -> Any:
        for effect in super()._step_down(region_epoch, leader):
            if not isinstance(effect, roles.Say):
                yield effect


class Restless(Role):
    """Comes back from a crash as what it was about to be, with the operator's word of then."""

    def __init__(self, *args: Any, kept: Kept | None, **more: Any) -> None:
        super().__init__(*args, kept=kept, **more)
        self.kept = kept or self.kept


def at_once(row: Row, region: str, epoch: int, mark: Any, now_ns: int, terms: Terms) -> Decision:
    """Grant to whoever was promoted, whether or not an older lease still lasts."""
    return lease.ask(row._replace(busy_until_ns=0), region, epoch, mark, now_ns, terms)


def for_ever(said: roles.Say) -> roles.Say:
    """The old primary keeps serving: a lease once held is held."""
    return said._replace(until_ns=roles.FOR_EVER_NS) if said.until_ns else said


NO_DRIFT = Terms(max_drift_ms=0)

ZOO: dict[str, tuple[Rules, dict[str, Any]]] = {
    "the arbiter forgets a promotion": (Rules(persist_lease=False), {}),
    "epoch not persisted before promote": (
        Rules(persist_role=lambda now, before: now.role not in {roles.PROMOTING, roles.WRITER}),
        {"has_arbiter": False},
    ),
    "promote without fencing": (Rules(role=NeverFenced), {"count": 3}),
    "promote without fencing, no arbiter": (Rules(role=NeverFenced), {"has_arbiter": False}),
    "promote before the lease is over": (Rules(ask=at_once), {}),
    "old primary keeps serving": (Rules(say=for_ever), {}),
    "old primary is deaf": (Rules(role=DeafWriter), {"has_arbiter": False}),
    "failback before catch-up": (Rules(role=NeverLearned), {"count": 3}),
    "double promote by an operator": (
        Rules(role=EveryFollower),
        {"count": 3, "has_arbiter": False},
    ),
    "clock drift ignored": (Rules(holder_terms=NO_DRIFT, arbiter_terms=NO_DRIFT), {}),
    "a crash keeps the operator's word": (Rules(role=Restless), {"has_arbiter": False}),
}


@pytest.mark.parametrize("name", ZOO)
def test_the_judge_catches(name: str) -> None:
    rules, shape = ZOO[name]
    broken, _, _ = explore(rules, seeds=range(3_000), **shape)
    assert broken is not None


# --- single steps


PLACEMENT = Placement("open", ("eu1", "us1", "ap1"), WARM_STANDBY, 2, "eu1")
TERMS = Terms()


def role(
    region: str = "eu1", *, has_arbiter: bool = True, kept: Kept | None = None
) -> tuple[Role, list[roles.Effect]]:
    made = Role(
        PLACEMENT, region, kept=kept, terms=TERMS, has_arbiter=has_arbiter,
        rank=PLACEMENT.regions.index(region),
    )  # fmt: skip
    return made, made.start()


def view(merged: int = 0, acked: int = 0, in_flight: int = 0) -> roles.View:
    seqs = {"eu1": merged}
    return roles.View(seqs, seqs, {"us1": acked, "ap1": acked}, in_flight)


def writer() -> Role:
    made, _ = role()
    asked = made.on_event(roles.Tick(view()), 0)[-1]
    assert isinstance(asked, roles.AskArbiter)
    said = made.on_event(roles.ArbiterSaid(asked.number, lease.Granted(1, 5_000)), 0)
    assert said == [roles.Say(4_750_000_000, 1)]
    return made


def test_nobody_writes_at_the_start() -> None:
    """H94: a standby refuses writes, and so does a primary before it has a lease."""
    for region in ("eu1", "us1"):
        made, effects = role(region)
        says = [effect for effect in effects if isinstance(effect, roles.Say)]
        assert [said.until_ns for said in says] == [0]
        assert made.role == (roles.WRITER if region == "eu1" else roles.STANDBY)
        assert made.peers == tuple(code for code in PLACEMENT.regions if code != region)
    assert role("us1")[1][1] == roles.Say(0, 1, "eu1")


def test_a_writer_stops_before_it_keeps_or_adopts_a_later_epoch() -> None:
    made = writer()
    effects = made.on_event(roles.ArbiterSaid(9, lease.NotLeader(2, "us1")), 0)
    assert effects == [
        roles.Say(0, 2, "us1"),
        roles.Persist(Kept(roles.RETURNING, 2, "us1")),
        roles.Fence(("us1", "ap1"), 2),
        roles.Adopt(2),
    ]


def test_it_stands_by_only_after_its_tail_is_merged() -> None:
    """H45: what was acknowledged here and shipped nowhere comes first."""
    made = writer()
    made.on_event(roles.LaterEpoch(2), 0)
    assert made.role == roles.FENCED
    made.on_event(roles.Tick(view(merged=7, acked=7)), 0)
    assert made.role == roles.FENCED, "who writes is not known"
    made.on_event(roles.ArbiterSaid(9, lease.NotLeader(2, "us1")), 0)
    made.on_event(roles.Tick(view(merged=7, acked=6)), 0)
    assert made.role == roles.RETURNING
    assert "up to 6 of 7" in made.reason
    made.on_event(roles.Tick(view(merged=7, acked=7)), 0)
    assert made.role == roles.STANDBY
    assert not made.reason


def test_why_it_waits_is_said() -> None:
    made = writer()
    made.on_event(roles.ArbiterSaid(9, lease.NotYet(1, 77)), 0)
    assert "77 ms" in made.reason
    made.on_event(roles.ArbiterSaid(9, lease.Behind(0)), 0)
    assert "old copy" in made.reason


def test_an_answer_that_was_overtaken_changes_nothing() -> None:
    made = writer()
    made.on_event(roles.LaterEpoch(5, "us1"), 0)
    kept = made.kept
    for answer in (lease.NotLeader(4, "ap1"), lease.Promoted(4), lease.Granted(4, 5_000)):
        assert made.on_event(roles.ArbiterSaid(9, answer), 0) == []
    assert made.on_event(roles.LaterEpoch(4, "ap1"), 0) == []
    assert made.kept == kept


def test_an_arbiter_that_names_us_and_does_not_mean_it_names_nobody() -> None:
    made = writer()
    effects = made.on_event(roles.ArbiterSaid(9, lease.NotLeader(2, "eu1")), 0)
    assert effects[0] == roles.Say(0, 2, None)
    assert made.role == roles.FENCED


def test_a_grant_that_comes_too_late_is_no_lease() -> None:
    made, _ = role()
    asked = made.on_event(roles.Tick(view()), 0)[-1]
    assert isinstance(asked, roles.AskArbiter)
    late = made.on_event(roles.ArbiterSaid(asked.number, lease.Granted(1, 5_000)), 10**10)
    assert late == []


REFUSALS: list[tuple[str, Role, object]] = [
    ("the arbiter promotes", role("us1")[0], roles.Promote(1, old_is_stopped=True)),
    ("look again", role("us1", has_arbiter=False)[0], roles.Promote(7, old_is_stopped=True)),
    ("writes already", role(has_arbiter=False)[0], roles.Promote(1, old_is_stopped=True)),
    ("ask the one that writes", role("us1")[0], roles.HandOver("eu1")),
    ("not another region", writer(), roles.HandOver("eu1")),
]


@pytest.mark.parametrize(("why", "made", "wish"), REFUSALS, ids=[each[0] for each in REFUSALS])
def test_a_wish_that_cannot_be_carried_out_changes_nothing(
    why: str, made: Role, wish: object
) -> None:
    kept = made.kept
    with pytest.raises(roles.RefusedError, match=why):
        made.on_event(wish, 0)
    assert made.kept == kept
    assert made.role != roles.DRAINING


def test_h96_a_standby_that_holds_too_little_is_handed_nothing() -> None:
    made = writer()
    made.on_event(roles.Tick(view(merged=20_000, acked=1)), 0)
    with pytest.raises(roles.RefusedError, match="lacks 19999 frames"):
        made.on_event(roles.HandOver("us1"), 0)


def test_a_hand_over_waits_until_all_is_merged_and_is_given_up_in_time() -> None:
    made = writer()
    assert made.on_event(roles.HandOver("us1"), 0) == [roles.Say(0, 1)]
    for unfinished in (view(merged=5, acked=4), view(merged=5, acked=5, in_flight=1)):
        effects = made.on_event(roles.Tick(unfinished), 1)
        assert [type(effect) for effect in effects] == [roles.AskArbiter]
    # The lease is kept meanwhile, and no record is taken under it.
    asked = made.on_event(roles.Tick(view(merged=5, acked=4)), 2)[-1]
    assert isinstance(asked, roles.AskArbiter)
    assert made.on_event(roles.ArbiterSaid(asked.number, lease.Granted(1, 5_000)), 2) == []
    assert made.role == roles.DRAINING
    made.on_event(roles.Tick(view(merged=5, acked=4)), 10**10)
    assert made.role == roles.WRITER
    assert "given up" in made.reason


def test_a_hand_over_releases_before_it_promotes() -> None:
    made = writer()
    made.on_event(roles.HandOver("us1"), 0)
    effects = made.on_event(roles.Tick(view(merged=5, acked=5)), 1)
    assert effects == [roles.GiveTo("us1", 1, 2)]
    assert made.lease_left_ns(1) == 0
    assert made.on_event(roles.Tick(view(merged=5, acked=5)), 2) == []


def test_a_candidate_says_that_it_takes_over_only_where_nobody_else_can_get_a_lease() -> None:
    made, _ = role("us1")
    called = made.on_event(roles.ArbiterSaid(1, lease.Promoted(2)), 0)
    assert roles.Say(0, 2, None, taking_over=True) in called
    again, effects = role("us1", kept=made.kept)
    assert roles.Say(0, 2, None, taking_over=True) in effects, "nor after a crash"
    led = again.on_event(roles.ArbiterSaid(2, lease.NotLeader(3, "eu1")), 0)
    assert roles.Say(0, 3, "eu1") in led
    alone, _ = role("us1", has_arbiter=False)
    assert roles.Say(0, 65) in alone.on_event(roles.Promote(1, old_is_stopped=False), 0)


def test_h96_a_candidate_fetches_what_a_fenced_region_holds_before_it_serves() -> None:
    made, _ = role("us1")
    made.on_event(roles.ArbiterSaid(1, lease.Promoted(2)), 0)
    said = roles.PeerSaid("ap1", roles.STANDBY, 2, "us1", {"eu1": 9})
    assert made.on_event(said, 0)[-1] == roles.Fetch("ap1", "eu1")
    assert made.kept.step == roles.LEARN
    assert "eu1 up to 9" in made.reason
    made.on_event(roles.Tick(view(merged=9)), 0)
    assert made.kept.step == roles.ROUTE
    mirror = roles.View({"eu1": 8}, {"eu1": 9}, {})
    other, _ = role("us1")
    other.on_event(roles.ArbiterSaid(1, lease.Promoted(2)), 0)
    other.on_event(said._replace(stored={}), 0)
    other.on_event(roles.Tick(mirror), 0)
    assert other.kept.step == roles.ROUTE
    third, _ = role("us1")
    third.on_event(roles.ArbiterSaid(1, lease.Promoted(2)), 0)
    third.on_event(roles.Tick(mirror), 0)
    effects = third.on_event(said._replace(stored={}), 0)
    assert third.kept.step == roles.LEARN, "our own mirror is ahead of our index"
    assert roles.Fetch not in {type(effect) for effect in effects}


def test_h45_a_region_that_lost_its_own_log_does_not_serve_without_it() -> None:
    made, _ = role("us1")
    made.on_event(roles.ArbiterSaid(1, lease.Promoted(2)), 0)
    effects = made.on_event(roles.PeerSaid("ap1", roles.STANDBY, 2, "us1", {"us1": 9}), 0)
    assert made.kept.step == roles.LEARN
    assert [type(effect) for effect in effects] == [roles.Persist]


def test_a_crash_after_opening_goes_on_with_the_route() -> None:
    kept = Kept(roles.PROMOTING, 2, None, roles.OPEN)
    made, _ = role("us1", kept=kept)
    effects = made.on_event(roles.Tick(view()), 0)
    assert effects[:2] == [roles.Adopt(2), roles.Persist(kept._replace(step=roles.ROUTE))]
    assert isinstance(effects[2], roles.AskArbiter)
    assert effects[2].region_epoch == 2


def test_a_region_without_an_arbiter_follows_who_writes() -> None:
    made, _ = role("ap1", has_arbiter=False)
    made.on_event(roles.LaterEpoch(65, None), 0)
    told = roles.PeerSaid("us1", roles.WRITER, 65, "us1", {})
    assert roles.Say(0, 65, "us1") in made.on_event(told, 0)
    assert made.kept.leader == "us1"
    assert made.on_event(told, 0) == []


def test_a_fenced_region_follows_whoever_names_itself_for_the_epoch_that_fenced_it() -> None:
    placement = Placement("open", ("eu1", "us1"), WARM_STANDBY, 2, "eu1")
    made = Role(placement, "eu1", kept=None, terms=Terms(), has_arbiter=False, rank=0)
    made.start()
    made.on_event(roles.LaterEpoch(65), 0)  # a peer refused a batch, and did not say for whom
    assert made.follows is None
    made.on_event(roles.LaterEpoch(65, "eu1"), 0)
    assert made.follows is None, "nobody follows itself by hearsay"
    made.on_event(roles.LaterEpoch(65, "us1"), 0)
    assert made.follows == "us1", "else the candidate waits for it for ever"
    assert made.on_event(roles.LaterEpoch(65, "ap1"), 0) == [], "an epoch has one owner"
