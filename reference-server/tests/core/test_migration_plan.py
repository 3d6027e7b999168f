"""A plan is deterministic, exact, and refuses what cannot end or has no room."""

from __future__ import annotations

import random
from math import ceil

import pytest

from fractal_lba.canonical import jcs
from fractal_lba.errors import ConfigError
from fractal_lba.ring import ring_key
from fractal_lba_server.core.migration import PLANNED, Refused
from fractal_lba_server.core.migration_plan import (
    PLAN_BYTES_MAX,
    UNTHROTTLED_PER_S,
    Wish,
    make_plan,
    plan_rate,
    read_plan,
)
from fractal_lba_server.core.ring_document import RingDocument, ShardInfo, ring_of


def infos(count: int) -> tuple[ShardInfo, ...]:
    return tuple(ShardInfo(f"shard-{i}", 1, f"memory:{i}") for i in range(count))


THREE = RingDocument(1, infos(3))
COUNTS = {"shard-0": 350_000, "shard-1": 295_000, "shard-2": 355_000}


def test_the_same_input_gives_the_same_bytes() -> None:
    plan = jcs(make_plan(THREE, infos(4), COUNTS, Wish()))
    assert plan == jcs(make_plan(THREE, infos(4), dict(reversed(COUNTS.items())), Wish()))
    assert plan != jcs(make_plan(THREE, infos(4), COUNTS, Wish(rate_per_s=999)))


def test_a_plan_reads_back_as_the_state_of_its_migration() -> None:
    made = make_plan(THREE, infos(4), COUNTS, Wish(pause_ms=20, window_ms=5_000, rate_per_s=7_000))
    state = read_plan(jcs(made))
    assert (state.step, state.id) == (PLANNED, made["sha256"][:16])
    assert (state.old, state.new, state.base_ring_epoch) == (infos(3), infos(4), 1)
    assert (state.pause_ms, state.window_ms) == (20, 5_000)
    assert plan_rate(jcs(made)) == 7_000


@pytest.mark.parametrize(("before", "after"), [(1, 2), (1, 3), (2, 3), (3, 4), (4, 5), (4, 3)])
def test_keys_to_move_are_those_that_do(before: int, after: int) -> None:
    keys = [ring_key("acme", f"{random.Random(number).getrandbits(256):064x}")
            for number in range(20_000)]  # fmt: skip
    old, new = ring_of(infos(before)), ring_of(infos(after))
    counts = {shard.name: 0 for shard in infos(before)}
    for key in keys:
        counts[old.pick(key)] += 1
    moved = sum(old.pick(key) != new.pick(key) for key in keys)
    plan = make_plan(RingDocument(1, infos(before)), infos(after), counts, Wish())
    assert abs(plan["keys_to_move"] - moved) < 4 * (20_000 * 0.25) ** 0.5 + len(plan["pairs"])


def test_the_share_is_the_closed_form_exactly() -> None:
    plan = make_plan(THREE, infos(4), COUNTS, Wish())
    above, below = map(int, plan["share"].split("/"))
    assert round(above / below, 5) == 0.27075
    assert sum(pair["hashes"] for pair in plan["pairs"]) * below == above * 2**32


def test_the_time_is_keys_over_rate_with_dual_writes_and_longer_without() -> None:
    plan = make_plan(THREE, infos(4), COUNTS, Wish(rate_per_s=1_000, writes_per_s=2_000))
    above, below = map(int, plan["share"].split("/"))
    assert plan["copy_ms"] == plan["keys_to_move"]
    without_s = plan["keys_to_move"] / (1_000 - above / below * 2_000)
    assert plan["copy_ms_without_dual_writes"] == ceil(without_s * 1000)


def test_h14_a_copy_slower_than_what_it_copies_grows_is_refused() -> None:
    # 2,000 records a second, a quarter of them into the ranges that move, 500 keys a second.
    with pytest.raises(Refused, match=r"grow by 542 keys/s .* never end; raise --rate above 542"):
        make_plan(THREE, infos(4), COUNTS, Wish(rate_per_s=541, writes_per_s=2_000))
    # The literal design: time = keys over rate, whatever grows meanwhile. It promises an end.
    assert make_plan(THREE, infos(4), COUNTS, Wish(rate_per_s=541))["copy_ms"] > 0


def test_h14_a_copy_longer_than_an_entry_lives_is_refused() -> None:
    # 2.4e9 keys of 14 days at 1,000 keys a second: 7.5 days for the quarter that moves.
    counts = dict.fromkeys(COUNTS, 806_400_000)
    day_ms = 24 * 3_600_000
    wish = Wish(rate_per_s=1_000, writes_per_s=2_000, ttl_ms=14 * day_ms)
    assert 7 * day_ms < make_plan(THREE, infos(4), counts, wish)["copy_ms"] < 8 * day_ms
    with pytest.raises(Refused, match=r"longer than the 604800 s .* raise --rate to 108\d or"):
        make_plan(THREE, infos(4), counts, Wish(rate_per_s=1_000, ttl_ms=7 * day_ms))


def test_a_dedup_shard_without_room_is_refused() -> None:
    room = {"shard-3": 1_000_000, "shard-0": 0}
    with pytest.raises(Refused, match=r"shard-3 gets \d+ bytes and has room for 1000000"):
        make_plan(THREE, infos(4), COUNTS, Wish(room_bytes=room))
    assert make_plan(THREE, infos(4), COUNTS, Wish(room_bytes={"shard-3": 10**12}))


def test_all_reasons_are_given_at_once() -> None:
    wish = Wish(rate_per_s=1, writes_per_s=2_000, room_bytes={"shard-3": 1})
    with pytest.raises(Refused) as refused:
        make_plan(THREE, infos(4), COUNTS, wish)
    assert len(refused.value.reasons) == 2


def test_no_throttle_is_planned_with_a_known_rate() -> None:
    plan = make_plan(THREE, infos(4), COUNTS, Wish(rate_per_s=0))
    assert plan["copy_ms"] == ceil(plan["keys_to_move"] * 1000 / UNTHROTTLED_PER_S)


def test_a_plan_that_moves_nothing_or_follows_another_one_is_refused() -> None:
    with pytest.raises(Refused, match="nothing moves"):
        make_plan(THREE, infos(3), COUNTS, Wish())
    with pytest.raises(Refused, match="another migration is on its way: dual at ring_epoch 2"):
        make_plan(THREE.dual(infos(4), "m1"), infos(5), COUNTS, Wish())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda plan: {**plan, "keys_to_move": 1}, "sha256 is not that of its content"),
        (lambda plan: {**plan, "version": 2}, "sha256"),
        (lambda plan: {"version": 1}, "not a plan file: 'sha256'"),
        (lambda plan: [], "not a plan file"),
    ],
)
def test_a_plan_that_was_changed_is_refused(change: object, says: str) -> None:
    plan = make_plan(THREE, infos(4), COUNTS, Wish())
    with pytest.raises(ConfigError, match=says):
        read_plan(jcs(change(plan)))


def test_a_text_that_is_no_json_or_too_long_is_refused() -> None:
    for text in (b"{", b" " * (PLAN_BYTES_MAX + 1)):
        with pytest.raises(ConfigError, match="plan: "):
            read_plan(text)
