"""Write a scenario to start from, with a sentence at every line.

The invariant of this file: what it writes loads without a change, in its short form and with its
control as well, and every number in it that is not the server's own is called an assumption.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Final

TOPOLOGIES: Final = ("active-active", "warm-standby", "cold-standby")

CODES: Final = ("euw", "use", "apn", "euc", "usw", "aps", "eun", "sae")
"""Codes of regions, for as many as are asked for; they are to be replaced."""

REGIONS_MAX: Final = len(CODES)

NAME: Final = "my-plan"
"""The name of a scenario whose file says none."""

_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,63}")


def starting_file(*, topology: str = "active-active", regions: int = 2, name: str = NAME) -> str:
    """Write a scenario in the human form. Raises ValueError for a topology that there is not."""
    if topology not in TOPOLOGIES:
        raise ValueError(f"expected one of {', '.join(TOPOLOGIES)}")
    if not 2 <= regions <= REGIONS_MAX:
        raise ValueError(f"expected 2 to {REGIONS_MAX} regions")
    codes = CODES[:regions]
    title = "The first region burns down" if topology == "cold-standby" else _TITLE
    parts = (
        _head(name if _NAME.fullmatch(name) else NAME, title),
        "\n".join(_topology(topology, codes)),
        "\n".join(_settings(topology)),
        "\n".join(_load(topology, codes)),
        _FIRE if topology == "cold-standby" else _OUTAGE,
        "\n".join(_promises(topology)),
        "\n".join(_control(topology)),
        "\n".join(_short(topology)),
    )
    return "\n\n".join(parts) + "\n"


_TITLE: Final = "The first region is gone for ten minutes"


def _head(name: str, title: str) -> str:
    return f"""\
# A scenario: what there is, what breaks, and what you promise all the same.
#
#   flk-sim run THIS-FILE            play it many times and judge every promise
#   flk-sim run THIS-FILE --out DIR  the same, with a report to hand on
#
# Units stand in the values: ns us ms s min h d w, B kB MB MiB GB, kbit/s Mbit/s MB/s, /s, %.
# What is marked "assumption" is none of ours to know: put your own measurement there.

# The version of this format.
version: 1
# Lower-case words joined by hyphens.
name: {name}
# One line for the head of the report.
title: {title}
# What the report is to answer.
question: Are clients served again in time, and is nothing gone that was promised to stay?"""


def _topology(topology: str, codes: Sequence[str]) -> Iterator[str]:
    yield "topology:"
    yield "  regions:"
    yield "    # Three characters each. Capacity is what a region can take (assumption); prices"
    yield "    # are your provider's, and without them the report has no costs."
    for code in codes:
        prices = "node_price_per_hour: 0.20, storage_price_per_gb_month: 0.08"
        yield f"    - {{code: {code}, capacity: 5000/s, {prices}}}"
    yield "  placements:"
    if topology == "active-active":
        yield "    # Every region writes. A record is `replicated` when two regions hold it."
        yield f"    open: {{regions: [{', '.join(codes)}], topology: active-active, copies: 2}}"
    else:
        if topology == "warm-standby":
            yield "    # One region writes at a time; another one follows and can be promoted."
            rest = ", copies: 2"
        else:
            yield "    # One region runs; another is restored from snapshots. Only the plan engine"
            yield "    # knows this: the server has no cold standby yet."
            rest = ""
        kind = f"topology: {topology}, primary: {codes[0]}{rest}"
        yield f"    open: {{regions: [{', '.join(codes)}], {kind}}}"
    yield "  links:"
    yield "    # One way, so half of a ping; jitter is added to it; the price is for what leaves."
    for a, b in combinations(codes, 2):
        way = "delay: 40ms, jitter: 5ms, bandwidth: 200Mbit/s, price_per_gb: 0.02"
        yield f"    - {{from: {a}, to: {b}, {way}}}"
    if topology == "warm-standby":
        yield "  # Grants the lease without which no region writes."
        yield "  arbiter: true"


def _settings(topology: str) -> Iterator[str]:
    yield _PROBE
    if topology == "warm-standby":
        yield "  # How long a writer may write without asking again: the server's own numbers."
        yield "  lease: {duration: 5s, renew: 1s, drift: 250ms}"
    yield _PEOPLE
    if topology == "cold-standby":
        yield _SNAPSHOT
    yield "  # What is kept beside the regions, and for how long."
    yield "  cost: {currency: EUR, backup_price_per_gb_month: 0.023, retention: 35d}"


_PROBE: Final = """\
settings:
  probe:
    # How often a checker looks, and how long it waits for an answer.
    interval: 10s
    timeout: 2s
    # Failures in a row until a region is down, and successes until it is up again.
    failures: 3
    successes: 2
    # Checkers, and how many of them must agree.
    checkers: 3
    quorum: 2
    # How long resolvers may keep a name.
    dns_ttl: 60s
    # Until all name servers know a change (assumption).
    propagation: {uniform: {min: 5s, max: 30s}}"""

_PEOPLE: Final = """\
  people:
    # false: a name is changed when people say so. true: the checkers alone decide.
    automatic: false
    # From the alarm until somebody looks: half within 45 s, 19 of 20 within 2 min (assumption).
    page: {lognormal: {p50: 45s, p95: 2min}}
    # From looking to deciding, and from deciding to having done it (assumptions).
    decide: {lognormal: {p50: 45s, p95: 100s}}
    act: {uniform: {min: 10s, max: 20s}}
  recovery:
    # How fast a region that was away gets what it missed (assumption).
    catch_up: 50MB/s
    # How long it is looked at before it counts (assumption).
    verify: {uniform: {min: 30s, max: 90s}}
    # Whether clients return to it.
    fail_back: true"""

_SNAPSHOT: Final = """\
  snapshot:
    # How often one is begun, how long taking it lasts, how often finished ones are copied away.
    interval: 5min
    duration: 10s
    sync: 1min
    # How long a copy takes, how long until machines run, how fast they are filled (assumptions).
    copy: 15s
    boot: {lognormal: {p50: 4min, p95: 15min}}
    restore: 200MB/s"""


def _load(topology: str, codes: Sequence[str]) -> Iterator[str]:
    yield "load:"
    yield "  # How long records come; the moments of faults count from its start."
    yield f"  duration: {'2h' if topology == 'cold-standby' else '30min'}"
    yield "  # New records, all clients together, and their mean size."
    yield "  rate: 1000/s"
    yield "  record: 813B"
    yield "  # How long a client keeps a record: until it is on one disk, or in two regions."
    yield f"  outbox_until: {'durable' if topology == 'cold-standby' else 'replicated'}"
    yield "  # A call that takes longer is not a good one; then the client asks elsewhere."
    yield "  patience: 1s"
    yield "  attempt_timeout: 1s"
    yield "  clients:"
    yield "    # Regions in the order in which each client prefers them."
    yield f"    - {{name: with-outbox, endpoints: [{', '.join(codes)}]}}"
    yield "    # Follows the name alone, through the caches of 50 networks (assumption)."
    yield f"    - {{name: by-name, endpoints: [{', '.join(codes)}], failover: dns, resolvers: 50}}"


_FIRE: Final = """\
faults:
  # Kinds, and what each needs: spec/drills.md 6. Every run moves it by a part of `spread`.
  - id: outage
    # The disk is gone for good; what comes back is the last snapshot that was copied away.
    kind: disk-lost
    region: euw
    at: 30min
    spread: 5min
    # How often this happens, for availability and the downtime of a year (assumption).
    per_year: 0.05/y"""

_OUTAGE: Final = """\
faults:
  # Kinds, and what each needs: spec/drills.md 6. Every run moves it by a part of `spread`.
  - id: outage
    kind: region-down
    region: euw
    at: 5min
    for: 10min
    spread: 1min
    # How often this happens, for availability and the downtime of a year (assumption).
    per_year: 0.5/y

steps:
  # Counts what the other regions hold before the first one is back: what would be gone for good.
  - {do: census, census: failover, at: 14min}"""


def _promises(topology: str) -> Iterator[str]:
    cold = topology == "cold-standby"
    yield "promises:"
    yield "  # From the fault until calls succeed again, for the worst client."
    yield f"  rto: {'1h' if cold else '5min'}"
    yield "  # How old the oldest acknowledged record is that is gone."
    yield f"  rpo: {'385s' if cold else '2min'}"
    if cold:
        return
    yield "  # Nothing is gone that a client was told to be in two regions,"
    yield "  no_loss_at_level: replicated"
    yield "  # nor anything that an outbox took, when all is over."
    yield "  no_loss_end_to_end: true"
    yield "  # All regions hold the same in the end."
    yield "  digests_equal: true"
    if topology == "warm-standby":
        yield "  # No two regions ever write at once."
        yield "  single_writer: true"


def _control(topology: str) -> Iterator[str]:
    yield "# A setting with which the promise must fail; if it does not, this scenario is blind."
    yield "control:"
    if topology == "cold-standby":
        yield "  why: a snapshot a day"
        yield "  must_fail: [rpo_s]"
        yield "  overlay: {settings: {snapshot: {interval: 1d}}}"
    else:
        yield "  why: names may be kept for an hour"
        yield "  must_fail: [rto_s]"
        yield "  overlay: {settings: {probe: {dns_ttl: 1h}}}"


def _short(topology: str) -> Iterator[str]:
    yield "# The same in small, for a first look and for the exact engine; laid over what is above."
    yield "short:"
    yield "  settings:"
    yield "    probe: {interval: 1s, timeout: 500ms, dns_ttl: 2s, propagation: 200ms}"
    yield "    people: {page: 1s, decide: 1s, act: 500ms}"
    yield "    recovery: {verify: 500ms}"
    if topology == "warm-standby":
        yield "    lease: {duration: 2s, renew: 400ms, drift: 100ms}"
    if topology == "cold-standby":
        yield "    snapshot: {interval: 5s, duration: 200ms, sync: 1s, copy: 300ms, boot: 2s}"
    yield "  load: {duration: 40s, rate: 20/s, settle: 15s}"
    yield "  faults:"
    if topology == "cold-standby":
        yield "    - {id: outage, kind: disk-lost, region: euw, at: 15s, spread: 5s}"
    else:
        yield "    - {id: outage, kind: region-down, region: euw, at: 5s, for: 20s}"
        yield "  steps:"
        yield "    - {do: census, census: failover, at: 22s}"
    yield "  promises: {steady: 2s, rto: 18s, rpo: 8s}"
