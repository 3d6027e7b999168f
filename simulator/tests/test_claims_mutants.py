"""A changed formula, a wrong rule of the core or a wrong model is caught by the claims it is in."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from claims_rows import EVERY, FUNCTIONS, QUICK, checked

from fractal_lba_server.core import dedup, lease
from fractal_lba_server.core.first_write import Merge
from fractal_lba_sim import formulas
from fractal_lba_sim.claims.checking import Row, run_checks

NO_CLAIM = {
    # In no claim of the register; hand values, draws and scipy hold them in test_formulas.
    "both_down", "conflict_per_key", "gaussian_scale", "in_sequence", "is_stable_shipping",
    "lag_mm1_s", "mean_abs_normal", "outage", "records_behind", "slowest_of",
    "yearly_downtime",
}  # fmt: skip
SLOW = {"C002", "C003", "C005"}
"""Asked last, where several claims use one formula."""


def row_of(id: str) -> Row:
    (row,) = run_checks([EVERY[id]], QUICK)
    return row


def _off(value: Any) -> Any:
    """Change what a formula gives by a tenth."""
    if isinstance(value, tuple):
        return type(value)(*(_off(part) for part in value))
    if isinstance(value, int):
        return value + max(1, value // 10)
    return value * 1.1


@pytest.mark.parametrize("name", sorted(FUNCTIONS.keys() - NO_CLAIM))
def test_a_changed_formula_changes_a_row(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clean, right = checked(), FUNCTIONS[name]
    ids = sorted(clean.users[name], key=lambda claim: (claim in SLOW, claim))
    assert ids, f"no claim uses {name}: list it in NO_CLAIM, and test it elsewhere"
    monkeypatch.setattr(formulas, name, lambda *a, **k: _off(right(*a, **k)))
    assert any(row_of(id) != clean.rows[id] for id in ids)


def test_the_list_of_formulas_without_a_claim_is_right() -> None:
    assert {name for name, ids in checked().users.items() if not ids} == NO_CLAIM


# --- wrong rules ----------------------------------------------------------------------------


def _never_expires(row: Any, claim: Any, now_ms: int) -> Any:
    return dedup.claim_row(row, claim, 0)


def _always_new(row: Any, claim: Any, now_ms: int) -> Any:
    return dedup.claim_row(None, claim, now_ms)


def _never_new(row: Any, claim: Any, now_ms: int) -> Any:
    standing = row or dedup.claim_entry(claim._replace(owner="other"))
    return dedup.claim_row(standing, claim, now_ms)


def _grants_at_once(row: Any, region: str, epoch: int, mark: Any, now_ns: int, terms: Any) -> Any:
    return lease.ask(row._replace(busy_until_ns=0), region, epoch, mark, now_ns, terms)


def _by_arrival(key: Any, frame: Any, kid: str, standing: Any, rank: Any) -> Any:
    from fractal_lba_server.core.first_write import Apply

    return Apply(key, frame, kid)


def _later_wins(a: Any, b: Any, rank: Any) -> Any:
    from fractal_lba_server.core.first_write import merge

    met = merge(a, b, rank)
    return Merge(met.other, met.winner, met.kind)


class _Impatient:
    """A checker that calls a region down at the first failure."""

    def __init__(self, rule: Any) -> None:
        self.up = True

    def heard(self, ok: bool, now_ns: int) -> bool:
        return not ok


class _FrozenClock:
    """A clock of lag that stops with its shipper."""

    def grew(self, *_: Any) -> None: ...
    def held(self, *_: Any) -> None: ...

    def lag(self, _: int) -> Any:
        from fractal_lba_server.core.governor import Lag

        return Lag(0, 0, 0)


class _Hasty:
    """Levels that call a record replicated when it is durable here."""

    def __init__(self, **_: Any) -> None:
        self.replicated = 0

    def synced(self, seq: int, _: int) -> None:
        self.replicated = seq

    def acked(self, *_: Any) -> None: ...


class _Open:
    """A bucket that never waits."""

    def __init__(self, **_: Any) -> None:
        self.taken = 0

    def take(self, *_: Any, **named: Any) -> int:
        self.taken += 1
        return 0 if self.taken < 200_000 else 10**12


def _reads_anything(data: bytes, _: int) -> Any:
    return iter(range(50))


WRONG: list[tuple[str, str, Any, str]] = [
    # module of the claims, its name, what stands there instead, the claim that must fail
    ("models_shards", "claim_row", _always_new, "C014"),
    ("models_shards", "claim_row", _always_new, "C065"),
    ("models_shards", "claim_row", _always_new, "C034"),
    ("models_shards", "claim_row", _never_expires, "C014"),
    ("models_shards", "claim_row", _never_expires, "C065"),
    ("models_shards", "claim_row", _never_new, "C034"),
    ("models_shipping", "Probe", _Impatient, "C007"),
    ("models_shipping", "Probe", _Impatient, "C002"),
    ("models_shipping", "LagClock", _FrozenClock, "C003"),
    ("models_shipping", "LagClock", _FrozenClock, "C005"),
    ("models_shipping", "Levels", _Hasty, "C006"),
    ("models_roles", "ask", _grants_at_once, "C141"),
    ("models_roles", "ask", _grants_at_once, "C022"),
    ("models_roles", "resolve", _by_arrival, "C015"),
    ("models_roles", "resolve", _by_arrival, "C021"),
    ("models_roles", "merge", _later_wins, "C021"),
    ("checks_regions", "frames", _reads_anything, "C017"),
    ("checks_shards", "Buckets", _Open, "C036"),
    ("checks_regional", "may_leave", lambda *_: True, "C153"),
    ("checks_regional", "shows_tenant_label", lambda _: True, "C153"),
    ("checks_sdk", "check_record", lambda *_, **__: None, "C079"),
    ("checks_sdk", "plan", lambda *_: __import__("fractal_lba.retry").retry.Wait(0, 0, 0), "C081"),
    ("checks_tiers", "lifecycle_faults", lambda *_, **__: [], "C062"),
    ("checks_tiers", "blended_ms", lambda *_: 100.0, "C050"),
    ("checks_tiers_sizes", "resident_bytes", lambda *_: 1.0, "C056"),
    ("checks_shards", "neighbour_shares", lambda *_: {"shard-0": 0.2, "shard-2": 0.09}, "C034"),
    ("checks_shards", "VNODES", 100, "C024"),
    ("checks_queue", "worst_wait", lambda **_: __import__("types").SimpleNamespace(late=0), "C066"),
]


@pytest.mark.parametrize(
    ("module", "name", "instead", "id"), WRONG, ids=[f"{row[1]}-{row[3]}" for row in WRONG]
)
def test_a_wrong_rule_makes_its_claim_fail(
    module: str, name: str, instead: Any, id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module(f"fractal_lba_sim.claims.{module}"), name, instead)
    try:
        row = row_of(id)
    except (IndexError, StopIteration, KeyError):
        return  # the wrong rule gives nothing to speak about: the check stops, loudly
    assert not checked().rows[id].is_failure
    assert row.is_failure, row.finding.said
