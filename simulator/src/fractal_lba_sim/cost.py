"""What a topology costs in a month: nodes, storage, backup, and bytes between regions.

The invariant of this file: every price comes from the scenario. A price or a quantity that the
scenario does not declare is named as missing and adds nothing, so a total with something missing
is a lower bound and says so. Pure: a document in, a document out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

HOURS_PER_MONTH: Final = 730
"""A twelfth of 365 days, as price lists count."""

BYTES_PER_GB: Final = 10**9
RECORD_BYTES: Final = 813
"""Mean size of a record, where the load names no other (spec/schemas/scenario.json)."""

PARTS: Final = ("nodes", "storage", "backup", "egress")

ASSUMPTIONS: Final = (
    "a month has 730 hours, a gigabyte 10^9 bytes",
    "the rate of the load is held all month",
    "every region that keeps a placement has its records for the days of retention",
    "bytes are those of the records; framing, indexes, requests and compression are not counted",
    "each record crosses once to each other region of its placement",
)


CURRENCY: Final = "settings.cost.currency"
"""Without it there is a number, but nobody knows of what."""


@dataclass(slots=True)
class Bill:
    """The lines of a month and what could not be priced."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def add(self, what: str, where: str, quantity: float | None, unit: str, price: Price) -> None:
        """Add a line, or name what it lacks; nothing is free for want of a price."""
        if quantity == 0:
            return
        if price.value is None and price.path not in self.missing:
            self.missing.append(price.path)
        if quantity is None or price.value is None:
            return
        self.rows.append({
            "what": what, "where": where, "quantity": quantity, "unit": unit,
            "price": price.value, "cost": quantity * price.value,
        })  # fmt: skip


@dataclass(frozen=True, slots=True)
class Price:
    """A price and the place where the scenario declares it."""

    value: float | None
    path: str


def cost(document: Mapping[str, Any]) -> dict[str, Any]:
    """Give the cost of a month of a scenario's topology under its load."""
    bill = Bill()
    declared = document.get("settings", {}).get("cost", {})
    regions = document["topology"]["regions"]
    days = declared.get("retention_days")
    for region in regions:
        _nodes(bill, region)
    kept = dict(_kept_bytes_per_s(document))
    if days is None and any(kept.values()):
        bill.missing.append("settings.cost.retention_days")
    backup = Price(
        declared.get("backup_price_per_gb_month"), "settings.cost.backup_price_per_gb_month"
    )
    for region in regions:
        code = region["code"]
        rate = kept.get(code, 0.0)
        stored = None if days is None else rate * days * 86_400 / BYTES_PER_GB
        quantity = 0.0 if not rate else stored
        path = f"topology.regions.{code}.storage_price_per_gb_month"
        price = Price(region.get("storage_price_per_gb_month"), path)
        bill.add("storage", code, quantity, "GB-months", price)
        bill.add("backup", code, quantity, "GB-months", backup)
    for (source, target), rate in sorted(_crossing_bytes_per_s(document).items()):
        moved = rate * HOURS_PER_MONTH * 3_600 / BYTES_PER_GB
        price = _egress_price(document, source, target)
        bill.add("egress", f"{source} to {target}", moved, "GB", price)
    return _statement(bill, declared.get("currency"))


def _statement(bill: Bill, currency: str | None) -> dict[str, Any]:
    per_month = {
        part: sum(row["cost"] for row in bill.rows if row["what"] == part) for part in PARTS
    }
    per_month["total"] = sum(per_month.values())
    if currency is None and bill.rows:
        bill.missing.append(CURRENCY)
    return {
        "currency": currency,
        "per_month": per_month,
        "complete": not [path for path in bill.missing if path != CURRENCY],
        "missing": bill.missing,
        "rows": bill.rows,
        "assumptions": list(ASSUMPTIONS),
    }


def total(document: Mapping[str, Any]) -> float | None:
    """Give the cost of a month; None if a price or a quantity is not declared."""
    found = cost(document)
    return float(found["per_month"]["total"]) if found["complete"] else None


def _nodes(bill: Bill, region: Mapping[str, Any]) -> None:
    code = region["code"]
    path = f"topology.regions.{code}.node_price_per_hour"
    price = Price(region.get("node_price_per_hour"), path)
    bill.add("nodes", code, region.get("nodes", 1) * HOURS_PER_MONTH, "node-hours", price)


def _kept_bytes_per_s(document: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Give the bytes that each region comes to keep in a second."""
    kept: dict[str, float] = {}
    for placement, rates in _written(document).items():
        for code in _members(document, placement):
            kept[code] = kept.get(code, 0.0) + sum(rates.values())
    yield from kept.items()


def _crossing_bytes_per_s(document: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """Give the bytes that cross between two regions in a second."""
    crossing: dict[tuple[str, str], float] = {}
    for placement, rates in _written(document).items():
        for source, rate in rates.items():
            for target in _members(document, placement):
                if target != source:
                    pair = source, target
                    crossing[pair] = crossing.get(pair, 0.0) + rate
    return crossing


def _written(document: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Give, for each placement, the bytes that each region takes in first in a second."""
    load = document["load"]
    tenants = {tenant["id"]: tenant for tenant in load.get("tenants", ())}
    placements = document["topology"].get("placements") or {"open": _everywhere(document)}
    first = "open" if "open" in placements else next(iter(placements))
    total_rate = load["rate_per_s"] * load.get("record_bytes", RECORD_BYTES)
    written: dict[str, dict[str, float]] = {}
    for client, share in _shares(document):
        placement = tenants.get(client.get("tenant"), {}).get("placement", first)
        kind = placements[placement]
        taker = client["endpoints"][0]
        if kind["topology"] != "active-active" or taker not in kind["regions"]:
            taker = kind.get("primary", kind["regions"][0])
        rates = written.setdefault(placement, {})
        rates[taker] = rates.get(taker, 0.0) + share * total_rate
    return written


def _shares(document: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], float]]:
    """Give each client with its share of the load; what is not named is shared evenly."""
    codes = [region["code"] for region in document["topology"]["regions"]]
    clients = document["load"].get("clients") or [{"endpoints": [code]} for code in codes]
    named = sum(client.get("share", 0.0) for client in clients)
    silent = sum("share" not in client for client in clients)
    rest = max(0.0, 1.0 - named) / silent if silent else 0.0
    return [(client, client.get("share", rest)) for client in clients]


def _members(document: Mapping[str, Any], placement: str) -> list[str]:
    placements = document["topology"].get("placements") or {"open": _everywhere(document)}
    return list(placements[placement]["regions"])


def _everywhere(document: Mapping[str, Any]) -> dict[str, Any]:
    codes = [region["code"] for region in document["topology"]["regions"]]
    return {"regions": codes, "topology": "active-active"}


def _egress_price(document: Mapping[str, Any], source: str, target: str) -> Price:
    """Find the price of a gigabyte from one region to another; the last link that fits counts."""
    found = None
    for link in document["topology"].get("links", ()):
        ends = link["from"], link["to"]
        back = link.get("both", True) and ends == (target, source)
        if ends == (source, target) or back:
            found = link.get("price_per_gb", found)
    return Price(found, f"topology.links.{source}-{target}.price_per_gb")
