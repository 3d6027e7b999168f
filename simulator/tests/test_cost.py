"""The cost of a month, against sums done by hand, and never with a price that nobody declared."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fractal_lba_sim.cost import HOURS_PER_MONTH, cost, total
from fractal_lba_sim.edits import place

SECONDS = HOURS_PER_MONTH * 3600


def document(**over: Any) -> dict[str, Any]:
    found = {
        "topology": {
            "regions": [
                {"code": "euw", "nodes": 3, "node_price_per_hour": 0.5,
                 "storage_price_per_gb_month": 0.10},
                {"code": "use", "nodes": 2, "node_price_per_hour": 0.25,
                 "storage_price_per_gb_month": 0.20},
            ],
            "placements": {"open": {"regions": ["euw", "use"], "topology": "active-active"}},
            "links": [{"from": "euw", "to": "use", "price_per_gb": 0.02}],
        },
        "settings": {
            "cost": {"currency": "EUR", "backup_price_per_gb_month": 0.01, "retention_days": 30}
        },
        "load": {
            "rate_per_s": 1000,
            "record_bytes": 1000,
            "clients": [
                {"name": "a", "endpoints": ["euw", "use"], "share": 0.75},
                {"name": "b", "endpoints": ["use", "euw"], "share": 0.25},
            ],
        },
    }  # fmt: skip
    return {**found, **over}


def test_each_part_is_the_sum_done_by_hand() -> None:
    stored_gb = 1000 * 1000 * 30 * 86_400 / 1e9
    assert stored_gb == 2592
    sent_gb = 1000 * 1000 * SECONDS / 1e9
    found = cost(document())
    assert found["per_month"] == pytest.approx({
        "nodes": 3 * 730 * 0.5 + 2 * 730 * 0.25,
        "storage": 2592 * 0.10 + 2592 * 0.20,
        "backup": 2 * 2592 * 0.01,
        "egress": sent_gb * 0.02,
        "total": 1460 + 777.6 + 51.84 + 52.56,
    })  # fmt: skip
    assert found["currency"] == "EUR"
    assert found["complete"]
    assert found["missing"] == []


def test_each_region_sends_its_own_share_to_the_others() -> None:
    found = cost(document())
    sent = {row["where"]: row["quantity"] for row in found["rows"] if row["what"] == "egress"}
    whole_gb = 1000 * 1000 * SECONDS / 1e9
    assert sent == pytest.approx({"euw to use": whole_gb * 0.75, "use to euw": whole_gb * 0.25})


@pytest.mark.parametrize("kind", ["warm-standby", "cold-standby"])
def test_a_standby_sends_nothing_while_all_is_well(kind: str) -> None:
    changed = document()
    changed["topology"]["placements"]["open"] |= {"topology": kind, "primary": "euw"}
    sent = [row["where"] for row in cost(changed)["rows"] if row["what"] == "egress"]
    assert sent == ["euw to use"]


def test_a_price_may_differ_by_direction() -> None:
    changed = document()
    changed["topology"]["links"] = [
        {"from": "euw", "to": "use", "both": False, "price_per_gb": 0.02},
        {"from": "use", "to": "euw", "both": False, "price_per_gb": 0.09},
    ]
    prices = {r["where"]: r["price"] for r in cost(changed)["rows"] if r["what"] == "egress"}
    assert prices == {"euw to use": 0.02, "use to euw": 0.09}


def test_a_locked_tenant_is_kept_where_it_may_be_and_nowhere_else() -> None:
    changed = document()
    changed["topology"]["placements"]["locked"] = {
        "regions": ["euw"], "topology": "active-active",
    }  # fmt: skip
    changed["load"]["tenants"] = [{"id": "t1", "placement": "locked"}]
    changed["load"]["clients"][0]["tenant"] = "t1"
    rows = cost(changed)["rows"]
    kept = {row["where"]: row["quantity"] for row in rows if row["what"] == "storage"}
    assert kept == pytest.approx({"euw": 2592, "use": 2592 * 0.25})
    assert [row["where"] for row in rows if row["what"] == "egress"] == ["use to euw"]


def test_a_declared_zero_is_a_price() -> None:
    changed = document()
    changed["topology"]["links"][0]["price_per_gb"] = 0
    assert cost(changed)["complete"]
    assert cost(changed)["per_month"]["egress"] == 0


PRICES = (
    "topology.regions.euw.node_price_per_hour",
    "topology.regions.use.node_price_per_hour",
    "topology.regions.euw.storage_price_per_gb_month",
    "topology.regions.use.storage_price_per_gb_month",
    "topology.links.euw-use.price_per_gb",
    "settings.cost.backup_price_per_gb_month",
    "settings.cost.retention_days",
)


@given(st.sets(st.sampled_from(PRICES)))
def test_what_is_not_declared_is_named_and_adds_nothing(absent: set[str]) -> None:
    changed = copy.deepcopy(document())
    for path in absent:
        place(changed, path, None)
    found, whole = cost(changed), cost(document())
    named = {name.replace("use-euw", "euw-use") for name in found["missing"]}
    if "settings.cost.retention_days" in absent:
        assert absent - {name for name in absent if "storage" in name or "backup" in name} <= named
    else:
        assert named == absent
    assert (total(changed) is None) == bool(absent)
    assert found["per_month"]["total"] <= whole["per_month"]["total"]
    assert {(r["what"], r["where"], r["cost"]) for r in found["rows"]} <= {
        (r["what"], r["where"], r["cost"]) for r in whole["rows"]
    }


@given(st.floats(0.01, 100))
def test_twice_the_price_is_twice_the_part(price: float) -> None:
    once, twice = document(), document()
    once["settings"]["cost"]["backup_price_per_gb_month"] = price
    twice["settings"]["cost"]["backup_price_per_gb_month"] = 2 * price
    assert cost(twice)["per_month"]["backup"] == pytest.approx(
        2 * cost(once)["per_month"]["backup"]
    )


def test_a_currency_is_named_as_missing_but_hides_no_number() -> None:
    changed = document()
    del changed["settings"]["cost"]["currency"]
    found = cost(changed)
    assert found["missing"] == ["settings.cost.currency"]
    assert total(changed) == total(document())


def test_the_document_is_not_touched() -> None:
    given_one = document()
    cost(given_one)
    assert given_one == document()
