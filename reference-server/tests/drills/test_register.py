"""The linear rule of a first-write-wins register agrees with a search over all orders."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from fractal_lba_server.judge.register import (
    ABSENT,
    ACCEPTED,
    SEEN,
    UNKNOWN,
    Operation,
    fault_of,
)

LATE = 1 << 60


def search(history: Sequence[Operation]) -> bool:
    """Try every order that keeps the order of time; an unknown write may also never happen."""

    def returned(one: Operation) -> int:
        return LATE if one.kind == UNKNOWN else one.returned_ns

    def go(left: tuple[Operation, ...], value: str | None) -> bool:
        if all(one.kind == UNKNOWN for one in left):
            return True
        for place, one in enumerate(left):
            if any(returned(other) < one.invoked_ns for other in left):
                continue
            rest = left[:place] + left[place + 1 :]
            if one.kind == UNKNOWN:
                after = one.value if value is None else value
                if go(rest, after):
                    return True
            elif one.kind == ACCEPTED:
                if value is None and go(rest, one.value):
                    return True
            elif (one.value == value) and go(rest, value):
                return True
        return False

    return go(tuple(history), None)


def some_history(chance: random.Random) -> list[Operation]:
    history = []
    for _ in range(chance.randint(0, 6)):
        kind = chance.choice((ACCEPTED, SEEN, SEEN, ABSENT, UNKNOWN))
        invoked = chance.randint(0, 9)
        value = None if kind == ABSENT else chance.choice("aab")
        history.append(Operation(kind, value, invoked, invoked + chance.randint(0, 6)))
    return history


@pytest.mark.parametrize("seed", range(8))
def test_the_linear_rule_agrees_with_a_search_over_all_orders(seed: int) -> None:
    chance = random.Random(seed)
    verdicts = {True: 0, False: 0}
    for _ in range(1_500):
        history = some_history(chance)
        expected = search(history)
        assert (fault_of(history) is None) == expected, history
        verdicts[expected] += 1
    assert min(verdicts.values()) > 150, "the histories say nothing"


@pytest.mark.parametrize(
    ("history", "fault"),
    [
        ([], None),
        ([Operation(UNKNOWN, "a", 0, 0)], None),
        ([Operation(ACCEPTED, "a", 0, 5), Operation(SEEN, "a", 6, 7)], None),
        ([Operation(ACCEPTED, "a", 0, 5), Operation(ACCEPTED, "a", 6, 7)], "2 writes"),
        ([Operation(ACCEPTED, "a", 0, 5), Operation(SEEN, "b", 6, 7)], "2 different"),
        ([Operation(SEEN, "a", 0, 5)], "nobody wrote"),
        ([Operation(UNKNOWN, "a", 3, 0), Operation(SEEN, "a", 4, 5)], None),
        ([Operation(UNKNOWN, "a", 6, 0), Operation(SEEN, "a", 4, 5)], "before its write"),
        ([Operation(ACCEPTED, "a", 0, 5), Operation(ABSENT, None, 6, 7)], "showed no value"),
    ],
)  # fmt: skip
def test_a_fault_is_named(history: list[Operation], fault: str | None) -> None:
    said = fault_of(history)
    assert (said is None) if fault is None else (said is not None and fault in said)
