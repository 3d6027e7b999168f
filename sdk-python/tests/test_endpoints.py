"""Which endpoint is asked next: every rule of spec/retry.md 27 to 43, and what must never be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fractal_lba.endpoints import Endpoint, EndpointState, FailoverPolicy, Fleet
from fractal_lba.errors import CODES, ConfigError
from fractal_lba.retry import Result

A, B, C = "https://a.example", "https://b.example", "https://c.example"
REFUSED = Result(code="connect_failed")
DRAINED = Result(status=503)
LOST = Result(code="connection_lost")
SUCCESS = Result(status=200)
HOUR_MS = 3_600_000


def fleet_of(*urls: str | Endpoint, **policy: Any) -> Fleet:
    return Fleet.of(urls or (A, B, C), FailoverPolicy(**policy))


def after(
    fleet: Fleet, *results: Result, sender: int = 0, now_ms: int = 0, u: float = 0.5
) -> Fleet:
    """Let attempts at one endpoint have these results, one per millisecond."""
    for step, result in enumerate(results):
        fleet = fleet.attempted(sender, result, now_ms=now_ms + step, u=u)
    return fleet


def names(fleet: Fleet) -> list[str]:
    return [state.name for state in fleet.states]


# --- URLs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("https://eu.example", "https://eu.example"),
        ("https://EU.example/", "https://eu.example"),
        ("HTTPS://eu.example:443/base/", "https://eu.example/base"),
        ("https://eu.example:8443", "https://eu.example:8443"),
        ("http://localhost:80", "http://localhost"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
        ("https://[2001:DB8::1]", "https://[2001:db8::1]"),
    ],
)
def test_a_url_has_one_form(given: str, written: str) -> None:
    assert Endpoint(given).url == written


@pytest.mark.parametrize(
    "url",
    [
        "http://eu.example", "http://127.0.0.1.evil.example", "http://localhost.evil.example",
        "http://10.0.0.1", "ftp://eu.example", "eu.example", "https://", "https:///x",
        "//eu.example", "",
        "https://user@eu.example", "https://user:secret@eu.example", "https://eu.example?x=1",
        "https://eu.example?", "https://eu.example#x", "https://eu.example#",
        "https://eu.example:port",
        "https://eu.example:99999", "https://eu.example\n", "https://eu example",
        "https://eu\\.example",
        "https://\u00e9.example", "https://[::1", None,
    ],
)  # fmt: skip
def test_other_urls_are_refused(url: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        Endpoint(url)
    assert caught.value.code == "config_invalid"
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("region", ["", "EU", "eu west", "x" * 65])
def test_a_region_is_a_short_name(region: str) -> None:
    with pytest.raises(ConfigError):
        Endpoint(A, region)


# --- construction --------------------------------------------------------------------------


def test_a_fleet_starts_up_at_the_first() -> None:
    fleet = fleet_of()
    assert (fleet.current, fleet.home, names(fleet)) == (0, 0, ["up", "up", "up"])
    assert Fleet.of(A).endpoints == Fleet.of(Endpoint(A)).endpoints == (Endpoint(A),)
    assert (fleet.probes_due(HOUR_MS), fleet.next_probe_ms) == ((), None)


@pytest.mark.parametrize("urls", [[], [A, A], [A, A + "/"]])
def test_a_fleet_needs_each_endpoint_once(urls: list[str]) -> None:
    with pytest.raises(ConfigError):
        Fleet.of(urls)


@pytest.mark.parametrize(
    "options",
    [{"down_after": 0}, {"up_after": 0}, {"probe_interval_ms": 0}, {"probe_timeout_ms": 0},
     {"failback_after_ms": -1}, {"redirect_hops": -1}, {"down_after": True}, {"up_after": None}],
)  # fmt: skip
def test_a_policy_is_checked_when_it_is_made(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        FailoverPolicy(**options)
    assert caught.value.code == "config_invalid"


def test_the_least_values_are_values() -> None:
    least = FailoverPolicy(
        down_after=1, up_after=1, probe_interval_ms=1, probe_timeout_ms=1, failback_after_ms=0,
        redirect_hops=0,
    )  # fmt: skip
    assert Fleet.of(A, least).hinted(A, 1, hops=0, now_ms=0, u=0.5) is None


def test_a_region_outside_the_list_is_never_used() -> None:
    fleet = fleet_of(A, Endpoint(B, "use"), Endpoint(C, "fra"), allowed_regions=["fra", "use"])
    assert (fleet.home, fleet.current) == (1, 1)
    for sender in (1, 2, 1, 2, 1, 2):
        fleet = after(fleet, REFUSED, sender=sender)
        assert fleet.current != 0
    assert fleet.hinted(A, 9, hops=0, now_ms=0, u=0.0) is None
    with pytest.raises(ConfigError):
        fleet_of(A, Endpoint(B, "use"), allowed_regions={"fra"})


# --- health --------------------------------------------------------------------------------


def test_every_answer_below_500_is_a_sign_of_life() -> None:
    shaken = after(fleet_of(A), LOST, LOST)
    for status in range(100, 600):
        fleet = after(shaken, Result(status=status))
        assert fleet.states[0].name == ("down" if status >= 500 else "up")
        assert fleet.states[0].failures == (3 if status >= 500 else 0)


@pytest.mark.parametrize("code", CODES)
def test_without_an_answer_only_the_network_speaks_against_an_endpoint(code: str) -> None:
    failing = ("connect_failed", "tls_failed", "connection_lost", "attempt_timeout")
    fleet = after(fleet_of(A), Result(code=code))
    assert names(fleet) == ["suspect" if code in failing else "up"]


def test_an_unreadable_success_is_a_sign_of_life_too() -> None:
    fleet = after(fleet_of(A), LOST, Result(status=200, code="response_malformed"))
    assert names(fleet) == ["up"]


def test_three_failures_in_a_row_are_down_and_one_answer_is_up() -> None:
    fleet = after(fleet_of(A), LOST, LOST)
    assert names(fleet) == ["suspect"]
    assert names(after(fleet, SUCCESS, LOST)) == ["suspect"]
    fleet = after(fleet, LOST)
    assert names(fleet) == ["down"]
    assert names(after(fleet, SUCCESS)) == ["up"]
    assert names(after(fleet_of(A, down_after=1), LOST)) == ["down"]


# --- moving --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "result",
    [REFUSED, DRAINED, replace(LOST, sent=False), Result(code="attempt_timeout", sent=False)],
)
def test_a_refused_result_moves_at_once(result: Result) -> None:
    fleet = after(fleet_of(), result)
    assert (fleet.current, names(fleet)) == (1, ["suspect", "up", "up"])
    assert fleet.next_for(0, result) == 1


@pytest.mark.parametrize(
    "result",
    [LOST, Result(code="attempt_timeout"), *(Result(status=s) for s in (500, 501, 502, 504, 599))],
)
def test_an_ambiguous_result_stays_until_the_endpoint_is_down(result: Result) -> None:
    fleet = after(fleet_of(), result, result)
    assert fleet.current == fleet.next_for(0, result) == 0
    fleet = after(fleet, result, now_ms=9)
    assert fleet.current == fleet.next_for(0, result) == 1


@pytest.mark.parametrize(
    "status", [200, 400, 401, 404, 408, 409, 413, 421, 422, 423, 425, 429, 302]
)
def test_every_other_answer_keeps_the_endpoint(status: int) -> None:
    result = Result(status=status, retry_after_ms=HOUR_MS)
    fleet = after(fleet_of(), *[result] * 5)
    assert fleet.current == fleet.next_for(0, result) == 0


def test_a_call_does_not_follow_others_after_an_ambiguous_result() -> None:
    moved_by_another = after(fleet_of(), REFUSED)
    late = moved_by_another.attempted(0, LOST, now_ms=5, u=0.5)
    assert (late.current, late.next_for(0, LOST)) == (1, 0)
    assert late.next_for(0, REFUSED) == 1


def test_the_first_that_is_up_is_next_else_the_longest_failed_suspect() -> None:
    fleet = after(fleet_of(), REFUSED, sender=0, now_ms=10)
    fleet = after(fleet, REFUSED, sender=1, now_ms=20)
    assert fleet.current == 2
    fleet = after(fleet, REFUSED, sender=2, now_ms=30)
    assert fleet.current == 0
    fleet = after(fleet, REFUSED, sender=0, now_ms=40)
    assert fleet.current == 1


def test_a_bound_endpoint_is_left_alone() -> None:
    fleet = after(fleet_of(), Result(status=503, retry_after_ms=1000), sender=0)
    fleet = after(fleet, REFUSED, sender=1, now_ms=500)
    fleet = after(fleet, REFUSED, sender=2, now_ms=501)
    assert fleet.current == 1
    fleet = after(fleet, REFUSED, sender=1, now_ms=1000)
    assert fleet.current == 0


@pytest.mark.parametrize(
    ("status", "binds"), [(429, True), (503, True), (500, False), (408, False)]
)
def test_retry_after_binds_after_429_and_503(status: int, binds: bool) -> None:
    fleet = after(fleet_of(), Result(status=status, retry_after_ms=1000))
    assert (fleet.states[0].bound_until_ms == 1000) == binds


def test_alone_it_stays_and_waits() -> None:
    fleet = after(fleet_of(A), Result(status=503, retry_after_ms=1000))
    assert fleet.current == 0
    pair = after(fleet_of(A, B), Result(status=503, retry_after_ms=1000))
    pair = after(pair, Result(status=503, retry_after_ms=10), sender=1, now_ms=1)
    assert pair.current == 1


def test_a_sender_that_is_down_prefers_the_bound_that_ends_first() -> None:
    fleet = fleet_of(down_after=1)
    fleet = after(fleet, Result(status=429, retry_after_ms=900), sender=0)
    fleet = after(fleet, Result(status=429, retry_after_ms=300), sender=1)
    fleet = replace(fleet, current=2)
    assert after(fleet, LOST, sender=2).current == 1


def test_all_down_takes_the_longest_failed_and_never_refuses() -> None:
    fleet = fleet_of(A, B, down_after=1)
    fleet = after(fleet, REFUSED, sender=0, now_ms=1)
    fleet = after(fleet, REFUSED, sender=1, now_ms=2)
    assert (names(fleet), fleet.current) == (["down", "down"], 0)
    fleet = after(fleet, REFUSED, sender=0, now_ms=3)
    assert fleet.current == 1
    alone = after(fleet_of(A, down_after=1), REFUSED)
    assert (alone.current, names(alone)) == (0, ["down"])


def test_success_is_sticky() -> None:
    fleet = after(fleet_of(), REFUSED)
    fleet = after(fleet, SUCCESS, sender=1)
    assert fleet.begun(now_ms=1000, u=0.5).current == 1


def test_a_new_call_leaves_an_endpoint_that_is_down() -> None:
    fleet = fleet_of(A, B)
    for _ in range(3):
        fleet = fleet.probed(0, False, now_ms=1, u=0.5)
    assert (fleet.current, names(fleet)) == (0, ["down", "up"])
    assert fleet.begun(now_ms=2, u=0.5).current == 1


# --- probes and the way back ---------------------------------------------------------------


@pytest.mark.parametrize(("u", "first_ms"), [(0.0, 8002), (0.5, 10_002), (0.999, 11_998)])
def test_a_down_endpoint_is_probed_at_spread_times(u: float, first_ms: int) -> None:
    fleet = after(fleet_of(A), LOST, LOST, LOST, u=u)
    assert fleet.next_probe_ms == first_ms
    assert fleet.probes_due(first_ms - 1) == ()
    assert fleet.probes_due(first_ms) == (0,)
    assert after(fleet, LOST, now_ms=500).next_probe_ms == first_ms
    probed = fleet.probed(0, False, now_ms=first_ms, u=0.0)
    assert probed.next_probe_ms == first_ms + 8000


def test_two_good_probes_in_a_row_are_up() -> None:
    fleet = after(fleet_of(A), LOST, LOST, LOST)
    once = fleet.probed(0, True, now_ms=1, u=0.5)
    assert names(once) == ["down"]
    assert names(once.probed(0, False, now_ms=2, u=0.5).probed(0, True, now_ms=3, u=0.5)) == [
        "down"
    ]
    twice = once.probed(0, True, now_ms=2, u=0.5)
    assert (names(twice), twice.states[0].failures, twice.next_probe_ms) == (["up"], 0, None)


def test_probes_of_a_living_endpoint_count_too() -> None:
    suspect = after(fleet_of(A), LOST)
    assert names(suspect.probed(0, True, now_ms=1, u=0.5)) == ["up"]
    assert suspect.probed(0, False, now_ms=1, u=0.5).states[0].failures == 2


def away(**policy: Any) -> Fleet:
    """Give a fleet that left its first endpoint at time 0."""
    return after(fleet_of(A, B, **policy), DRAINED, u=0.25)


def test_the_first_endpoint_is_probed_while_the_client_is_away() -> None:
    fleet = away()
    assert (names(fleet), fleet.next_probe_ms) == (["suspect", "up"], 9000)
    assert fleet.probed(0, True, now_ms=9000, u=0.0).next_probe_ms == 17_000


@pytest.mark.parametrize(("u", "due_ms"), [(0.0, 300_000), (0.25, 450_000), (0.5, 600_000)])
def test_the_client_returns_at_a_spread_time(u: float, due_ms: int) -> None:
    fleet = after(fleet_of(A, B), DRAINED, u=u)
    for now_ms in (1, 2):
        fleet = fleet.probed(0, True, now_ms=now_ms, u=0.5)
    assert fleet.begun(now_ms=due_ms - 1, u=0.5).current == 1
    back = fleet.begun(now_ms=due_ms, u=0.5)
    assert (back.current, back.failback_at_ms, back.next_probe_ms) == (0, None, None)


def test_the_client_does_not_return_without_good_probes() -> None:
    fleet = away()
    assert fleet.begun(now_ms=HOUR_MS, u=0.5).current == 1
    once = fleet.probed(0, True, now_ms=1, u=0.5)
    assert once.begun(now_ms=HOUR_MS, u=0.5).current == 1
    broken = once.probed(0, False, now_ms=2, u=0.5).probed(0, True, now_ms=3, u=0.5)
    assert broken.begun(now_ms=HOUR_MS, u=0.5).current == 1
    assert broken.probed(0, True, now_ms=4, u=0.5).begun(now_ms=HOUR_MS, u=0.5).current == 0


def test_none_never_returns_and_zero_returns_as_soon_as_it_may() -> None:
    fleet = away(failback_after_ms=None)
    for now_ms in (1, 2, 3):
        fleet = fleet.probed(0, True, now_ms=now_ms, u=0.5)
    assert fleet.begun(now_ms=10 * HOUR_MS, u=0.5).current == 1
    fleet = away(failback_after_ms=0)
    for now_ms in (1, 2):
        fleet = fleet.probed(0, True, now_ms=now_ms, u=0.5)
    assert fleet.begun(now_ms=2, u=0.5).current == 0


def test_the_time_to_return_counts_from_leaving_home() -> None:
    fleet = after(fleet_of(), DRAINED, u=0.25)
    onward = after(fleet, REFUSED, sender=1, now_ms=1000)
    assert (onward.current, onward.failback_at_ms) == (2, fleet.failback_at_ms)
    home = after(onward, REFUSED, sender=2, now_ms=2000)
    assert (home.current, home.failback_at_ms) == (0, None)


# --- redirect hints ------------------------------------------------------------------------


def test_a_hint_leads_only_to_a_configured_endpoint() -> None:
    fleet = fleet_of()
    followed = fleet.hinted("https://B.example:443/", 7, hops=0, now_ms=0, u=0.5)
    assert followed is not None
    assert (followed.current, followed.hint_epoch) == (1, 7)
    for url in ("https://evil.example", "http://b.example", "not a url", B + "/v2"):
        assert fleet.hinted(url, 7, hops=0, now_ms=0, u=0.5) is None


@pytest.mark.parametrize(("hops", "taken"), [(0, True), (2, True), (3, False)])
def test_a_call_follows_three_hints(hops: int, taken: bool) -> None:
    assert (fleet_of().hinted(B, 1, hops=hops, now_ms=0, u=0.5) is not None) == taken


def test_the_first_epoch_is_zero() -> None:
    assert fleet_of().hinted(B, 0, hops=0, now_ms=0, u=0.5) is not None


def test_an_older_hint_is_refused() -> None:
    fleet = fleet_of().hinted(B, 7, hops=0, now_ms=0, u=0.5)
    assert fleet is not None
    assert fleet.hinted(C, 6, hops=0, now_ms=HOUR_MS, u=0.5) is None
    again = fleet.hinted(C, 7, hops=0, now_ms=1, u=0.5)
    assert again is not None
    assert again.current == 2


def test_probes_from_before_leaving_do_not_bring_the_client_back() -> None:
    fleet = fleet_of()
    for now_ms in (1, 2):
        fleet = fleet.probed(0, True, now_ms=now_ms, u=0.5)
    followed = fleet.hinted(B, 1, hops=0, now_ms=3, u=0.5)
    assert followed is not None
    assert followed.begun(now_ms=HOUR_MS, u=0.5).current == 1


def test_a_hint_starts_the_way_back_like_a_failure() -> None:
    followed = fleet_of().hinted(B, 1, hops=0, now_ms=0, u=0.0)
    assert followed is not None
    assert (followed.failback_at_ms, followed.next_probe_ms) == (300_000, 8000)


# --- properties ----------------------------------------------------------------------------

results = st.builds(
    Result,
    status=st.none() | st.sampled_from([200, 202, 401, 408, 421, 429, 500, 502, 503, 504]),
    code=st.none()
    | st.sampled_from(["connect_failed", "connection_lost", "cancelled", "tls_failed"]),
    retry_after_ms=st.none() | st.integers(0, 20_000),
    sent=st.booleans(),
)
event = st.one_of(
    st.tuples(st.just("result"), st.integers(0, 2), results),
    st.tuples(st.just("probe"), st.integers(0, 2), st.booleans()),
    st.tuples(st.just("hint"), st.sampled_from([A, B, C, "https://x.example"]), st.integers(0, 3)),
    st.tuples(st.just("call"), st.none(), st.none()),
)


@given(
    st.lists(
        st.tuples(event, st.integers(0, 400_000), st.floats(0, 1, exclude_max=True)), max_size=30
    )
)
def test_no_history_breaks_a_promise(history: list[Any]) -> None:
    regions = frozenset({"fra"})
    endpoints = [Endpoint(A), Endpoint(B, "fra"), Endpoint(C, "fra")]
    fleet = Fleet.of(endpoints, FailoverPolicy(allowed_regions=regions))
    now_ms = 0
    for (kind, who, what), step_ms, u in history:
        now_ms += step_ms
        before = fleet
        if kind == "result":
            fleet = fleet.attempted(who, what, now_ms=now_ms, u=u)
            following = fleet.next_for(who, what)
            assert following in (who, fleet.current)
            if what.status == 429:
                assert fleet.current == before.current
        elif kind == "probe":
            fleet = fleet.probed(who, what, now_ms=now_ms, u=u)
            assert fleet.current == before.current
        elif kind == "hint":
            fleet = fleet.hinted(who, what, hops=0, now_ms=now_ms, u=u) or fleet
            assert fleet.hint_epoch >= before.hint_epoch
        else:
            fleet = fleet.begun(now_ms=now_ms, u=u)
        assert fleet.current in (1, 2)
        assert (fleet.failback_at_ms is None) == (fleet.current == fleet.home)
        for index, state in enumerate(fleet.states):
            watched = state.down or (index == fleet.home and fleet.current != fleet.home)
            assert (state.probe_at_ms is not None) == watched


def test_a_state_has_a_name() -> None:
    states = [EndpointState(), EndpointState(failures=1), EndpointState(failures=3, down=True)]
    assert [state.name for state in states] == ["up", "suspect", "down"]
