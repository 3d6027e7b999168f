"""Ring vectors are what was computed apart from the oracle, and wrong rings do not give them."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Literal

import pytest

from golden.tests.conftest import cases

SHARES = {
    1: [1.0],
    3: [0.34614, 0.29385, 0.36001],
    4: [0.25761, 0.21441, 0.25723, 0.27075],
}
SPEED_UP = {2: 1.894, 3: 2.778, 4: 3.693, 5: 4.790, 8: 6.870}
MOVED = {"1-2": 0.47197, "1-3": 0.65386, "2-3": 0.36001, "3-4": 0.27075, "4-5": 0.20806}
VNODES = 150
Owner = Callable[[list[str], bytes], str]


def part(share: str) -> float:
    count, _, size = share.partition("/")
    assert size == str(2**32)
    return int(count) / 2**32


def shares(n: int) -> list[float]:
    (case,) = [c for c in cases("ring/shares.json") if c["id"] == f"ring/shares-{n}"]
    assert case["expect"]["points"] == str(VNODES * n)
    return [part(share) for _, share in sorted(case["expect"]["shares"].items())]


@pytest.mark.parametrize("n", SHARES)
def test_shares_are_those_of_the_register_of_claims(n: int) -> None:
    assert [round(share, 5) for share in shares(n)] == SHARES[n]


@pytest.mark.parametrize("n", SPEED_UP)
def test_the_largest_share_bounds_the_speed_up(n: int) -> None:
    assert round(1 / max(shares(n)), 3) == SPEED_UP[n]


@pytest.mark.parametrize("step", MOVED)
def test_movements_are_those_of_the_register_of_claims(step: str) -> None:
    (case,) = [c for c in cases("ring/movement.json") if c["id"] == f"ring/movement-{step}"]
    assert round(part(case["expect"]["share"]), 5) == MOVED[step]
    moved = sum(int(hi) - int(lo) + 1 for lo, hi, _, _ in case["expect"]["ranges"])
    assert f"{moved}/{2**32}" == case["expect"]["share"]


def test_the_pairs_that_a_comment_names_have_one_hash() -> None:
    said = {c["comment"] for c in cases("ring/pick.json") if "comment" in c}
    assert len(said) == 2
    for comment in said:
        one, _, rest = comment.partition(" and ")
        two, _, value = rest.partition(" are both ")
        assert {hashed(point.encode(), "big") for point in (one, two)} == {int(value)}


# --- wrong rings ---------------------------------------------------------------------------------


def hashed(data: bytes, order: Literal["big", "little"]) -> int:
    return int.from_bytes(sha256(data).digest()[:4], order)


def by_points(order: Literal["big", "little"], separator: str = "#") -> Owner:
    points: dict[tuple[str, ...], list[tuple[int, str]]] = {}

    def owner(names: list[str], key: bytes) -> str:
        if tuple(names) not in points:
            points[tuple(names)] = sorted(
                (hashed(f"{name}{separator}{i}".encode(), order), name)
                for name in names
                for i in range(VNODES)
            )
        mine = points[tuple(names)]
        at = hashed(key, order)
        return next((name for point, name in mine if point >= at), mine[0][1])

    return owner


def modulo(names: list[str], key: bytes) -> str:
    return names[hashed(key, "big") % (len(names) * VNODES) // VNODES]


WRONG: dict[str, Owner] = {
    "little-endian": by_points("little"),
    "modulo instead of points": modulo,
    "another separator": by_points("big", "-"),
}


def missed(owner: Owner) -> dict[int, int]:
    """Count the wrong owners of the 1,000 keys of each ring."""
    found = dict.fromkeys((1, 2, 3, 4, 5, 8), 0)
    for case in cases("ring/pick.json"):
        if not case["id"].startswith("ring/owners-"):
            continue
        names = [shard["name"] for shard in case["args"]["shards"]]
        keys = [bytes.fromhex(key) for key in case["args"]["keys"]]
        wrong = [
            owner(names, key) != one
            for key, one in zip(keys, case["expect"]["owners"], strict=True)
        ]
        found[len(names)] += sum(wrong)
    return found


def test_the_rule_written_again_gives_the_owners() -> None:
    assert missed(by_points("big")) == dict.fromkeys((1, 2, 3, 4, 5, 8), 0)


@pytest.mark.parametrize("owner", WRONG.values(), ids=WRONG)
def test_a_wrong_ring_misses_a_third_of_the_owners(owner: Owner) -> None:
    found = missed(owner)
    assert found.pop(1) == 0, "with one shard there is no wrong owner"
    assert min(found.values()) > 333
