"""The plan engine gives what mathematics gives where mathematics knows the answer."""

from __future__ import annotations

import pytest
from plan_scenarios import (
    distance_to_uniform,
    judged,
    ks_bound,
    marks,
    of,
    played,
    two_regions,
)

RUNS = 300

NAMED = {
    "settings": {"probe": {"dns_ttl_s": 60, "propagation_s": 5}},
    "load": {
        "clients": [
            {"name": "eu", "endpoints": ["euw", "use"], "failover": "dns"},
            {"name": "us", "endpoints": ["use", "euw"], "failover": "dns"},
        ]
    },
    "faults": [{"id": "outage", "kind": "region-down", "region": "euw", "at_s": 200}],
}


def test_detection_is_uniform_between_its_bounds() -> None:
    found = [marks(played(two_regions(NAMED), seed), "outage")["detect"] for seed in range(RUNS)]
    low, high = (3 - 1) * 10 + 2, 3 * 10 + 2
    assert all(low < took <= high for took in found)
    assert distance_to_uniform(found, low, high) < ks_bound(RUNS)


def test_a_detection_that_counts_from_the_fault_itself_would_be_seen() -> None:
    found = [marks(played(two_regions(NAMED), seed), "outage")["detect"] for seed in range(RUNS)]
    assert distance_to_uniform([took - 2 for took in found], 22, 32) > ks_bound(RUNS)


def test_reroute_is_detection_propagation_and_a_part_of_the_time_to_live() -> None:
    found = []
    for seed in range(RUNS):
        events = played(two_regions(NAMED), seed)
        ends = marks(events, "outage")
        found.append(ends["reroute"] - ends["detect"])
    assert all(5 <= took < 5 + 60 for took in found)
    assert distance_to_uniform(found, 5, 65) < ks_bound(RUNS)


def test_the_recovery_point_of_periodic_shipping_is_uniform() -> None:
    interval_s, upload_s, transfer_s = 30, 4, 2
    over = {
        "settings": {
            "shipping": {
                "via": "objects", "segment_age_s": interval_s, "upload_s": upload_s,
                "transfer_s": transfer_s,
            }
        },
        "topology": {"links": None},
        "load": {"rate_per_s": 400},
        "faults": [{"id": "outage", "kind": "region-down", "region": "euw", "at_s": 300}],
    }  # fmt: skip
    found = [
        judged(two_regions(over), seed)["incidents"][0]["lost"]["rpo_s"] for seed in range(RUNS)
    ]
    low = upload_s + transfer_s
    spacing_s = 2 / 400
    assert all(low - spacing_s <= point < low + interval_s for point in found)
    assert distance_to_uniform(found, low, low + interval_s) < ks_bound(RUNS)


def test_batches_over_a_link_at_an_interval_give_the_same() -> None:
    over = {
        "settings": {"shipping": {"interval_s": 20, "transfer_s": 3}},
        "topology": {"links": None},
        "load": {"rate_per_s": 100},
        "faults": [{"id": "outage", "kind": "region-down", "region": "euw", "at_s": 300}],
    }
    found = [
        judged(two_regions(over), seed)["incidents"][0]["lost"]["rpo_s"] for seed in range(RUNS)
    ]
    assert all(3 - 0.02 <= point < 3 + 20 for point in found)
    assert distance_to_uniform(found, 3, 23) < ks_bound(RUNS)


def test_the_recovery_point_of_a_cold_standby_has_its_support_and_mean() -> None:
    snapshot_s, sync_s, copy_s, duration_s = 600, 300, 60, 120
    over = {
        "topology": {
            "placements": {
                "open": {"regions": ["euw", "use"], "topology": "cold-standby", "copies": 2}
            }
        },
        "settings": {
            "snapshot": {
                "interval_s": snapshot_s, "duration_s": duration_s, "sync_s": sync_s,
                "copy_s": copy_s, "boot_s": 30,
            }
        },
        "load": {
            "duration_s": 6000, "rate_per_s": 50,
            "clients": [{"name": "eu", "endpoints": ["euw", "use"], "failover": "dns"}],
        },
        "faults": [{"id": "outage", "kind": "region-down", "region": "euw", "at_s": 5000}],
    }  # fmt: skip
    found = [
        judged(two_regions(over), seed)["incidents"][0]["lost"]["rpo_s"] for seed in range(RUNS)
    ]
    low, high = duration_s + copy_s, snapshot_s + sync_s + duration_s + copy_s
    assert all(low - 0.1 <= point < high for point in found)
    mean = snapshot_s / 2 + sync_s / 2 + duration_s + copy_s
    deviation = (snapshot_s**2 / 12 + sync_s**2 / 12) ** 0.5
    assert abs(sum(found) / RUNS - mean) < 3.3 * deviation / RUNS**0.5


@pytest.mark.parametrize("load", [0.25, 0.5, 0.75])
def test_catching_up_after_a_partition_takes_what_the_spare_capacity_allows(load: float) -> None:
    cut_s, rate_per_s = 50, 4_000
    capacity = rate_per_s * 813 / load
    over = {
        "topology": {
            "links": [
                {"from": "euw", "to": "use", "delay_ms": 1, "bandwidth_bytes_per_s": capacity}
            ]
        },
        "load": {
            "duration_s": 400, "rate_per_s": rate_per_s,
            "clients": [{"name": "eu", "endpoints": ["euw"]}],
        },
        "faults": [{"id": "cut", "kind": "partition", "from": "euw", "to": "use", "at_s": 100,
                    "for_s": cut_s}],
        "promises": {"lag_p99_ms_max": 1_000_000},
    }  # fmt: skip
    events = played(two_regions(over))
    lags = [e for e in of(events, "lag") if e["at_ns"] > (100 + cut_s) * 1e9]
    usual = next(e["at_ns"] for e in lags if e["age_ms"] < 500) / 1e9 - 100 - cut_s
    assert usual == pytest.approx(load * cut_s / (1 - load), rel=0.08)
    # What was written before the heal is there sooner: when the queue of that moment has passed.
    assert marks(events, "cut")["catch_up"] - cut_s == pytest.approx(cut_s * load, rel=0.08)


def test_a_link_that_is_too_narrow_never_catches_up() -> None:
    over = {
        "topology": {
            "links": [
                {"from": "euw", "to": "use", "delay_ms": 1, "bandwidth_bytes_per_s": 40_000}
            ]
        },
        "load": {"rate_per_s": 100, "clients": [{"name": "eu", "endpoints": ["euw"]}]},
        "faults": [{"id": "cut", "kind": "partition", "from": "euw", "to": "use", "at_s": 100,
                    "for_s": 100}],
    }  # fmt: skip
    events = played(two_regions(over))
    last = [e for e in events if e["event"] == "digest" and e["after"] == "end"]
    assert len({e["digest"] for e in last}) == 2
