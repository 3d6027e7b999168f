"""Claims about dedup shards: the ring, its failures, and how keys move (C024 to C044, C102)."""

from __future__ import annotations

from math import ceil, log2
from typing import Final

from fractal_lba.ring import VNODES, Ring, ring_key
from fractal_lba_server.core.migration import Refused
from fractal_lba_server.core.migration_plan import Wish, make_plan
from fractal_lba_server.core.quota import Buckets
from fractal_lba_server.core.ring_document import RingDocument, ShardInfo

from .. import formulas as f
from .checking import Run, checks
from .checkout import vectors
from .models_shards import (
    keys,
    names,
    neighbour_shares,
    resubmit_while_down,
    ring,
    roll_back,
    share_of,
)
from .played import agrees
from .sources import HORIZON_S, PER_S, RESIDENT
from .verdicts import (
    CONDITIONAL,
    HOLDS,
    REFUTED,
    DisagreementError,
    Finding,
    agree,
    duration,
    percent,
    share_agrees,
    share_text,
)

COPY_PER_S: Final = 1_000


@checks("C024")
def vnodes(run: Run) -> Finding:
    """Count the points of the SDK's ring."""
    counts = [ring(shards).point_count for shards in (1, 2, 3, 8)]
    good = VNODES == 150 and counts == [150, 300, 450, 1200]
    return Finding(
        HOLDS if good else REFUTED,
        f"fractal_lba.ring: {VNODES} points a shard, {counts[2]} for 3 shards, {counts[3]} for 8",
        "exact",
        facts={"points": counts[2]},
    )


@checks("C025")
def balance(run: Run) -> Finding:
    """Give the exact shares, and hold them against the golden vectors."""
    _shares_are_golden()
    off, texts = {}, []
    for shards in range(2, 13):
        shares = [float(share) for share in ring(shards).shares().values()]
        off[shards] = max(abs(share * shards - 1) for share in shares)
        spread = f.share_cv(shards, VNODES)
        if off[shards] > 4 * spread:
            message = f"shares of {shards} are further off than four deviations of {spread:.3f}"
            raise DisagreementError(message)
        if shards in {3, 4}:
            texts.append(f"N={shards}: " + " / ".join(f"{share:.4f}" for share in shares))
    worst = max(off, key=off.__getitem__)
    points = ceil(f.largest(lambda v: f.share_cv(12, round(v)) > 0.01, VNODES, 100_000))
    return Finding(
        CONDITIONAL if off[worst] <= 0.2 else REFUTED,
        f"{'; '.join(texts)}: at most {percent(max(off[3], off[4]))} off 1/N; of 2 to 12 shards "
        f"the worst is {percent(off[worst])} off (N={worst})",
        f"coefficient of variation {percent(f.share_cv(3, VNODES))} (N=3), "
        f"{percent(f.share_cv(12, VNODES))} (N=12)",
        f"say '1/N within a fifth': a spread of 1 % takes {points:,} points a shard at N=12",
        {"worst": round(off[worst], 6)},
    )


def _shares_are_golden() -> None:
    """Compare the SDK's shares with the vectors, where the checkout has them."""
    for case in vectors("ring", "shares"):
        shards = [shard["name"] for shard in case["args"]["shards"]]
        if case["result"] != "valid" or shards != names(len(shards)) or "vnodes" in case["args"]:
            continue
        own = ring(len(shards)).shares()
        for name, share in case["expect"]["shares"].items():
            top, _, bottom = share.partition("/")
            agree(
                f"share of {name}", found=float(own[name]), exact=int(top) / int(bottom), within=0
            )


def _moved(old: int, new: int) -> float:
    return sum(
        (moved.hi - moved.lo + 1) / 2**32 for moved in _document(old).dual(_infos(new), "m").moves()
    )


def _infos(count: int) -> tuple[ShardInfo, ...]:
    return tuple(ShardInfo(name, 1, f"mem://{name}") for name in names(count))


def _document(count: int) -> RingDocument:
    return RingDocument(1, _infos(count))


@checks("C026")
def quarter_moves(run: Run) -> Finding:
    """Give what moves when one shard is added, exactly."""
    found = {n: _moved(n, n + 1) for n in (1, 2, 3, 4, 9)}
    for n, share in found.items():
        within = 4 * f.moved_share_sd(n, n + 1, VNODES)
        agree(f"moved {n} to {n + 1}", found=share, exact=f.moved_share(n, n + 1), within=within)
    texts = ", ".join(f"{n} to {n + 1}: {percent(share)}" for n, share in found.items())
    return Finding(
        CONDITIONAL,
        f"{texts}; the mean is 1/(N+1), so a quarter is right for 3 to 4 alone",
        f"3 to 4: mean 25 %, sd {100 * f.moved_share_sd(3, 4, VNODES):.2f} points",
        "say 1/(N+1)",
        {"three_to_four": round(found[3], 6)},
    )


@checks("C027")
def only_to_the_new(run: Run) -> Finding:
    """Every range that moves must go to the added shard, or come from the removed one."""
    wrong = pieces = 0
    for n in range(1, 9):
        added = _document(n).dual(_infos(n + 1), "m").moves()
        taken = _document(n + 1).dual(_infos(n), "m").moves()
        pieces += len(added) + len(taken)
        wrong += sum(moved.target != f"shard-{n}" for moved in added)
        wrong += sum(moved.source != f"shard-{n}" for moved in taken)
    removed = share_of("shard-3", 4)
    return Finding(
        HOLDS if wrong == 0 else REFUTED,
        f"all {pieces:,} ranges that move for 1 to 9 shards move to the added or from the removed "
        f"shard; removing one of 4 moves {percent(removed)}",
        f"adding: 1/(N+1) in the mean, removing: 1/N; {share_text(wrong, pieces)} of ranges wrong",
        facts={"ranges": pieces},
    )


@checks("C029")
def modulo(run: Run) -> Finding:
    """Move keys under the published remainder, beside the ring."""
    count = run.trials(200_000, 40_000)
    points = [Ring.point(ring_key(*key)) for key in keys(count)]
    before, after = 3, 4
    moved = sum(
        (point % (before * VNODES)) // VNODES != (point % (after * VNODES)) // VNODES
        for point in points
    )
    share_agrees("moved by the remainder", hits=moved, of=count, exact=f.moved_share_modulo(before))
    return Finding(
        REFUTED,
        f"the listing takes a remainder: 3 to 4 shards moves {share_text(moved, count)} of the "
        f"keys, 10 to 11 {percent(f.moved_share_modulo(10))}; the ring here moves "
        f"{percent(_moved(3, 4))} and {percent(_moved(10, 11))}",
        f"N/(N+1) = {percent(f.moved_share_modulo(before))}",
        "sort the points and search, as fractal_lba.ring does",
        {"moved": round(moved / count, 5)},
    )


class _Counted(int):
    """A hash that counts how often the search compares it."""

    compared = 0

    def __gt__(self, other: object) -> bool:
        _Counted.compared += 1
        return int(self) > other  # type: ignore[operator]  # as int's own


@checks("C030")
def look_up(run: Run) -> Finding:
    """Count the comparisons of a look-up."""
    circle, most = ring(3), 0
    search = _Search(circle)
    for key in keys(run.trials(20_000, 3_000)):
        _Counted.compared = 0
        search.pick(ring_key(*key))
        most = max(most, _Counted.compared)
    bound = ceil(log2(circle.point_count + 1))
    return Finding(
        HOLDS if 0 < most <= bound else REFUTED,
        f"a look-up among {circle.point_count} points compares at most {most} times; the published "
        f"walk past an unhealthy shard takes up to {circle.point_count - 1} steps, and this ring "
        "has none: health changes no owner",
        f"ceil(log2(N V + 1)) = {bound}",
        facts={"compared": most},
    )


class _Search(Ring):
    """The SDK's ring, asked with hashes that count."""

    def __init__(self, like: Ring) -> None:
        super().__init__(like.shards, vnodes=like.vnodes)

    @staticmethod
    def point(key: bytes | str) -> int:
        return _Counted(Ring.point(key))


@checks("C031")
def linear(run: Run) -> Finding:
    """Bound the speed-up by the largest share."""
    found = {n: 1 / max(float(share) for share in ring(n).shares().values()) for n in (2, 3, 4, 8)}
    texts = ", ".join(f"N={n}: {speed:.3f}" for n, speed in found.items())
    weights = f.largest(lambda v: f.share_cv(4, round(v)) > 0.01, 150, 100_000)
    return Finding(
        REFUTED,
        f"the shard with the largest share is full first: {texts} times one shard",
        f"at most 1 / largest share: {percent(found[3] / 3)} of N at N=3",
        f"a spread of 1 % takes about {weights:,.0f} points a shard at N=4, or weights",
        {"n3": round(found[3], 4), "n4": round(found[4], 4)},
    )


@checks("C034")
def neighbour_fallback(run: Run) -> Finding:
    """Send every key again while one of three shards is down, and its neighbour takes over."""
    count = run.trials(200_000, 20_000)
    found = resubmit_while_down(count, "shard-1", shards=3, falls_back=True)
    safe = resubmit_while_down(count, "shard-1", shards=3, falls_back=False)
    exact, heirs = share_of("shard-1", 3), neighbour_shares("shard-1", 3)
    share_agrees("taken as new", hits=found.taken_as_new, of=count, exact=exact)
    agree("taken as new here", found=safe.taken_as_new, exact=0, within=0)
    for name, share in heirs.items():
        share_agrees(f"taken by {name}", hits=found.by_neighbour[name], of=count, exact=share)
    split = " + ".join(f"{percent(share)} at {name}" for name, share in heirs.items())
    return Finding(
        REFUTED,
        f"with shard-1 of 3 down the fallback takes {share_text(found.taken_as_new, count)} of "
        f"resubmitted keys as new, and {found.held_twice:,} of {count:,} have two outcomes when it "
        f"is back; here {safe.refused:,} are told to come again until then, and "
        f"{share_text(safe.taken_as_new, count)} are taken. {agrees(run, 'shard-loss')}",
        f"exact share of shard-1: {percent(exact)} = {split}",
        "let health change no owner: refuse (503, come again) what belongs to a shard that is down",
        {"taken": found.taken_as_new, "exact": round(exact, 6), "taken_here": safe.taken_as_new},
    )


@checks("C035")
def several(run: Run) -> Finding:
    """Ask for several shards of many keys."""
    circle, wrong = ring(5), 0
    sent = keys(run.trials(20_000, 3_000))
    for key in sent:
        hashed = ring_key(*key)
        for n in (1, 3, 5, 9):
            found = circle.pick_n(hashed, n)
            good = len(found) == len(set(found)) == min(n, 5) and found[0] == circle.pick(hashed)
            wrong += not good
    cases = sum(case["result"] == "valid" for case in vectors("ring", "pick_n"))
    return Finding(
        CONDITIONAL if wrong == 0 else REFUTED,
        "pick_n gives min(n, shards) different shards, the owner first, and knows nothing of "
        f"health, on purpose (C034). {cases} golden vectors hold it in three languages",
        f"{share_text(wrong, 4 * len(sent))} of answers wrong",
        "say 'N unique shards': whoever asks one that is down is refused and comes again",
        {"wrong": wrong},
    )


@checks("C036")
def throttle(run: Run) -> Finding:
    """Copy through the core's token bucket for a minute, as fast as it lets."""
    buckets, copied, at_ns, burst = Buckets(max_buckets=1), 0, 0, 100
    end_ns = 60 * 1_000_000_000
    while at_ns < end_ns:
        wait_ns = buckets.take("copy", rate_per_s=COPY_PER_S, burst=burst, cost=1, now_ns=at_ns)
        copied += wait_ns == 0
        at_ns += wait_ns
    bound = COPY_PER_S * 60 + burst
    return Finding(
        HOLDS if 0.98 * COPY_PER_S * 60 <= copied <= bound else REFUTED,
        f"{copied:,} keys in 60 s through core.quota: {copied / 60:.1f}/s",
        f"at most rate x time + burst = {bound:,}",
        facts={"copied": copied},
    )


@checks("C037")
def pre_copy(run: Run) -> Finding:
    """Plan the copy at the claimed scale, by formula and by the core's own planner."""
    per_shard = RESIDENT // 3
    counts = dict.fromkeys(names(3), per_shard)
    wish = Wish(rate_per_s=COPY_PER_S, writes_per_s=PER_S, ttl_ms=2 * HORIZON_S * 1_000)
    plan = make_plan(_document(3), _infos(4), counts, wish)
    dual_s, late_s = plan["copy_ms"] / 1_000, plan["copy_ms_without_dual_writes"] / 1_000
    moved = _moved(3, 4)
    agree("copy", found=dual_s, exact=f.copy_s(plan["keys_to_move"], COPY_PER_S), within=1)
    agree(
        "copy behind writes", found=late_s, within=1,
        exact=f.copy_s(plan["keys_to_move"], COPY_PER_S, moved * PER_S),
    )  # fmt: skip
    quarter_s = f.copy_s(RESIDENT / 4, COPY_PER_S)
    rate = ceil(plan["keys_to_move"] / (4 * f.HOUR_S))
    return Finding(
        REFUTED,
        f"of {RESIDENT:.3g} resident keys {plan['keys_to_move']:,} move: {duration(dual_s)} at "
        f"1,000/s with dual writes from the start, {duration(late_s)} without (for an even quarter "
        f"{duration(quarter_s)}). {_refusal(counts)}",
        f"4 h at 1,000/s are {4 * 3600 * COPY_PER_S:,} moved keys",
        f"copy {rate:,} keys/s, or hold at most {int(4 * 3600 * COPY_PER_S / moved):,} keys",
        {"days": round(dual_s / f.DAY_S, 2), "rate_min": rate},
    )


def _refusal(counts: dict[str, int]) -> str:
    """Ask the core's planner for a copy that never ends."""
    wish = Wish(rate_per_s=500, writes_per_s=PER_S)
    try:
        make_plan(_document(3), _infos(4), counts, wish)
    except Refused as refused:
        return f"The planner refuses 500/s: {refused.reasons[0].split(':')[0]}"
    raise DisagreementError("the planner takes a copy that never ends")


@checks("C038")
def phases(run: Run) -> Finding:
    """Add up the phases of the runbook."""
    hours = [(1, 1), (2, 4), (0.5, 0.5), (5 / 60, 5 / 60), (1, 1)]
    low, high = (sum(pair[side] for pair in hours) for side in (0, 1))
    return Finding(
        CONDITIONAL,
        f"the five phases add up to {low:.2f} to {high:.2f} h; 'cleanup 1 h' and 'delete after the "
        f"TTL window' cannot both hold: the window is {duration(HORIZON_S)}",
        "pre-copy: see C037",
        "begin the hour of cleanup after the rollback window and a second verification",
        {"low_h": round(low, 3), "high_h": round(high, 3)},
    )


@checks("C039")
def rollback_threshold(run: Run) -> Finding:
    """Ask how many requests tell 5 % from 4 %, and what happens between 1 % and 5 %."""
    needed = f.requests_to_see(0.05, 0.01)
    return Finding(
        REFUTED,
        f"a rate of 5 % is known to +- 1 point after {needed:,} requests "
        f"({needed / PER_S:.2f} s at {PER_S}/s); from 1 % to 5 % the same runbook's limit is "
        "broken and nothing is rolled back",
        f"{needed:,} requests (95 %)",
        f"roll back above 1 %: {f.requests_to_see(0.01, 0.005):,} requests show it to +- 0.5",
        {"requests": needed},
    )


@checks("C041")
def hit_ratio_drop(run: Run) -> Finding:
    """Count what a drop of the hit ratio lets in."""
    drop, hour = 0.03, f.HOUR_S
    admitted = drop * PER_S * hour
    return Finding(
        REFUTED,
        f"a fall from 12 % to 9 % for an hour at {PER_S}/s is {admitted:,.0f} duplicates taken as "
        "new; the right drop is 0",
        "drop x rate x time",
        "treat any drop as an error: a canary of known duplicates aborts the migration "
        "(spec/dedup.md 8)",
        {"admitted": round(admitted)},
    )


@checks("C102")
def rollback(run: Run) -> Finding:
    """Roll a cutover back, with and without reverse writes."""
    before, after = 500, run.trials(20_000, 3_000)
    bare = roll_back(before, after, reverse_writes=False)
    kept = roll_back(before, after, reverse_writes=True)
    agree("forgotten with reverse writes", found=kept.forgotten, exact=0, within=0)
    share_agrees("forgotten keys", hits=bare.forgotten, of=after, exact=_moved(3, 4))
    return Finding(
        CONDITIONAL,
        f"'revert to the old ring' forgets {share_text(bare.forgotten, after)} of the keys that "
        f"were acknowledged after the cutover; with the reverse writes of core.ring_document "
        f"{kept.forgotten} of {kept.written_after:,}",
        f"exact: {percent(_moved(3, 4))} move from 3 to 4; with reverse writes "
        f"{share_text(kept.forgotten, after)}",
        "write to the old ring as well until the rollback window closes",
        {"forgotten": bare.forgotten, "forgotten_here": kept.forgotten},
    )
