"""Claims about what tiers remember and how fast they answer (C032, C048 to C052, C062 to C065)."""

from __future__ import annotations

import zlib
from math import exp
from typing import Final

from fractal_lba_server.core.capacity import Mode, blended_ms, sigma_of, walk_ms
from fractal_lba_server.core.tiering import TierBook, TierPolicy, lifecycle_faults

from .. import formulas as f
from .checking import Run, checks
from .checkout import vectors
from .models_tiers import (
    AGES_S,
    HOT_ONLY,
    WRITE_THROUGH,
    Payload,
    duplicate_is_known,
    forgotten,
    hits_after_ttl_change,
)
from .played import agrees
from .verdicts import (
    CONDITIONAL,
    HOLDS,
    REFUTED,
    Finding,
    agree,
    duration,
    percent,
    share_agrees,
    share_text,
)

LIMIT_MS: Final = 200.0
COLD_P95_MS: Final = 500.0


@checks("C032")
def throughput(run: Run) -> Finding:
    """Ask what a lock that is held over a write to a store allows."""
    rates = {ms: 1_000 / ms for ms in (1, 5)}
    in_flight = 2_000 * 5 / 1_000
    return Finding(
        REFUTED,
        f"the listing holds one lock over the write: {rates[1]:,.0f}/s at 1 ms, {rates[5]:,.0f}/s "
        "at the stated 5 ms, whatever else is fast. Here nothing is locked while a tier is asked "
        "(spec/tiers.md 2.7); what this server takes is measured, not simulated "
        "(docs/performance.md)",
        "at most 1 / latency",
        f"keep {in_flight:g} writes in flight at 5 ms, or answer in {1000 / 2000:g} ms under the "
        "lock",
        {"per_s_at_5_ms": rates[5]},
    )


@checks("C048")
def lifetimes(run: Run) -> Finding:
    """Read the defaults of the core's policy, and one tenant's own."""
    book = TierBook.from_document({"tenants": {"tenantA": {"hot_ttl": 7_200}}})
    plain, own = book.for_tenant("other"), book.for_tenant("tenantA")
    found = (plain.hot_ttl_s, plain.warm_ttl_s, plain.cold_ttl_s, own.hot_ttl_s, own.warm_ttl_s)
    good = found == (3_600, 604_800, 0, 7_200, 604_800)
    return Finding(
        HOLDS if good else REFUTED,
        f"core.tiering: hot {found[0]} s, warm {found[1]} s, cold "
        f"{'for ever' if found[2] == 0 else found[2]}; tenantA hot {found[3]} s, warm {found[4]} s",
        "exact",
        facts={"hot_ttl_s": found[0]},
    )


@checks("C049")
def hit_ratios(run: Run) -> Finding:
    """Ask which workloads have the promised shares."""
    hour, week = f.HOUR_S, 7 * f.DAY_S

    def shares(mean_s: float) -> tuple[float, float, float]:
        older = f.outlives_window(hour, 1 / mean_s), f.outlives_window(week, 1 / mean_s)
        return 1 - older[0], older[0] - older[1], older[1]

    low = f.largest(lambda m: shares(m)[0] >= 0.7, 60, 1e7)
    high = f.largest(lambda m: shares(m)[0] >= 0.6, 60, 1e7)
    warm_low, warm_high = shares(low)[1], shares(high)[1]
    return Finding(
        CONDITIONAL,
        f"the shares are the workload's, not the code's. Reads whose ages are exponential give "
        f"60-70 % hot for means of {duration(low)} to {duration(high)}, and then "
        f"{percent(warm_low)} to {percent(warm_high)} warm: at the corner alone both are kept. The "
        "ranges' own corner 60 + 20 % leaves 20 % cold, not below 10 %",
        "hot = G(1 h), warm = G(7 d) - G(1 h), cold = 1 - G(7 d)",
        "declare the ages of reads; these ranges need G(1 h) of 60-70 % and G(7 d) above 90 %",
        {"mean_low_s": round(low, 1), "mean_high_s": round(high, 1)},
    )


def _blend(cold: float, sigma: float) -> float:
    """Give p95 of all reads with 65 % hot, a share cold, the rest warm."""
    return blended_ms([
        Mode(0.65, 1.0, sigma_of(1.0, 5.0)), Mode(0.35 - cold, 10.0, sigma_of(10.0, 50.0)),
        Mode(cold, _cold_median_ms(sigma), sigma),
    ], 0.95)  # fmt: skip


def _cold_median_ms(sigma: float) -> float:
    """Give the median of a lognormal cold tier whose p95 is the stated one."""
    return COLD_P95_MS * exp(-f.normal_quantile(0.95) * sigma)


def _cold_share_max(sigma: float) -> float:
    return f.largest(lambda cold: _blend(cold, sigma) < LIMIT_MS, 0.001, 0.3)


@checks("C050")
def p95_of_the_mixture(run: Run) -> Finding:
    """Give p95 of all reads when a tenth of them is cold."""
    found = {sigma: _blend(0.1, sigma) for sigma in (0.25, 0.5, 1.0)}
    for sigma, ms in list(found.items())[:2]:
        median_ms = _cold_median_ms(sigma)
        agree("p95 is the cold median", found=ms, exact=median_ms, within=0.02 * median_ms)
    most = {sigma: _cold_share_max(sigma) for sigma in (0.25, 0.5)}
    texts = ", ".join(f"sigma {sigma:g}: {ms:.0f} ms" for sigma, ms in found.items())
    return Finding(
        REFUTED,
        f"with 90 % hot and warm the p95 of all reads is the median of cold: {texts} (cold p95 "
        "500 ms)",
        f"below 200 ms with any cold tail only while cold < 5 %; at sigma 0.25 up to "
        f"{percent(most[0.25])}, at 0.5 up to {percent(most[0.5])}",
        "keep cold reads below 5 %, or a cold median below 200 ms",
        {"p95_ms": round(found[0.25], 1), "p95_ms_wide": round(found[0.5], 1)},
    )


@checks("C051")
def promotion(run: Run) -> Finding:
    """Read one old payload three times, with and without promotion in between."""
    old_ms = 8 * 86_400_000
    payload, bare = (Payload(TierPolicy(), written_ms=0) for _ in range(2))
    tiers = [payload.read(old_ms + n * 1_000) for n in range(3)]
    lost = [bare.read(old_ms + n * 1_000, promotes=False) for n in range(3)]
    times = [walk_ms(times_ms, (0, 0, 0)) for times_ms in ((5, 50, 500), (5, 50, 0), (5, 0, 0))]
    good = tiers == ["cold", "warm", "hot"]
    return Finding(
        CONDITIONAL if good else REFUTED,
        f"a payload of 8 days is answered by {', '.join(tiers)} where each promotion ends before "
        f"the next read, and by {', '.join(lost)} where promotions are cancelled with the request, "
        "as listed",
        f"a walk costs what it passes: up to {times[0]:g}, {times[1]:g}, {times[2]:g} ms at the "
        "stated p95",
        "let promotion outlive the request (spec/tiers.md 4.2)",
        {"first": tiers[0], "third": tiers[2]},
    )


@checks("C052")
def promotion_lock(run: Run) -> Finding:
    """Ask how long reads wait behind promotions that hold the one lock."""
    reads, warm_share, write_s = 2_000, 0.25, 0.005
    rate = reads * warm_share
    most = f.largest(lambda r: f.wait_md1_s(r, 1 / write_s) < 0.001, 0.001, 1 / write_s - 1e-6)
    wait_s = f.wait_md1_s(most, 1 / write_s)
    return Finding(
        REFUTED,
        f"the listed promotion takes the exclusive lock for its write of 5 ms: 2,000 reads/s with "
        f"25 % warm ask for {rate:g} of them a second, and {1 / write_s:g} fit, so reads wait "
        "without a bound",
        f"M/D/1: a mean wait of {1000 * wait_s:.2f} ms at {most:.0f} promotions/s",
        f"no lock around a write (as here), or at most {most:.0f} promotions/s for 1 ms",
        {"asked_per_s": rate, "fit_per_s": 1 / write_s},
    )


@checks("C062")
def cold_lifecycle(run: Run) -> Finding:
    """Hand the published lifecycle to the core's check of policies."""
    book = TierBook()
    deletes = lifecycle_faults(book, expire_days=90, storage_class="STANDARD_IA")
    freezes = lifecycle_faults(book, expire_days=None, storage_class="GLACIER")
    allowed = lifecycle_faults(
        TierBook(TierPolicy(cold_ttl_s=90 * f.DAY_S)), expire_days=90, storage_class="GLACIER_IR"
    )
    return Finding(
        REFUTED if deletes and freezes and not allowed else HOLDS,
        f"'for ever' and 'deleted after 90 days' contradict each other, and the core refuses both "
        f"ways: {deletes[0].problem}; {freezes[0].problem}",
        "a storage class whose reads take hours has no p95 of 500 ms",
        "cold_ttl of 90 days and a class that answers in milliseconds: then no fault is found",
        {"refused": len(deletes) + len(freezes)},
    )


@checks("C063")
def hot_ttl_raised(run: Run) -> Finding:
    """Raise the hot TTL from 1 h to 2 h, and ask when older payloads are hot."""

    def is_hot(minute: int, age_min: int) -> bool:
        return hits_after_ttl_change(60 * minute, before_s=3_600, after_s=7_200, age_s=60 * age_min)

    at_30 = max(age for age in range(180) if is_hot(30, age))
    first = next(m for m in range(181) if any(is_hot(m, age) for age in range(61, 120)))
    whole = next(m for m in range(181) if all(is_hot(m, age) for age in range(120)))
    agree("first older payload", found=first, exact=61, within=1)
    return Finding(
        REFUTED,
        f"an entry keeps the expiry it was written with: 30 min after the change nothing older "
        f"than {at_30} min is hot, the first payload older than 1 h is after {first} min, all of "
        f"the two hours are after {whole} min",
        "payloads that had left hot come back only when they are read or warmed",
        f"warm hot from the store at once (spec/tiers.md 4.7), or promise {whole} min",
        {"first_min": first, "whole_min": whole},
    )


@checks("C064")
def compression(run: Run) -> Finding:
    """Compress golden records one by one, as hot would hold them."""
    bodies = [
        bytes.fromhex(case["args"]["body"])
        for case in vectors("submit", "submit")
        if 600 <= len(case["args"]["body"]) // 2 <= 1_200
    ]
    shares = sorted(1 - len(zlib.compress(body, 9)) / len(body) for body in bodies)
    middle = shares[len(shares) // 2]
    return Finding(
        HOLDS if 0.5 <= middle <= 0.7 else CONDITIONAL,
        f"zlib takes about {percent(round(middle * 20) / 20)} off one golden record (median of "
        f"{len(bodies)}, to the next 5 %): ids, roots and signatures are random text",
        "64 hex digits carry 32 bytes: at most 50 % of them can go",
        "compress with a preset dictionary, as cold objects do (spec/tiers.md 7.6), or in batches",
        {"saved_to_5_percent": round(middle * 20) / 20},
    )


@checks("C065")
def every_age(run: Run) -> Finding:
    """Send a duplicate at every age of a tier, to the right design and to the published one."""
    policy = TierPolicy()
    here = [duplicate_is_known(age_s, WRITE_THROUGH, policy) for age_s in AGES_S]
    listed = [duplicate_is_known(age_s, HOT_ONLY, policy) for age_s in AGES_S]
    count, mean_s = run.trials(50_000, 5_000), 3_600.0
    loses = forgotten(count, mean_s, HOT_ONLY, policy)
    keeps = forgotten(count, mean_s, WRITE_THROUGH, policy)
    exact = f.outlives_window(policy.hot_ttl_s, 1 / mean_s)
    agree("duplicates past warm", found=keeps.taken_as_new, exact=0, within=0)
    share_agrees("duplicates past hot", hits=loses.taken_as_new, of=count, exact=exact)
    last = max(age_s for age_s, known in zip(AGES_S, listed, strict=True) if known)
    gone = min(age_s for age_s, known in zip(AGES_S, listed, strict=True) if not known)
    return Finding(
        CONDITIONAL if all(here) else REFUTED,
        f"with warm as the authority a duplicate is one at every age ({len(here)} ages up to 13.9 "
        f"days). The published Set writes hot alone: a duplicate is known at {last // 60} min and "
        f"new from {gone // 60} min on; with gaps of an hour in the mean it takes "
        f"{share_text(loses.taken_as_new, count)} of duplicates as new. "
        f"{agrees(run, 'hot-tier-flush')}. The latency targets are C045 to C047",
        f"{percent(exact)} = e^(-TTL / mean gap); with warm "
        f"{share_text(keeps.taken_as_new, count)}",
        "commit to warm, fill hot afterwards (spec/tiers.md 1.2 and 1.3)",
        {"taken_hot_only": loses.taken_as_new, "taken_here": keeps.taken_as_new},
    )
