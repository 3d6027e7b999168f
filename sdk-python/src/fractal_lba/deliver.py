"""Deliver what the outbox holds: keep first, attempt, then settle. Pure, like `call.py`.

This file owns the order that loses nothing: a letter is durable before its first attempt, and
its entry ends only by a verdict about an answer to these very bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Final

from .batch import MAX_BATCH_BYTES, MAX_BATCH_LINES
from .call import Answers, Call, Deliver, Doze, Keep, Settle, State, Take
from .errors import FractalLBAError
from .outbox import Letter
from .outcome import Submitted
from .schedule import Acknowledge, Due, Later, Pause, Verdict, judge
from .sign import SignedRecord

UNSUPPORTED_BATCH: Final = frozenset({400, 404, 405, 413, 415, 422})
"""Answers to a batch as a whole that say: this server takes no such batch, send singles."""

UNREADABLE: Final = frozenset({"response_malformed", "response_too_large"})
"""Answers that say nothing about the record, whatever their status."""


def submit_kept(letter: Letter, call: Callable[[], Call[Submitted]]) -> Call[Submitted]:
    """Keep a letter, attempt, settle.

    The error of a delivery that stopped says by `queued` whether the outbox goes on with it.
    """
    turn = yield Keep(letter)
    if isinstance(turn.answer, FractalLBAError):
        raise turn.answer
    assert isinstance(turn.answer, Letter)
    return (yield from deliver(turn.answer.id, call()))


def enqueue(letter: Letter) -> Call[str]:
    """Keep a letter and leave it to the courier; give the id of its entry."""
    turn = yield Keep(letter, in_flight=False)
    if isinstance(turn.answer, FractalLBAError):
        raise turn.answer
    assert isinstance(turn.answer, Letter)
    return turn.answer.id


def deliver(id: str, call: Call[Submitted]) -> Call[Submitted]:
    """Attempt one entry in flight and settle it."""
    try:
        submitted = yield from call
    except FractalLBAError as error:
        verdict = verdict_of(error)
        error.queued = isinstance(verdict, Later | Pause)
        yield Settle(id, verdict)
        raise
    yield Settle(id, Acknowledge(submitted.raw.status))
    return submitted


def deliver_batch(letters: Sequence[Letter], batch: Call[Answers], state: State) -> Call[None]:
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
            yield Settle(letter.id, Acknowledge(answer.raw.status))


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


def pump(
    deliveries: Callable[[Sequence[Letter]], Sequence[Call[object]]], *, deadline_ms: int | None
) -> Call[None]:
    """Deliver what is due, again and again.

    With a deadline, on the clock of `Turn.monotonic_ms`, until then or until nothing is left
    that may be sent; without one until the client is closed. The deadline holds for the
    deliveries as well: `deliveries` bounds them by it.
    """
    while True:
        turn = yield Take(MAX_BATCH_LINES, MAX_BATCH_BYTES)
        due = turn.answer
        if isinstance(due, FractalLBAError):
            raise due
        assert isinstance(due, Due)
        if due.letters:
            ids = tuple(letter.id for letter in due.letters)
            turn = yield Deliver(tuple(deliveries(due.letters)), ids)
            if deadline_ms is not None and turn.monotonic_ms >= deadline_ms:
                return
            continue
        wait_ms = None if due.next_due_ms is None else due.next_due_ms - turn.now_ms
        if wait_ms is not None and wait_ms <= 0:
            wait_ms = None  # due, but no room until something that is in flight settles
        if deadline_ms is not None:
            left_ms = deadline_ms - turn.monotonic_ms
            nothing_left = due.next_due_ms is None and not due.in_flight
            if left_ms <= 0 or nothing_left:
                return
            wait_ms = left_ms if wait_ms is None else min(wait_ms, left_ms)
        turn = yield Doze(wait_ms)
        if isinstance(turn.answer, FractalLBAError):
            return


def by_tenant(letters: Sequence[Letter]) -> list[list[Letter]]:
    """Group letters by tenant: a batch holds the lines of one."""
    ordered = sorted(letters, key=lambda letter: letter.tenant or "")
    groups = groupby(ordered, key=lambda letter: letter.tenant)
    return [list(group) for _, group in groups]
