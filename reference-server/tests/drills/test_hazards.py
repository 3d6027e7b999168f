"""Each hazard twice: as it is described, and as we build it, before the same judge.

The literal design must turn a named verdict red, which the right one keeps.
"""

from __future__ import annotations

from typing import Any

import pytest
from model import Model
from traces import MS, Book

from fractal_lba_server.judge.check import FAILS, HOLDS, UNPROVEN, check

Events = list[dict[str, Any]]


def states(events: Events) -> dict[str, str]:
    return {verdict.name: verdict.state for verdict in check(events).verdicts}


def canaries(**design: Any) -> Events:
    model = Model({"canary": True}, **design)
    for number in range(20):
        model.put("euw", f"k{number}", 10 + number)
    for number in range(200):
        model.put("euw", f"k{number % 20}", 1_000 + number, canary=True)
    model.heal()
    return model.end()


def test_h11_a_dedup_store_that_churns_is_shown_by_known_duplicates() -> None:
    # The hit ratio would hide it: it falls by 3 % only.
    assert states(canaries(forgets_every=33))["canary"] == FAILS
    assert states(canaries())["canary"] == HOLDS


def split(**design: Any) -> Events:
    model = Model({"digests_equal": True, "displaced_min": 1, "linearizable": "writes"}, **design)
    model.put("euw", "k", 100, "from-euw")
    model.put("use", "k", 150, "from-use")
    model.put("use", "other", 160)
    model.heal()
    return model.end()


def test_h37_writes_on_both_sides_are_all_accounted_for() -> None:
    literal = states(split(keep_losers=False))
    assert literal["displaced_min"] == UNPROVEN, "the loser is in no book"
    assert literal["linearizable"] == FAILS
    ours = states(split())
    assert {ours[n] for n in ("digests_equal", "displaced_min", "linearizable")} == {HOLDS}


@pytest.mark.parametrize("merge", ["last", "arrival"])
def test_h38_an_order_by_arrival_never_makes_regions_equal(merge: str) -> None:
    assert states(split(merge=merge))["digests_equal"] == FAILS
    assert states(split())["digests_equal"] == HOLDS


def test_h38_an_order_that_is_alike_everywhere_but_not_of_time_is_found() -> None:
    assert states(split(merge="youngest"))["digests_equal"] == HOLDS, "nothing else shows it"
    assert states(split(merge="youngest"))["first_write"] == FAILS
    assert states(split())["first_write"] == HOLDS


def skewed(skew_ms: int) -> Events:
    model = Model({"hlc_ahead_ms_max": 500}, skew_ms={"use": skew_ms})
    model.put("use", "k", 100)
    model.heal()
    return model.end()


def test_h38_a_clock_ahead_is_seen_in_what_it_stamps() -> None:
    assert states(skewed(3_000))["hlc_ahead_ms_max"] == FAILS
    assert states(skewed(300))["hlc_ahead_ms_max"] == HOLDS


def writers(*, lease: bool) -> Events:
    book = Book({"single_writer": True})
    book.put("a", 100, position="euw/open/1/1")
    book.put("b", 5_000, region="use", position="use/open/2/1")
    # The old primary is alive, and clients with an old address still write to it.
    result = "refused" if lease else "new"
    return book.put("c", 5_100, result, position="euw/open/1/2").end()


@pytest.mark.parametrize("hazard", ["h39", "h94"])
def test_h39_h94_a_region_without_a_lease_that_still_accepts_is_found(hazard: str) -> None:
    assert states(writers(lease=False))["single_writer"] == FAILS
    assert states(writers(lease=True))["single_writer"] == HOLDS


def destroyed(*, level: str, outbox: bool) -> Events:
    model = Model({"no_loss_at_level": level, "no_loss_end_to_end": True})
    model.put("euw", "shipped", 100, level="replicated")
    model.ship("euw", "use")
    model.put("euw", "tail", 9_000, level="durable")
    for key in ("shipped", "tail"):
        model.book.call(key, 90)
    model.book.fault(10_000)
    model.lose("euw")
    if outbox:
        model.put("use", "tail", 20_000)
    model.heal()
    model.ship("use", "euw")
    model.census("end", 90_000, "use")
    return model.book.end()


def test_h40_what_was_acknowledged_before_it_was_shipped_is_gone_with_the_region() -> None:
    literal = states(destroyed(level="durable", outbox=False))
    assert (literal["no_loss_at_level"], literal["no_loss_end_to_end"]) == (FAILS, FAILS)
    ours = states(destroyed(level="replicated", outbox=True))
    assert (ours["no_loss_at_level"], ours["no_loss_end_to_end"]) == (HOLDS, HOLDS)


def test_h95_a_loss_at_the_promised_level_is_found_also_if_an_outbox_mended_it() -> None:
    assert states(destroyed(level="durable", outbox=True))["no_loss_at_level"] == FAILS
    assert states(destroyed(level="replicated", outbox=True))["no_loss_at_level"] == HOLDS


def returned(*, restore_first: bool) -> Events:
    model = Model({"recovered_late_min": 1, "no_loss_at_level": "durable"})
    model.put("euw", "tail", 9_000)
    model.book.fault(10_000)
    model.put("use", "later", 11_000)
    model.census("failover", 20_000, "use")
    if restore_first:
        model.lose("euw")
    model.heal()
    return model.end()


def test_h45_a_restore_over_an_unshipped_tail_loses_it() -> None:
    literal = states(returned(restore_first=True))
    assert (literal["recovered_late_min"], literal["no_loss_at_level"]) == (FAILS, FAILS)
    ours = states(returned(restore_first=False))
    assert (ours["recovered_late_min"], ours["no_loss_at_level"]) == (HOLDS, HOLDS)


def outage(failed_s: int, *, ttl_s: int) -> Events:
    book = Book({"rto_s": 60}, load={"patience_ms": 1_000}).calls(0, 10_000)
    over = 10_000 + 1_000 * (failed_s + ttl_s)
    book.fault(10_000).calls(10_000, over, took_ms=5_000)
    # The probe marks the region down after `failed_s`; that is not yet the end for a client.
    book.add("phase", 10_000 + 1_000 * failed_s, incident="kill", phase="detect")
    return book.calls(over, over + 40_000).end(400_000)


def test_h49_the_time_that_resolvers_keep_a_dead_address_counts() -> None:
    assert states(outage(30, ttl_s=300))["rto_s"] == FAILS
    assert states(outage(30, ttl_s=5))["rto_s"] == HOLDS


def test_h53_a_storm_of_retries_after_a_failover_is_no_recovery() -> None:
    def events(*, storm: bool) -> Events:
        book = Book({"rto_s": 10}).calls(0, 10_000).fault(10_000)
        book.calls(10_000, 12_000, took_ms=5_000)
        for due in range(12_000, 60_000, 100):
            # Half of the calls come through at once, the others wait behind retries.
            slow = storm and due % 200
            book.call(f"c{due}", due, 5_000 if slow else 10)
        return book.end()

    assert states(events(storm=True))["rto_s"] == FAILS
    assert states(events(storm=False))["rto_s"] == HOLDS


def test_h54_equal_counts_hide_a_divergence_that_digests_show() -> None:
    def events(*, healed: bool) -> Events:
        model = Model({"digests_equal": True})
        model.put("euw", "a", 100)
        model.put("use", "b", 110)
        if healed:
            model.heal()
        return model.end()

    literal = events(healed=False)
    counts = {event["region"]: event["keys"] for event in literal if event["event"] == "census"}
    assert len(set(counts.values())) == 1, "a comparison of counts would never fire"
    assert states(literal)["digests_equal"] == FAILS
    assert states(events(healed=True))["digests_equal"] == HOLDS


def test_h55_a_gauge_that_freezes_with_its_shipper_proves_nothing() -> None:
    def events(ages_ms: list[float]) -> Events:
        book = Book({"lag_p99_ms_max": 1_000})
        for number, age_ms in enumerate(ages_ms):
            book.add("lag", 50 * number, region="euw", peer="use", age_ms=age_ms)
        return book.end()

    frozen = [3.0] * 60  # the failing side stops to report after 3 s, and never shows more
    receiver = [3.0] * 60 + [50.0 * number for number in range(60)]
    assert states(events(frozen))["lag_p99_ms_max"] == UNPROVEN
    assert states(events(receiver))["lag_p99_ms_max"] == FAILS
    assert states(events([3.0] * 120))["lag_p99_ms_max"] == HOLDS


def test_h56_a_reconcile_that_drains_both_regions_is_an_outage() -> None:
    def events(*, drain: bool) -> Events:
        book = Book({"success_share_min": 0.99}).calls(0, 10_000)
        book.calls(10_000, 20_000, took_ms=5_000 if drain else 10)
        return book.calls(20_000, 30_000).end()

    assert states(events(drain=True))["success_share_min"] == FAILS
    assert states(events(drain=False))["success_share_min"] == HOLDS


def test_h96_a_standby_without_data_is_found_by_reading_back() -> None:
    def events(*, shipping: bool) -> Events:
        model = Model({"no_loss_at_level": "durable"})
        model.put("euw", "a", 100)
        if shipping:
            model.ship("euw", "use")
        model.book.fault(10_000)
        model.census("end", 90_000, "use")
        return model.book.end()

    assert states(events(shipping=False))["no_loss_at_level"] == FAILS
    assert states(events(shipping=True))["no_loss_at_level"] == HOLDS


def test_h97_a_drill_whose_fault_did_nothing_proves_nothing() -> None:
    def events(effects: dict[str, int]) -> Events:
        return Book({}, faults=[{"id": "kill"}]).fault(10 * MS, effects=effects).end()

    assert states(events({"killed": 0}))["effects"] == FAILS
    assert states(Book({}, faults=[{"id": "kill"}]).end())["effects"] == FAILS
    assert states(events({"killed": 1}))["effects"] == HOLDS
