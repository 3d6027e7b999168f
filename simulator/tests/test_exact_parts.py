"""The environment of the exact engine alone: time, turns, links, disks, clocks."""

from __future__ import annotations

import errno
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fractal_lba_sim.exact.clock import START_NS, Clock
from fractal_lba_sim.exact.disk import Disk
from fractal_lba_sim.exact.net import End, Failure, Net
from fractal_lba_sim.exact.network import NEAR_NS, Link, Way
from fractal_lba_sim.streams import Streams
from fractal_lba_sim.waiting import NS_PER_MS, NS_PER_S, Agenda, Lane, Life, Places


def heard(agenda: Agenda) -> tuple[list[Any], Any]:
    seen: list[Any] = []
    return seen, lambda name: seen.append((agenda.now_ns, name))


def link_of(agenda: Agenda, **way: Any) -> Link:
    return Link(agenda, Streams(1), "euw", "use", Way(**way))


# --- waiting


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30))
def test_calls_are_made_in_order_of_time_and_then_of_asking(delays: list[int]) -> None:
    agenda = Agenda()
    seen, hear = heard(agenda)
    for place, delay_ns in enumerate(delays):
        agenda.after(delay_ns, hear, place)
    agenda.after(100, agenda.stop)
    agenda.run()
    assert seen == sorted((delay_ns, place) for place, delay_ns in enumerate(delays))


Asked = list[tuple[int, int, bool]]
"""Calls: when they are asked for, how long they wait, and whether they are taken back."""


def order_of_calls(asked: Asked, *, in_lines: bool) -> list[Any]:
    """Give the order of calls among others that wait as long."""
    agenda = Agenda()
    seen, hear = heard(agenda)
    ask = agenda.give_up_after if in_lines else agenda.after

    def begin(place: int, delay_ns: int, taken_back: bool) -> None:
        moment = ask(delay_ns, hear, place)
        agenda.after(delay_ns, hear, -place)
        if taken_back:
            agenda.after(1, moment.cancel)

    for place, (at_ns, delay_ns, taken_back) in enumerate(asked, 1):
        agenda.after(at_ns, begin, place, delay_ns, taken_back)
    agenda.run()
    return seen


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3), st.booleans()), max_size=40))
def test_whoever_gives_up_does_so_where_any_other_call_would_come(asked: Asked) -> None:
    assert order_of_calls(asked, in_lines=True) == order_of_calls(asked, in_lines=False)


def test_a_call_that_was_taken_back_is_not_made() -> None:
    agenda = Agenda()
    seen, hear = heard(agenda)
    agenda.after(5, hear, "cancelled").cancel()
    agenda.after(7, hear, "made")
    agenda.after(9, agenda.stop)
    agenda.run()
    assert seen == [(7, "made")]


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9)), min_size=1, max_size=20))
def test_a_lane_serves_one_at_a_time_and_is_never_idle_while_somebody_waits(
    turns: list[tuple[int, int]],
) -> None:
    agenda = Agenda()
    lane = Lane(agenda)
    ends: list[int] = []
    for at_ns, use_ns in turns:
        agenda.after(
            at_ns, lambda use_ns=use_ns: lane.use(use_ns, lambda: ends.append(agenda.now_ns))
        )
    agenda.after(1_000, agenda.stop)
    agenda.run()
    free_ns, expected = 0, []
    for at_ns, use_ns in sorted(turns, key=lambda turn: turn[0]):
        free_ns = max(free_ns, at_ns) + use_ns
        expected.append(free_ns)
    assert ends == expected


def test_who_gives_up_waiting_for_a_place_is_never_served() -> None:
    agenda = Agenda()
    seen, hear = heard(agenda)
    places = Places(agenda, 1)
    places.enter(hear, "first")
    gives_up = places.enter(hear, "second")
    places.enter(hear, "third")
    assert gives_up is not None
    gives_up.cancel()
    agenda.after(3, places.leave)
    agenda.after(9, agenda.stop)
    agenda.run()
    assert [name for _, name in seen] == ["first", "third"]


def test_a_paused_process_does_later_what_it_was_asked_and_a_dead_one_never() -> None:
    agenda = Agenda()
    seen, hear = heard(agenda)
    life, dead = Life(agenda), Life(agenda)
    life.paused = True
    life.after(1, hear, "one")
    life.after(2, hear, "two")
    dead.after(1, hear, "never")
    dead.end()
    agenda.after(8, life.resume)
    agenda.after(9, agenda.stop)
    agenda.run()
    assert seen == [(8, "one"), (8, "two")]


# --- links


def test_a_cut_holds_what_is_sent_and_lets_it_flow_when_it_heals() -> None:
    agenda = Agenda()
    seen, hear = heard(agenda)
    link = link_of(agenda, delay_ns=10 * NS_PER_MS)
    link.send(1, lambda: hear("on its way"))
    agenda.after(NS_PER_MS, link.cut, "a")
    agenda.after(2 * NS_PER_MS, link.send, 1, lambda: hear("held"))
    agenda.after(50 * NS_PER_MS, link.mend, "a")
    agenda.after(NS_PER_S, agenda.stop)
    agenda.run()
    assert [name for _, name in seen] == ["on its way", "held"]
    assert all(at_ns == 60 * NS_PER_MS for at_ns, _ in seen)
    assert link.counts["stalled"] == 2


def test_two_cuts_of_one_link_heal_with_the_last_of_them() -> None:
    link = link_of(Agenda())
    link.cut("a")
    link.cut("b")
    link.mend("a")
    assert link.is_cut
    link.mend("b")
    assert not link.is_cut


def test_a_reset_drops_what_is_under_way() -> None:
    agenda = Agenda()
    seen, hear = heard(agenda)
    link = link_of(agenda, delay_ns=10)
    link.send(7, lambda: hear("gone"))
    link.reset()
    agenda.after(NS_PER_S, agenda.stop)
    agenda.run()
    assert not seen
    assert link.bytes_dropped == 7


def test_bandwidth_makes_messages_wait_for_each_other() -> None:
    agenda = Agenda()
    seen, hear = heard(agenda)
    link = link_of(agenda, bandwidth_bytes_per_s=1_000.0)
    link.send(500, lambda: hear("a"))
    link.send(500, lambda: hear("b"))
    agenda.after(2 * NS_PER_S, agenda.stop)
    agenda.run()
    assert seen == [(NS_PER_S // 2 + NEAR_NS, "a"), (NS_PER_S + NEAR_NS, "b")]


@given(
    seed=st.integers(0, 99),
    sizes=st.lists(st.integers(1, 999), max_size=40),
    loss=st.floats(0, 1),
    duplicate=st.floats(0, 1),
    cut_ns=st.integers(0, 10**7),
    end_ns=st.integers(10**7, 4 * 10**7),
)
def test_every_byte_is_delivered_dropped_or_under_way(
    seed: int, sizes: list[int], loss: float, duplicate: float, cut_ns: int, end_ns: int
) -> None:
    agenda = Agenda()
    delivered: list[int] = []
    link = Link(agenda, Streams(seed), "a", "b", Way(delay_ns=5_000_000, jitter_ns=10_000_000))
    link.suffer("x", Way(loss=loss, duplicate=duplicate, reorder=0.5))
    for place, size in enumerate(sizes):
        agenda.after(place * 10**6, link.send, size, lambda size=size: delivered.append(size))
    agenda.after(cut_ns, link.cut, "c")
    agenda.after(cut_ns + 10**7, link.mend, "c")
    agenda.after(end_ns, agenda.stop)
    agenda.run()
    sent = sum(sizes[: end_ns // 10**6 + 1])
    assert link.bytes_sent in (
        sent,
        sent - (sizes[end_ns // 10**6 : end_ns // 10**6 + 1] or [0])[0],
    )
    assert link.bytes_delivered + link.bytes_dropped + link.bytes_under_way == link.bytes_sent
    assert link.bytes_under_way >= 0
    assert sum(delivered) >= link.bytes_delivered


# --- exchanges


def test_who_waits_on_a_connection_that_is_reset_hears_of_it_at_once_and_once() -> None:
    agenda = Agenda()
    links = {(a, b): Link(agenda, Streams(1), a, b, Way()) for a, b in (("a", "b"), ("b", "a"))}
    net = Net(agenda, links)
    net.ends["b"] = End("b", vanished=True)
    answers: list[Any] = []
    net.ask("a", "b", 1, lambda program, reply: None, answers.append, timeout_ns=NS_PER_S)
    agenda.after(NS_PER_MS, net.reset, "a", "b")
    agenda.after(2 * NS_PER_S, agenda.stop)
    agenda.run()
    assert answers == [Failure("connection_lost", sent=True)]


def test_a_late_answer_is_not_heard_after_the_time_is_over() -> None:
    agenda = Agenda()
    slow = Way(delay_ns=NS_PER_S)
    links = {(a, b): Link(agenda, Streams(1), a, b, slow) for a, b in (("a", "b"), ("b", "a"))}
    net = Net(agenda, links)

    class Program:
        life = Life(agenda)

    net.ends["b"] = End("b", Program())
    answers: list[Any] = []
    done: list[int] = []

    def serve(program: Any, reply: Any) -> None:
        done.append(agenda.now_ns)
        reply("late", 1)

    net.ask("a", "b", 1, serve, answers.append, timeout_ns=3 * NS_PER_S // 2)
    agenda.after(5 * NS_PER_S, agenda.stop)
    agenda.run()
    assert answers == [Failure("attempt_timeout", sent=True)]
    assert done == [NS_PER_S]


# --- disks


def disk_of(agenda: Agenda, **more: Any) -> Disk:
    return Disk(agenda, chance=Random(1), **more)


def after_a_sync(agenda: Agenda, disk: Disk, data: bytes) -> list[bool]:
    done: list[bool] = []
    disk.write("log/a", 0, data)
    disk.sync("log/a", done.append)
    agenda.after(NS_PER_S, agenda.stop)
    agenda.run()
    return done


@pytest.mark.parametrize("torn", [False, True])
def test_what_was_synced_outlasts_a_loss_of_power_and_the_rest_at_most_in_part(torn: bool) -> None:
    agenda = Agenda()
    disk = disk_of(agenda)
    assert after_a_sync(agenda, disk, b"synced") == [True]
    disk.write("log/a", 6, b"-not-synced")
    disk.write("log/b", 0, b"never")
    disk.lose_power(torn=torn)
    assert bytes(disk.files["log/a"].data).startswith(b"synced")
    assert len(disk.files["log/a"].data) < 17
    assert torn or bytes(disk.files["log/a"].data) == b"synced"
    assert torn or "log/b" not in disk.files


def test_a_sync_that_was_under_way_when_the_power_failed_is_never_answered() -> None:
    agenda = Agenda()
    disk = disk_of(agenda)
    done: list[bool] = []
    disk.write("log/a", 0, b"x")
    disk.sync("log/a", done.append)
    disk.lose_power(torn=False)
    agenda.after(NS_PER_S, agenda.stop)
    agenda.run()
    assert not done


def test_a_sync_covers_what_was_written_before_it_and_nothing_after() -> None:
    agenda = Agenda()
    disk = disk_of(agenda)
    disk.write("log/a", 0, b"before")
    disk.sync("log/a", lambda ok: None)
    disk.write("log/a", 6, b"after")
    agenda.after(NS_PER_S, agenda.stop)
    agenda.run()
    assert disk.files["log/a"].synced == 6


def test_a_full_disk_refuses_writes_and_says_when_there_is_space_again() -> None:
    agenda = Agenda()
    disk = disk_of(agenda)
    told: list[int] = []
    disk.full = True
    with pytest.raises(OSError, match="space") as refused:
        disk.write("log/a", 0, b"x")
    assert refused.value.errno == errno.ENOSPC
    disk.when_space(lambda: told.append(agenda.now_ns))
    agenda.after(5, disk.empty)
    agenda.after(9, agenda.stop)
    agenda.run()
    assert told == [5]


def test_a_stale_disk_is_as_it_was_and_forgets_what_was_not_synced_then() -> None:
    agenda = Agenda()
    disk = disk_of(agenda)
    after_a_sync(agenda, disk, b"old")
    disk.kept["role"] = "writer"
    disk.write("log/a", 3, b"+unsynced")
    disk.photograph()
    disk.write("log/a", 3, b"+new")
    disk.kept["role"] = "standby"
    assert disk.go_back()
    assert bytes(disk.files["log/a"].data) == b"old"
    assert disk.kept["role"] == "writer"
    assert not disk.go_back()


# --- clocks


def test_a_drift_is_kept_when_it_ends_and_a_step_moves_the_wall_clock_alone() -> None:
    agenda = Agenda()
    clock = Clock(agenda)
    agenda.after(NS_PER_S, clock.drift, 1_000.0)
    agenda.after(2 * NS_PER_S, clock.drift, 0.0)
    agenda.after(3 * NS_PER_S, agenda.stop)
    agenda.run()
    assert clock.steady_ns() == 3 * NS_PER_S + NS_PER_MS
    clock.step(-NS_PER_S)
    assert clock.wall_ns() == START_NS + 2 * NS_PER_S + NS_PER_MS
    assert clock.steady_ns() == 3 * NS_PER_S + NS_PER_MS
