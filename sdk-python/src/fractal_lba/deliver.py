"""Deliver what the outbox holds: keep first, attempt, then settle. Pure, like `call.py`.

This file owns the order that loses nothing: a letter is durable before its first attempt, and
its entry ends only by a verdict about an answer to these very bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Final

from .batch import MAX_BATCH_BYTES, MAX_BATCH_LINES
from .call import Answers, Call, Deliver, Doze, Hear, Keep, Send, Settle, State, Take
from .errors import FractalLBAError
from .held import judge_recorded
from .http import RawResponse, Request
from .outbox import Letter
from .outcome import Submitted
from .region_status import read_region_status, watermark_of
from .schedule import Due, Later, Pause, Verdict, judge
from .sign import SignedRecord

UNSUPPORTED_BATCH: Final = frozenset({400, 404, 405, 413, 415, 422})
"""Answers to a batch as a whole that say: this server takes no such batch, send singles."""

ASK_MS: Final = 5_000
"""While something is held, a region is asked so often how far it is replicated."""

ASK_TIMEOUT_MS: Final = 2_000
"""How long an endpoint has to say how far it is replicated."""

UNREADABLE: Final = frozenset({"response_malformed", "response_too_large"})
"""Answers that say nothing about the record, whatever their status."""


def submit_kept(
    letter: Letter, call: Callable[[], Call[Submitted]], *, level: str
) -> Call[Submitted]:
    """Keep a letter, attempt, settle at the level of the client.

    The error of a delivery that stopped says by `queued` whether the outbox goes on with it.
    """
    turn = yield Keep(letter)
    if isinstance(turn.answer, FractalLBAError):
        raise turn.answer
    assert isinstance(turn.answer, Letter)
    return (yield from deliver(turn.answer.id, call(), level=level))


def enqueue(letter: Letter) -> Call[str]:
    """Keep a letter and leave it to the courier; give the id of its entry."""
    turn = yield Keep(letter, in_flight=False)
    if isinstance(turn.answer, FractalLBAError):
        raise turn.answer
    assert isinstance(turn.answer, Letter)
    return turn.answer.id


def deliver(id: str, call: Call[Submitted], *, level: str) -> Call[Submitted]:
    """Attempt one entry in flight and settle it."""
    try:
        submitted = yield from call
    except FractalLBAError as error:
        verdict = verdict_of(error)
        error.queued = isinstance(verdict, Later | Pause)
        yield Settle(id, verdict)
        raise
    yield Settle(id, judge_recorded(submitted, level))
    return submitted


def deliver_batch(
    letters: Sequence[Letter], batch: Call[Answers], state: State, *, level: str
) -> Call[None]:
    """Attempt entries of one tenant as a batch and settle each by its own answer."""
    answers: Answers
    try:
        answers = yield from batch
    except FractalLBAError as error:
        if error.status in UNSUPPORTED_BATCH and error.code not in UNREADABLE:
            state.takes_batches = False
            verdict: Verdict = Later(endpoint_down=False)
        else:
            verdict = verdict_of(error)
        for letter in letters:
            yield Settle(letter.id, verdict)
        return
    if all(isinstance(answer, FractalLBAError) and answer.code in UNREADABLE for answer in answers):
        state.takes_batches = False
    for letter, answer in zip(letters, answers, strict=True):
        if isinstance(answer, FractalLBAError):
            yield Settle(letter.id, verdict_of(answer))
        else:
            yield Settle(letter.id, judge_recorded(answer, level))


def verdict_of(error: FractalLBAError) -> Verdict:
    """Decide what an error means for the entry."""
    return judge(
        None if error.code in UNREADABLE else error.status,
        error.code,
        error.message,
        error.body,
        retry_after_ms=error.retry_after_ms,
        cancelled=error.code == "cancelled",
    )


def signed_of(letter: Letter) -> SignedRecord:
    """Give a kept letter the shape of a record that somebody signed."""
    return SignedRecord(letter.body, letter.pcs_id, letter.key, {})


def ask(request: Callable[[], Request], timeout_ms: int) -> Call[None]:
    """Ask an endpoint once how far its region is replicated; what cannot be read says nothing."""
    turn = yield Send(request(), timeout_ms, timeout_ms)
    if not isinstance(turn.answer, RawResponse):
        return
    status = read_region_status(turn.answer.body) if turn.answer.status == 200 else None
    if status is not None:
        # First: it knows which entries stand in a region_epoch that the header only names.
        yield Hear(status)
    watermark = watermark_of(turn.answer.headers)
    if watermark is not None:
        yield Hear(watermark)


class _Asking:
    """When to ask the next time: every 5 s while something is held, a flush at once."""

    def __init__(self, *, at_once: bool) -> None:
        self._at_once = at_once
        self.at_ms: int | None = None

    def look(self, held: int, monotonic_ms: int) -> bool:
        """Say whether to ask now."""
        if not held:
            self.at_ms = None
            return False
        if self.at_ms is None:
            self.at_ms = monotonic_ms + (0 if self._at_once else ASK_MS)
        if monotonic_ms < self.at_ms:
            return False
        self.at_ms = monotonic_ms + ASK_MS
        return True


def pump(
    deliveries: Callable[[Sequence[Letter]], Sequence[Call[object]]],
    *,
    asks: Callable[[int], Sequence[Call[object]]] | None,
    deadline_ms: int | None,
) -> Call[None]:
    """Deliver what is due, again and again; ask how far regions are replicated, where that helps.

    With a deadline, on the clock of `Turn.monotonic_ms`, until then or until nothing is left
    that may be sent or, with `asks`, that is held; without one until the client is closed. The
    deadline holds for the deliveries as well: `deliveries` bounds them by it. `asks` gets the
    time in which it must have its answers.
    """
    asking = _Asking(at_once=deadline_ms is not None)
    while True:
        turn = yield Take(MAX_BATCH_LINES, MAX_BATCH_BYTES)
        due = turn.answer
        if isinstance(due, FractalLBAError):
            raise due
        assert isinstance(due, Due)
        ids = tuple(letter.id for letter in due.letters)
        is_late = deadline_ms is not None and turn.monotonic_ms >= deadline_ms
        calls: Sequence[Call[object]] = ()
        if asks is not None and not is_late and asking.look(due.held, turn.monotonic_ms):
            left_ms = None if deadline_ms is None else deadline_ms - turn.monotonic_ms
            calls = asks(ASK_TIMEOUT_MS if left_ms is None else min(left_ms, ASK_TIMEOUT_MS))
        if calls:
            turn = yield Deliver(tuple(calls), ids)
        if due.letters:
            turn = yield Deliver(tuple(deliveries(due.letters)), ids)
            if deadline_ms is not None and turn.monotonic_ms >= deadline_ms:
                return
        if due.letters or calls:
            continue
        waits_ms = [] if due.next_due_ms is None else [due.next_due_ms - turn.now_ms]
        # One that is over: due, but no room until something that is in flight settles.
        waits_ms = [wait_ms for wait_ms in waits_ms if wait_ms > 0]
        if asking.at_ms is not None:
            waits_ms.append(asking.at_ms - turn.monotonic_ms)
        if deadline_ms is not None:
            nothing_left = due.next_due_ms is None and not due.in_flight and asking.at_ms is None
            if is_late or nothing_left:
                return
            waits_ms.append(deadline_ms - turn.monotonic_ms)
        turn = yield Doze(min(waits_ms, default=None))
        if isinstance(turn.answer, FractalLBAError):
            return


def by_tenant(letters: Sequence[Letter]) -> list[list[Letter]]:
    """Group letters by tenant: a batch holds the lines of one."""
    ordered = sorted(letters, key=lambda letter: letter.tenant or "")
    groups = groupby(ordered, key=lambda letter: letter.tenant)
    return [list(group) for _, group in groups]
