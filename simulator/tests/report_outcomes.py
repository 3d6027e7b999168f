"""Plausible outcomes, extras and scenarios for tests of results, reports and comparisons."""

from __future__ import annotations

from random import Random
from typing import Any

from fractal_lba_server.drill.scenario import Scenario
from fractal_lba_server.judge.recovery import PHASES

HOLDS, FAILS, UNPROVEN = "holds", "fails", "not enough evidence"


def scenario(*, control: bool = False, **changes: Any) -> Scenario:
    document: dict[str, Any] = {
        "version": 1,
        "name": "two-regions",
        "title": "The region euw is gone for ten minutes",
        "question": "Are clients served again within five minutes, and is nothing gone?",
        "topology": {"regions": [{"code": "euw"}, {"code": "use"}]},
        "load": {"duration_s": 1800, "rate_per_s": 4000, "warmup_s": 0},
        "faults": [
            {"id": "outage", "kind": "region-down", "region": "euw", "at_s": 300, "per_year": 0.5},
            {"id": "cut", "kind": "partition", "from": "euw", "to": "use", "at_s": 1200},
        ],
        "promises": {"rto_s": 300, "rpo_s": 120, "displaced_max": 0, "steady_s": 30},
        "control": {"why": "a name is kept for an hour", "must_fail": ["rto_s"]},
    }
    return Scenario(document | changes, "two-regions", control)


def outcome(seed: int, **changes: Any) -> dict[str, Any]:
    """Give one run: an outage with eight phases, and a cut that hurts some writes."""
    chance = Random(seed)
    phases = {
        "detect": chance.uniform(20, 32), "decide": chance.lognormvariate(4.2, 0.55), "fence": 2.0,
        "promote": 0.0, "reroute": chance.uniform(5, 95), "catch_up": 0.0, "verify": 0.0,
        "fail_back": 0.0,
    }  # fmt: skip
    rto_s = sum(phases.values())
    lost = chance.random() < 0.2
    records = chance.randrange(1, 900) if lost else 0
    displaced = chance.randrange(5) if chance.random() < 0.3 else 0
    outage = {
        "id": "outage", "kind": "region-down", "region": "euw", "disrupted_s": 300.0,
        "healed_s": 900.0, "declared_s": phases["detect"] + phases["decide"], "rto_s": rto_s,
        "rto_declared_s": rto_s - phases["detect"] - phases["decide"],
        "clients": {"outbox-eu": 6.0 + chance.random(), "dns-eu": rto_s},
        "phases": phases, "later": {"verify": 940.0 + chance.random()},
        "lost": {"records": records, "bytes": 813 * records,
                 "rpo_s": chance.uniform(0.2, 4) if lost else 0.0, "rpo_work_s": 0.3 * lost},
        "effects": {"connections_cut": 40, "requests_hurt": chance.randrange(2000, 9000)},
    }  # fmt: skip
    cut = {
        "id": "cut", "kind": "partition", "region": None, "disrupted_s": 1200.0,
        "healed_s": 1260.0, "declared_s": None, "rto_s": 0.0, "rto_declared_s": None,
        "clients": {"outbox-eu": 0.0, "dns-eu": 0.0}, "phases": dict.fromkeys(PHASES, 0.0),
        "later": {}, "effects": {"bytes_held": 800_000},
        "lost": {"records": 0, "bytes": 0, "rpo_s": 0.0, "rpo_work_s": 0.0},
    }  # fmt: skip
    acked = chance.randrange(3_500_000, 3_600_000)
    euw = {"acked": acked, "winner": acked - records - displaced, "duplicate": 0,
           "displaced": displaced, "lost": records}  # fmt: skip
    use = {"acked": acked + 9, "winner": acked + 4, "duplicate": 5, "displaced": 0, "lost": 0}
    held = (
        HOLDS if rto_s <= 300 else FAILS,
        HOLDS,
        HOLDS if not displaced else FAILS,
    )
    names = ("rto_s", "rpo_s", "displaced_max")
    said = (f"{rto_s:.2f} s of 300 s", "4 s of 120 s", f"{displaced} displaced; allowed 0")
    row: dict[str, Any] = {
        "engine": "plan", "seed": seed, "scenario_digest": "0" * 64, "control": False,
        "trace_sha256": f"{seed:064x}", "valid": True,
        "verdicts": [
            {"name": "complete", "state": HOLDS, "said": "9 events"},
            {"name": "effects", "state": HOLDS, "said": "connections_cut 40"},
            {"name": "accounting", "state": HOLDS, "said": "adds up"},
            *[
                {"name": name, "state": state, "said": words}
                for name, state, words in zip(names, held, said, strict=True)
            ],
        ],
        "incidents": [outage, cut], "accounts": {"euw": euw, "use": use},
        "recovered_late": records // 2, "brought_by_outbox": records - records // 2,
        "conflicts": displaced, "refused": 12, "unknown": 3, "in_flight": 80,
        "calls": {"outbox-eu": {"count": 1_800_000, "good": 1_800_000 - 8000},
                  "dns-eu": {"count": 1_800_000, "good": 1_800_000 - int(1000 * rto_s)}},
        "anomalies": {"double_winner": 0, "divergence": 0, "lost": records},
        "not_judged": {"stale_read": "runs of records carry no reads"},
        "simulated_s": 1830.0, "events": 5200,
    }  # fmt: skip
    return row | changes


def outcomes(count: int, first: int = 1) -> list[dict[str, Any]]:
    return [outcome(first + turn) for turn in range(count)]


def what_if(change: str, value: float, half: float, **more: Any) -> dict[str, Any]:
    return {
        "name": change, "change": change, "set": {"settings.probe.dns_ttl_s": 30},
        "metric": "rto_s_p95", "unit": "s", "before": 320.0, "after": 320.0 + value,
        "difference": {"value": value, "low": value - half, "high": value + half}, "n": 1000,
    } | more  # fmt: skip


def extras() -> dict[str, Any]:
    rows = [
        what_if("Decide automatically instead of paging somebody", -92.0, 8.0, cost_per_month=0.0),
        what_if("DNS TTL 30 s instead of 60 s", -31.0, 4.0, cost_per_month=12.0),
        what_if("Probe every 5 s instead of every 10 s", -14.0, 2.5),
        what_if("A third node in each region, in case a load of twice the size arrives", 0.4, 1.5),
    ]
    points = [
        {"label": f"ship every {s} s", "set": {"settings.shipping.interval_s": s},
         "rto_p95_s": 200 + s, "rpo_p95_s": 4.0 + s, "cost_per_month": 900 + 9000 / s,
         "pareto": s != 10}
        for s in (5, 10, 15, 30, 60)
    ]  # fmt: skip
    sides = {
        "DNS TTL": ("10 s", 271.0, "5 min", 512.0), "Time to decide": ("0 s", 228.0, "5 min", 480.0),
        "Probe interval": ("1 s", 300.0, "30 s", 361.0), "Failures": ("2", 310.0, "5", 340.0),
    }  # fmt: skip
    return {
        "remediations": rows, "what_ifs": rows,
        "smallest": [{"promise": "rto_s", "path": "settings.probe.dns_ttl_s", "from": 60,
                      "value": 41, "unit": "s", "runs": 1000,
                      "said": "rto_s <= 300 holds with a DNS TTL of 41 s (now 60 s)"}],
        "tornado": [
            {"name": name, "path": "x", "metric": "rto_s_p95", "unit": "s", "base": 320.0,
             "low": {"set": low, "value": at}, "high": {"set": high, "value": to}}
            for name, (low, at, high, to) in sides.items()
        ],
        "sweep": {"paths": ["settings.shipping.interval_s"], "points": points},
        "cost": {"currency": "USD", "complete": False,
                 "missing": ["settings.cost.backup_price_per_gb_month"],
                 "per_month": {"nodes": 876.0, "storage": 101.2, "backup": 0.0, "egress": 168.0,
                               "total": 1145.2},
                 "rows": [], "assumptions": ["a month has 730 hours"]},
    }  # fmt: skip
