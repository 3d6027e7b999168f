"""Tier policies: whose word wins, what contradicts itself, what is due, who may read cold."""

from __future__ import annotations

import pytest

from fractal_lba_server.core import tiering
from fractal_lba_server.core.tiering import (
    Accesses,
    Budget,
    Scanned,
    TierBook,
    TierPolicy,
    batches,
    classes,
    due,
    endings,
    policy_faults,
)

DAY_S = 86_400
NOW_MS = 1_763_700_000_000


def test_defaults_are_an_hour_a_week_and_for_ever() -> None:
    policy = TierBook.from_document({"version": 1}).default
    assert (policy.hot_ttl_s, policy.warm_ttl_s, policy.cold_ttl_s) == (3_600, 604_800, 0)
    assert policy == TierPolicy()


def test_word_of_a_tenant_wins_over_the_environment_and_that_over_the_file() -> None:
    document = {
        "version": 1,
        "records": True,
        "default": {"hot_ttl": 60, "cold_ttl": 5, "class": "warm", "promote_on": "false"},
        "tenants": {"premium": {"hot_ttl": 7_200}},
        "overall": {"cold_reads_per_s": 7, "cold_reads_burst": 8},
    }
    book = TierBook.from_document(document, {"hot_ttl": 120, "warm_ttl": 3})
    assert (book.for_tenant("any").hot_ttl_s, book.for_tenant("any").warm_ttl_s) == (120, 3)
    assert book.for_tenant("any").cold_ttl_s == 5
    premium = book.for_tenant("premium")
    assert (premium.hot_ttl_s, premium.warm_ttl_s, premium.fastest) == (7_200, 3, "warm")
    assert (book.overall_per_s, book.overall_burst, book.keeps_records) == (7, 8, True)


def faults(policy: TierPolicy, *, dedup_ttl_s: int | None = None, cold: bool = True) -> list[str]:
    """List where a policy is refused."""
    found = policy_faults(
        TierBook(policy),
        dedup_ttl_s=lambda tenant: dedup_ttl_s,
        condition_problem=lambda text: "no" if text == "bad" else None,
        has_cold=cold,
    )
    return [f"{fault.pointer}: {fault.problem}" for fault in found]


@pytest.mark.parametrize(
    ("policy", "dedup_ttl_s", "words"),
    [
        (TierPolicy(), None, []),
        (TierPolicy(cold_ttl_s=30 * DAY_S), 14 * DAY_S, []),
        (TierPolicy(cold_ttl_s=14 * DAY_S), 14 * DAY_S, []),
        (TierPolicy(cold_ttl_s=14 * DAY_S - 1), 14 * DAY_S, ["before the dedup horizon"]),
        (TierPolicy(cold_ttl_s=90 * DAY_S), None, ["taken for ever"]),
        (TierPolicy(cold_ttl_s=7 * DAY_S), 2 * DAY_S, ["before they reach cold"]),
        (TierPolicy(cold_ttl_s=7 * DAY_S + 1), 2 * DAY_S, []),
        (TierPolicy(warm_ttl_s=0, cold_ttl_s=30 * DAY_S), 2 * DAY_S, ["before they reach cold"]),
        (TierPolicy(cold_ttl_s=30 * DAY_S, keep_s=31 * DAY_S), DAY_S, ["retention"]),
        (TierPolicy(cold_ttl_s=30 * DAY_S, keep_s=30 * DAY_S), DAY_S, []),
        (TierPolicy(erase_s=30 * DAY_S), None, ["outlive erase_s"]),
        (TierPolicy(cold_ttl_s=31 * DAY_S, erase_s=30 * DAY_S), DAY_S, ["outlive erase_s"]),
        (TierPolicy(cold_ttl_s=30 * DAY_S, erase_s=30 * DAY_S), DAY_S, []),
        (
            TierPolicy(cold_ttl_s=30 * DAY_S, erase_s=30 * DAY_S, keep_s=40 * DAY_S),
            DAY_S,
            ["retention", "to be kept"],
        ),
        (TierPolicy(promote_on="bad"), None, ["no"]),
    ],
)
def test_policy_that_contradicts_itself_is_refused(
    policy: TierPolicy, dedup_ttl_s: int | None, words: list[str]
) -> None:
    found = faults(policy, dedup_ttl_s=dedup_ttl_s)
    assert len(found) == len(words)
    assert all(word in fault for word, fault in zip(words, found, strict=True))


def test_payloads_cannot_leave_warm_for_nowhere() -> None:
    assert faults(TierPolicy(), cold=False) == [
        "/default/warm_ttl: payloads leave warm, and there is no cold store"
    ]
    assert faults(TierPolicy(warm_ttl_s=0), cold=False) == []


def test_what_a_tenant_inherits_is_said_once() -> None:
    bad = TierPolicy(promote_on="bad")
    book = TierBook(bad, {"same": bad, "other": TierPolicy(promote_on="bad", warm_ttl_s=0)})
    slow = TierBook(TierPolicy(warm_ttl_s=0), {"fast": TierPolicy()})
    for each, pointers in (
        (book, ["/default/warm_ttl", "/default/promote_on"]),
        (slow, ["/tenants/fast/warm_ttl"]),
    ):
        found = policy_faults(
            each, dedup_ttl_s=lambda tenant: None,
            condition_problem=lambda text: "no" if text == "bad" else None, has_cold=False,
        )  # fmt: skip
        assert [fault.pointer for fault in found] == pointers


def test_faults_name_the_tenant() -> None:
    book = TierBook(TierPolicy(), {"beta": TierPolicy(promote_on="bad"), "acme": TierPolicy()})
    found = policy_faults(
        book, dedup_ttl_s=lambda tenant: None,
        condition_problem=lambda text: "no" if text == "bad" else None, has_cold=True,
    )  # fmt: skip
    assert [fault.pointer for fault in found] == ["/tenants/beta/promote_on"]


def test_expiry_is_absolute_and_never_after_the_end() -> None:
    policy = TierPolicy(hot_ttl_s=3_600, cold_ttl_s=30 * DAY_S)
    end_ms = NOW_MS + 30 * DAY_S * 1_000
    assert tiering.ends_ms(policy, NOW_MS) == end_ms
    assert tiering.ends_ms(TierPolicy(), NOW_MS) is None
    assert tiering.hot_until_ms(policy, NOW_MS, NOW_MS) == NOW_MS + 3_600_000
    assert tiering.hot_until_ms(policy, NOW_MS, end_ms - 5) == end_ms
    assert tiering.hot_until_ms(policy, NOW_MS, end_ms) is None
    assert tiering.hot_until_ms(TierPolicy(fastest="warm"), NOW_MS, NOW_MS) is None
    assert tiering.warm_until_ms(policy, NOW_MS, NOW_MS) == NOW_MS + 604_800_000
    assert tiering.warm_until_ms(policy, NOW_MS, end_ms - 5) == end_ms
    assert tiering.warm_until_ms(TierPolicy(), NOW_MS, NOW_MS) == NOW_MS + 604_800_000
    assert tiering.warm_until_ms(TierPolicy(fastest="cold"), NOW_MS, NOW_MS) is None
    assert tiering.written_ms(NOW_MS << 16 | 9) == NOW_MS


def row(number: int, *, tenant: str = "acme", age_s: int = 0, size: int = 300) -> Scanned:
    """Make a row of warm."""
    return Scanned(number, tenant, "open", NOW_MS - age_s * 1_000, size, None)


def test_due_are_the_old_payloads_of_these_tenants_in_front_of_the_first_young_one() -> None:
    rows = [
        row(1, age_s=100),
        row(2, tenant="other", age_s=100),
        row(3, age_s=100, size=0),
        row(4, age_s=100)._replace(object="open/t-acme/x.cold"),
        row(5, age_s=60),
        row(6, age_s=59),
        row(7, age_s=100),
    ]
    found = due(rows, tenants=frozenset({"acme"}), age_s=60, now_ms=NOW_MS, after=0)
    assert [each.number for each in found.rows] == [1, 5]
    assert found.examined == 5
    assert due([], tenants=frozenset(), age_s=1, now_ms=NOW_MS, after=9) == ((), 9)


def test_tenants_are_grouped_by_the_age_at_which_they_move_and_end() -> None:
    book = TierBook(
        TierPolicy(),
        {
            "slow": TierPolicy(warm_ttl_s=0),
            "icy": TierPolicy(fastest="cold"),
            "brief": TierPolicy(cold_ttl_s=30 * DAY_S),
            "short": TierPolicy(cold_ttl_s=30 * DAY_S),
        },
    )
    tenants = ["a", "slow", "icy", "brief", "short"]
    assert classes(book, tenants) == {
        0: frozenset({"icy"}),
        604_800: frozenset({"a", "brief", "short"}),
    }
    assert endings(book, tenants) == {30 * DAY_S: frozenset({"brief", "short"})}


def test_objects_hold_one_placement_and_one_tenant_and_are_bounded() -> None:
    rows = [row(n, tenant="ab"[n % 2]) for n in range(1, 8)]
    rows.append(row(8, tenant="a")._replace(placement="eu"))
    cut = batches(rows, entries_max=3, bytes_max=10_000)
    assert [[each.number for each in part] for part in cut] == [[1, 3, 5], [7], [2, 4, 6], [8]]
    cut = batches(rows, entries_max=100, bytes_max=700)
    assert [len(part) for part in cut] == [2, 2, 2, 1, 1]
    assert [len(part) for part in batches([row(1, size=999)], entries_max=9, bytes_max=10)] == [1]
    assert batches([], entries_max=1, bytes_max=1) == []


def test_accesses_are_counted_for_the_newest_keys() -> None:
    accesses = Accesses(keys_max=4)
    keys = [("t", f"{n}") for n in range(9)]
    assert [accesses.count(keys[0]) for _ in range(3)] == [1, 2, 3]
    for key in keys[1:4]:
        accesses.count(key)
    assert accesses.count(keys[3]) == 2
    accesses.count(keys[4])  # no room: the two that were used longest ago go
    assert accesses.count(keys[0]) == 1
    assert accesses.count(keys[3]) == 3
    single = Accesses(keys_max=1)
    assert [single.count(keys[0]), single.count(keys[1]), single.count(keys[0])] == [1, 1, 1]


def test_cold_reads_take_from_the_tenants_budget_and_from_that_of_all() -> None:
    book = TierBook(
        TierPolicy(cold_reads_per_s=1, cold_reads_burst=2), {}, overall_per_s=2, overall_burst=3
    )
    budget, now_ns = Budget(book), NOW_MS * 1_000_000
    assert budget.take("a", now_ns) is None
    assert budget.take("a", now_ns) is None
    assert budget.take("a", now_ns) == ("rate_limited", 1_000)
    assert budget.take("b", now_ns) is None
    assert budget.take("b", now_ns) == ("unavailable", 500)
    assert budget.take("b", now_ns + 500_000_000) is None, (
        "a refusal by all cost the tenant nothing"
    )


def test_lifecycle_never_removes_before_the_policy_does() -> None:
    brief = TierPolicy(cold_ttl_s=30 * DAY_S + 1)
    book = TierBook(TierPolicy(), {"brief": brief, "slow": TierPolicy(keep_s=DAY_S)})
    rules = tiering.lifecycle(book, ["open"], move_days=10, storage_class="GLACIER_IR")
    document = tiering.lifecycle_document(rules)
    assert document["Rules"] == [
        {
            "ID": "flk-1",
            "Status": "Enabled",
            "Filter": {"Prefix": "open/t-brief/"},
            "Expiration": {"Days": 32},
        },
        {
            "ID": "flk-2",
            "Status": "Enabled",
            "Filter": {"Prefix": "open/"},
            "Transitions": [{"Days": 10, "StorageClass": "GLACIER_IR"}],
        },
    ]
    assert tiering.lifecycle(TierBook(), ["open"], move_days=None, storage_class="X") == []


@pytest.mark.parametrize(
    ("policy", "expire_days", "storage_class", "words"),
    [
        (TierPolicy(), None, "GLACIER_IR", []),
        (TierPolicy(), None, "DEEP_ARCHIVE", ["minutes to hours"]),
        (TierPolicy(), 90, "STANDARD", ["kept for ever"]),
        (TierPolicy(cold_ttl_s=90 * DAY_S), 90, "STANDARD", []),
        (TierPolicy(cold_ttl_s=90 * DAY_S + 1), 90, "STANDARD", ["would remove it before"]),
        (TierPolicy(cold_ttl_s=1, keep_s=91 * DAY_S), 90, "STANDARD", ["would remove it before"]),
    ],
)
def test_lifecycle_that_contradicts_the_policy_is_refused(
    policy: TierPolicy, expire_days: int | None, storage_class: str, words: list[str]
) -> None:
    other = TierPolicy(cold_ttl_s=400 * DAY_S)
    book = TierBook(other, {"same": other, "own": policy}) if expire_days else TierBook(policy)
    found = tiering.lifecycle_faults(book, expire_days=expire_days, storage_class=storage_class)
    of_default = ["would remove it before"] if expire_days else []
    assert len(found) == len(of_default + words)
    pairs = zip(of_default + words, found, strict=True)
    assert all(word in fault.problem for word, fault in pairs)
