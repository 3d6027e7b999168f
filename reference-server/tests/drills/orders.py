"""Judge a register by trying all orders, which shares no idea with the rule that it checks."""

from __future__ import annotations

import random
from collections.abc import Sequence

from fractal_lba_server.judge.register import ABSENT, ACCEPTED, SEEN, UNKNOWN, Operation

NEVER = 1 << 60
KINDS = (ACCEPTED, SEEN, SEEN, ABSENT, UNKNOWN)


def has_order(history: Sequence[Operation]) -> bool:
    """Try every order that keeps the order of time; an unknown write may also never happen."""
    ends = [NEVER if one.kind == UNKNOWN else one.returned_ns for one in history]
    before = [
        sum(1 << place for place, end in enumerate(ends) if end < one.invoked_ns) for one in history
    ]
    sure = sum(1 << place for place, one in enumerate(history) if one.kind != UNKNOWN)
    steps = [(1 << place, before[place], one.kind, one.value) for place, one in enumerate(history)]

    def go(left: int, value: str | None) -> bool:
        if not left & sure:
            return True
        for bit, first, kind, own in steps:
            if not left & bit or first & left:
                continue
            if kind == UNKNOWN:
                fits, after = True, own if value is None else value
            elif kind == ACCEPTED:
                fits, after = value is None, own
            else:
                fits, after = own == value, value
            if fits and go(left & ~bit, after):
                return True
        return False

    return go((1 << len(history)) - 1, None)


def some_history(chance: random.Random) -> list[Operation]:
    """Give up to six operations on one register, in a few moments, so that they overlap."""
    draw = chance.random
    history = []
    for _ in range(int(draw() * 7)):
        kind = KINDS[int(draw() * 5)]
        invoked = int(draw() * 10)
        value = None if kind == ABSENT else "aab"[int(draw() * 3)]
        history.append(Operation(kind, value, invoked, invoked + int(draw() * 7)))
    return history
