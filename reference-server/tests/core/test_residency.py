"""What may leave a region (spec/roles.md 2); the table is the policy."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from region_documents import document, region

from fractal_lba_server.core import residency
from fractal_lba_server.core.regions import Registry, read_registry
from fractal_lba_server.core.residency import (
    is_locked,
    may_leave,
    shows_tenant_label,
    successors,
)

REGISTRY = read_registry(
    document(
        regions=[
            region("eu1", 1),
            region("us1", 2),
            region("eu2", 3),
            region("old", 4, retired=True),
        ]
    )
)
KINDS = sorted(residency.WITHIN_PLACEMENT | residency.ANYWHERE)

ALLOWED = {
    *itertools.product(["open"], residency.WITHIN_PLACEMENT, ["eu1", "us1", "eu2"]),
    *itertools.product(["eu-only"], residency.WITHIN_PLACEMENT, ["eu1", "eu2"]),
    *itertools.product(["open", "eu-only"], residency.ANYWHERE, ["eu1", "us1", "eu2"]),
}


@pytest.mark.parametrize("placement", ["open", "eu-only", "unknown"])
@pytest.mark.parametrize("region_code", ["eu1", "us1", "eu2", "old", "zz9"])
@pytest.mark.parametrize("kind", [*KINDS, "something-new"])
def test_denied_unless_a_row_allows_it(placement: str, region_code: str, kind: str) -> None:
    expected = (placement, kind, region_code) in ALLOWED
    assert may_leave(REGISTRY, placement, kind, region_code) is expected


def test_metrics_do_not_name_tenants_of_locked_placements() -> None:
    assert shows_tenant_label("open")
    assert not shows_tenant_label("eu-only")
    assert is_locked("eu-only")


def judge_h57(choose: Any) -> list[str]:
    """Walk every loss of regions; name those whose successor may not hold the placement."""
    codes = ["eu1", "us1", "eu2"]
    return [
        f"without {lost}: {code}"
        for count in range(len(codes) + 1)
        for lost in itertools.combinations(codes, count)
        for code in choose(REGISTRY, "eu-only", frozenset(lost))
        if not REGISTRY.may_hold("eu-only", code)
    ]


def literal_geo_failover(
    registry: Registry, placement: str, lost: frozenset[str]
) -> tuple[str, ...]:
    """Any healthy region takes the traffic of one that is down."""
    return tuple(code for code in registry.codes if code not in lost)


def test_h57_a_locked_tenant_fails_over_inside_its_placement_or_not_at_all() -> None:
    assert judge_h57(successors) == []
    assert successors(REGISTRY, "eu-only", frozenset({"eu1"})) == ("eu2",)
    assert successors(REGISTRY, "eu-only", frozenset({"eu1", "eu2"})) == ()
    assert successors(REGISTRY, "unknown", frozenset()) == ()
    assert judge_h57(literal_geo_failover) != []
