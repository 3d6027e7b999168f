"""The tier policy file: every fault at once, conditions checked when it is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from fractal_lba_server.core.faults import DocumentError
from fractal_lba_server.core.policy import Policy, PolicyBook
from fractal_lba_server.core.tiering import Access, TierBook
from fractal_lba_server.store.tiers.conditions import Condition, problem_of
from fractal_lba_server.tier_policy import load_tier_policy

ACCESS = Access(access_count=4, age_s=10, size_bytes=300, tier="warm")


def load(path: Path, text: str, *, has_cold: bool = True, **environment: str) -> TierBook:
    path.write_text(text)
    book = PolicyBook(Policy(), {"brief": Policy(dedup_ttl_days=14)})
    return load_tier_policy(path, policies=book, has_cold=has_cold, environment=environment)


def test_file_is_read_with_its_tenants_and_the_environment(tmp_path: Path) -> None:
    text = """
version: 1
default: {hot_ttl: 60}
tenants:
  premium: {hot_ttl: 7200, promote_on: access_count > 3}
  brief: {cold_ttl: 1209600}
"""
    book = load(tmp_path / "tiers.yaml", text, TIER_HOT_TTL="90", TIER_WARM_TTL="1000")
    assert (book.default.hot_ttl_s, book.default.warm_ttl_s) == (90, 1000)
    assert book.for_tenant("premium").hot_ttl_s == 7200
    assert load(tmp_path / "tiers.yaml", "version: 1") == TierBook()


def test_every_fault_is_said_at_once_with_its_line(tmp_path: Path) -> None:
    text = """version: 1
default:
  hot_tl: 60
  warm_ttl: -1
  promote_on: access_cnt > 3
  cold_ttl: 90000000
tenants:
  brief: {cold_ttl: 700000}
  other: {promote_on: access_count, class: tepid}
"""
    with pytest.raises(DocumentError) as error:
        load(tmp_path / "tiers.yaml", text, TIER_HOT_TTL="soon")
    assert sorted(fault.pointer for fault in error.value.faults) == [
        "/default/cold_ttl", "/default/hot_tl", "/default/hot_ttl", "/default/promote_on",
        "/default/warm_ttl", "/tenants/brief/cold_ttl", "/tenants/other/class",
        "/tenants/other/cold_ttl", "/tenants/other/promote_on",
    ]  # fmt: skip
    texts = error.value.message
    assert 'did you mean "hot_ttl"' in texts
    assert "undeclared reference to 'access_cnt'" in texts
    assert "gives int, expected true or false" in texts
    assert "before the dedup horizon of 1209600 s" in texts
    assert "taken for ever" in texts
    assert "TIER_HOT_TTL" in texts
    assert f"{tmp_path}/tiers.yaml:3:" in texts


def test_payloads_need_a_cold_store_to_leave_warm(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="no cold store"):
        load(tmp_path / "tiers.yaml", "version: 1", has_cold=False)
    assert load(tmp_path / "tiers.yaml", "version: 1\ndefault: {warm_ttl: 0}", has_cold=False)


@pytest.mark.parametrize("text", ["- 1", "version: 2", "version: 1\ndefault: 3"])
def test_file_of_another_shape_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(DocumentError):
        load(tmp_path / "tiers.yaml", text)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("access_count > 3", True),
        ("access_count > 4", False),
        ("tier == 'cold' || age_s < 11 && size_bytes > 100", True),
        ("true", True),
        ("false", False),
        ("1 / (access_count - 4) > 0", None),
    ],
)
def test_condition_holds_only_where_its_value_is_true(text: str, holds: bool | None) -> None:
    assert Condition(text).holds(ACCESS) is holds


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("access_cnt > 3", "undeclared reference"),
        ("access_count > 'x'", "no matching overload"),
        ("access_count", "gives int"),
        ("access_count >", "Syntax error"),
    ],
)
def test_condition_that_is_none_is_found_when_it_is_read(text: str, problem: str) -> None:
    found = problem_of(text)
    assert found is not None
    assert problem in found
    assert "\n" not in found
