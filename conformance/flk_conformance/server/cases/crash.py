"""What survives a kill, a stop and a lost store; needs `--control`.

These cases run last and one by one; each leaves the server running.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps

from .. import judge
from ..judge import require
from ..records import OFF_D_HAT, Submission, resigned
from ..trial import Trial, case
from ..wire import Reply, WireError

NEEDS = "submit"
SENDERS = 4
"""Threads that submit while the server is killed."""

READY = 800
"""Records that are signed before the senders start."""


def control_case(
    name: str, cites: str, *, needs: str = NEEDS
) -> Callable[[Callable[[Trial], None]], Callable[[Trial], None]]:
    """Enter a case that hurts the server; whatever it finds, the server runs again after it."""

    def enter(run: Callable[[Trial], None]) -> Callable[[Trial], None]:
        @wraps(run)
        def restored(trial: Trial) -> None:
            trial.control("start")
            trial.client.forget()
            try:
                run(trial)
            finally:
                trial.control("store-up")
                trial.control("stop")
                trial.control("start")
                trial.client.forget()

        return case(name, cites, needs=needs, control=True)(restored)

    return enter


def _restart(trial: Trial, how: str) -> None:
    trial.control(how)
    trial.client.forget()
    trial.control("start")


def _some(trial: Trial, count: int) -> list[tuple[Submission, Reply]]:
    key = trial.key()
    rows = [trial.records.fresh(key, (OFF_D_HAT if i % 4 == 3 else {})) for i in range(count)]
    return [(one, trial.send(one)) for one in rows]


@control_case("crash/7.8/1", "formats 7.8")
def kill_after_acknowledgement(trial: Trial) -> None:
    """What was acknowledged just before a kill is there after it, byte for byte."""
    taken = _some(trial, 20)
    trial.control("kill")
    trial.client.forget()
    trial.control("start")
    for one, first in taken:
        trial.stands(one, first)


@control_case("crash/7.8/2", "formats 7.8")
def kill_under_load(trial: Trial) -> None:
    """Of records that are sent while the server is killed, every acknowledged one is there."""
    key = trial.key()
    rows = [trial.records.fresh(key) for _ in range(READY)]
    taken: list[tuple[Submission, Reply]] = []
    lost: list[Submission] = []
    begun = threading.Event()

    def send(part: list[Submission]) -> None:
        for one in part:
            try:
                reply = trial.client.ask(
                    "POST", "/v1/pcs/submit", [("Content-Type", "application/json")], one.body
                )
            except WireError:
                lost.append(one)
                return
            taken.append((one, reply))
            begun.set()

    senders = [threading.Thread(target=send, args=(rows[i::SENDERS],)) for i in range(SENDERS)]
    for sender in senders:
        sender.start()
    begun.wait()
    trial.control("kill")
    for sender in senders:
        sender.join()
    trial.client.forget()
    trial.control("start")
    for one, first in taken:
        judge.recorded(first)
        trial.stands(one, first)
    for one in lost:
        judge.recorded(trial.send(one), again=None)


@control_case("crash/7.8/3", "formats 7.8")
def kill_of_a_batch(trial: Trial) -> None:
    """A batch that was acknowledged is there after a kill."""
    key = trial.key()
    rows = [trial.records.fresh(key) for _ in range(50)]
    body = b"".join(row.body + b"\n" for row in rows)
    found = judge.items(
        trial.ask("POST", "/v1/pcs/batch", [("Content-Type", "application/x-ndjson")], body)
    )
    _restart(trial, "kill")
    for one, item in zip(rows, found, strict=True):
        again = trial.send(one)
        judge.recorded(again, again=True)
        require(again.body == item["outcome"], "another outcome after the kill")


@control_case("crash/2.11/1", "formats 2.11")
def outcome_after_a_restart(trial: Trial) -> None:
    """An outcome is the same after a stop and a start: body, status and position."""
    taken = _some(trial, 12)
    _restart(trial, "stop")
    for one, first in taken:
        trial.stands(one, first)
        place = trial.send(one).header("pcs-position")
        require(place == first.header("pcs-position"), f"the position moved to {place}")


@control_case("crash/5.4/1", "canonical 5.4")
def conflict_after_a_restart(trial: Trial) -> None:
    """Other content is a conflict after a kill too."""
    taken = _some(trial, 3)
    _restart(trial, "kill")
    for one, first in taken:
        other = resigned(one, one.key, {"budget": "0.351"})
        judge.refused(trial.send(other), 409, "pcs_id_conflict")
        trial.stands(one, first)


@control_case("crash/4.1/1", "formats 4.1")
def positions_after_a_restart(trial: Trial) -> None:
    """After a kill a new record stands behind all that were acknowledged."""
    ((_, before),) = _some(trial, 1)
    _restart(trial, "kill")
    ((_, after),) = _some(trial, 1)
    places = [reply.header("pcs-position") or "" for reply in (before, after)]
    numbers = [int(place.rpartition("/")[2]) for place in places]
    require(numbers[1] > numbers[0], f"{places[0]} is followed by {places[1]}")


@control_case("crash/5.3/1", "formats 5.3")
def clock_after_a_restart(trial: Trial) -> None:
    """After a kill the hybrid clock goes on where it stood."""
    ((_, before),) = _some(trial, 1)
    _restart(trial, "kill")
    ((_, after),) = _some(trial, 1)
    seen = [judge.outcome(reply)["first_seen"]["hlc"] for reply in (before, after)]
    require(seen[1] > seen[0], f"hlc {seen}")


# --- a store that cannot answer ------------------------------------------------------------------


def _settled(trial: Trial) -> list[tuple[Submission, Reply]]:
    """Record something and restart, so that only the store knows it."""
    taken = _some(trial, 8)
    _restart(trial, "stop")
    return taken


@control_case("crash/9.5/1", "formats 9.5")
def store_down_is_not_new(trial: Trial) -> None:
    """While the store is down a known record is 503, never new; afterwards it is a duplicate."""
    taken = _settled(trial)
    trial.control("store-down")
    for one, _ in taken:
        reply = trial.send(one)
        if reply.status in (200, 202):
            require(judge.replayed(reply), "a known record was taken for new")
        else:
            judge.refused(reply, 503, "unavailable")
    trial.control("store-up")
    _restart(trial, "stop")
    for one, first in taken:
        trial.stands(one, first)


@control_case("crash/9.5/2", "formats 9.5")
def conflict_while_the_store_is_down(trial: Trial) -> None:
    """While the store is down other content of a known id is not taken."""
    taken = _settled(trial)
    trial.control("store-down")
    for one, _ in taken:
        reply = trial.send(resigned(one, one.key, {"budget": "0.352"}))
        require(reply.status in (409, 503), f"expected 503 or 409, got {reply.status}")
    trial.control("store-up")
    _restart(trial, "stop")
    for one, first in taken:
        trial.stands(one, first)


@control_case("crash/9.5/3", "formats 9.5", needs="submit get")
def read_while_the_store_is_down(trial: Trial) -> None:
    """While the store is down a known outcome is 503 or there, never 404."""
    tenant = trial.reader()
    one = trial.records.fresh(next(tenant.keys_with()))
    first = trial.send(one)
    _restart(trial, "stop")
    trial.control("store-down")
    reply = trial.get(one.pcs_id, tenant)
    if reply.status == 503:
        judge.refused(reply, 503, "unavailable")
    else:
        require(reply.body == first.body, f"GET answers {reply.status} {reply.body[:120]!r}")


@control_case("crash/9.5/4", "formats 9.5", needs="submit batch")
def batch_while_the_store_is_down(trial: Trial) -> None:
    """While the store is down the known lines of a batch are 503, each with retry_after_ms."""
    taken = _settled(trial)
    trial.control("store-down")
    body = b"".join(one.body + b"\n" for one, _ in taken)
    reply = trial.ask("POST", "/v1/pcs/batch", [("Content-Type", "application/x-ndjson")], body)
    for item in judge.items(reply):
        known = item["status"] == 503 or item.get("replayed") is True
        require(known, f"a known line was answered {item['status']} as new")


# --- a server that drains ------------------------------------------------------------------------


@control_case("crash/9.5/5", "formats 9.5", needs="submit health")
def drain(trial: Trial) -> None:
    """A draining server refuses records with 503, is not ready, lives, and still reads."""
    ((one, first),) = _some(trial, 1)
    trial.control("drain")
    for reply in (
        trial.send(trial.records.fresh(trial.key())),
        trial.send(one),
        trial.ask("GET", "/health"),
        trial.ask("GET", "/readyz"),
    ):
        judge.refused(reply, 503, "unavailable")
    require(trial.ask("GET", "/healthz").status == 200, "it says that it does not live")
    tenant = trial.owner(one.key)
    if tenant.token is not None and "get" in trial.features.claimed:
        require(trial.get(one.pcs_id, tenant).body == first.body, "it does not read")


@control_case("crash/9.5/6", "formats 9.5", needs="submit batch")
def drain_refuses_a_batch(trial: Trial) -> None:
    """A draining server refuses every line of a batch with 503."""
    key = trial.key()
    trial.control("drain")
    body = b"".join(trial.records.fresh(key).body + b"\n" for _ in range(3))
    reply = trial.ask("POST", "/v1/pcs/batch", [("Content-Type", "application/x-ndjson")], body)
    if reply.status == 503:
        return
    statuses = [item["status"] for item in judge.items(reply)]
    require(statuses == [503] * 3, f"{statuses}")


@control_case("crash/7.8/4", "formats 7.8")
def stop_keeps_its_word(trial: Trial) -> None:
    """Of records that are sent while the server is stopped, every acknowledged one is there."""
    key = trial.key()
    rows = [trial.records.fresh(key) for _ in range(READY // 4)]
    taken: list[tuple[Submission, Reply]] = []
    begun = threading.Event()

    def send() -> None:
        for one in rows:
            try:
                reply = trial.send(one)
            except WireError:
                return
            if reply.status == 503:
                return
            taken.append((one, reply))
            begun.set()

    sender = threading.Thread(target=send)
    sender.start()
    begun.wait()
    trial.control("stop")
    sender.join()
    trial.client.forget()
    trial.control("start")
    for one, first in taken:
        trial.stands(one, first)
