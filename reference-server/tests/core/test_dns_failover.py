"""Names and failover: the resolver's table, and the closed form of recovery (spec/roles.md 9)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from fractal_lba_server.core.dns_failover import (
    ANYWHERE,
    Record,
    record_faults,
    recovery,
    resolve,
)
from fractal_lba_server.core.health import ProbeRule

SLOW = ProbeRule(interval_ms=10_000, timeout_ms=2_000, failures=3)
"""The literal probe: 10 s, three failures."""

LITERAL = [Record("EU", "eu1", None, 300), Record("NA", "us1", None, 300)]
"""The literal example: two places, aliases whose target health stands for the probe, 300 s."""

OURS = [
    Record("EU", "eu1", "eu1 /readyz", 30),
    Record("NA", "us1", "us1 /readyz", 30),
    Record(ANYWHERE, "eu1", "eu1 /readyz", 30),
    Record(ANYWHERE, "us1", "us1 /readyz", 30, priority=1),
]

PLACES = ("EU", "NA", "AS")
DOWN = [set(lost) for count in range(3) for lost in itertools.combinations(["eu1", "us1"], count)]


def judge_h50(records: Sequence[Record]) -> list[str]:
    """Ask from every place with every set of regions down; name who gets no answer."""
    return [
        f"{place} gets nothing while {sorted(down)} are down"
        for place in PLACES
        for down in DOWN
        if resolve(records, place, down) is None
    ]


def judge_h51(records: Sequence[Record]) -> list[str]:
    """Name who is sent to a region that is down although another is up."""
    return [
        f"{place} is sent to {found} which is down"
        for place in PLACES
        for down in DOWN[:-1]
        if (found := resolve(records, place, down)) in down
    ]


def judge_h49(records: Sequence[Record], recover_s: float = 300) -> list[str]:
    """Name the records under which a client may take longer than the promise."""
    return [
        f"{one.region}: up to {longest:.0f} s"
        for one in records
        if (longest := recovery(SLOW, propagation_s=60, ttl_s=one.ttl_s).longest_s) > recover_s
    ]


def test_h49_the_time_to_live_is_part_of_the_time_to_recover() -> None:
    assert judge_h49(OURS) == []
    assert judge_h49(LITERAL) == ["eu1: up to 392 s", "us1: up to 392 s"]


def test_h50_every_client_is_answered() -> None:
    assert judge_h50(OURS) == []
    assert judge_h50(LITERAL) != []


def test_h51_a_region_that_is_down_is_not_answered() -> None:
    assert judge_h51(OURS) == []
    assert judge_h51(LITERAL) != []


def test_the_faults_of_the_literal_example_are_named() -> None:
    literal = list(record_faults(LITERAL, SLOW, propagation_s=60, recover_s=300))
    assert [fault.pointer for fault in literal] == [
        "/records", "/records/0/health_check", "/records/0/ttl_s", "/records/1/health_check",
        "/records/1/ttl_s",
    ]  # fmt: skip
    assert "208 s" in str(literal[2])
    assert list(record_faults(OURS, SLOW, propagation_s=60, recover_s=300)) == []


@pytest.mark.parametrize(
    ("place", "down", "region"),
    [
        ("EU", set(), "eu1"),
        ("EU", {"eu1"}, "us1"),
        ("AS", set(), "eu1"),
        ("AS", {"eu1"}, "us1"),
        ("NA", {"eu1", "us1"}, "eu1"),
    ],
)
def test_where_a_client_is_sent(place: str, down: set[str], region: str) -> None:
    assert resolve(OURS, place, down) == region


def test_recovery_has_the_mean_of_its_closed_form() -> None:
    found = recovery(SLOW, propagation_s=60, ttl_s=300)
    assert found == (25 + 2 + 60 + 150, 30 + 2 + 60 + 300)
