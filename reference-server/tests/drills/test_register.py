"""The linear rule of a first-write-wins register agrees with a search over all orders."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterable
from types import ModuleType

import pytest
from orders import has_order, some_history

from fractal_lba_server.judge import register
from fractal_lba_server.judge.register import (
    ABSENT,
    ACCEPTED,
    SEEN,
    UNKNOWN,
    Operation,
    fault_of,
)

Rule = Callable[[Iterable[Operation]], str | None]

PARTS = 10


def disagreement(rule: Rule, seed: int, count: int) -> tuple[list[Operation] | None, list[int]]:
    """Give a history of which a rule and the search differ, and how many had an order or none."""
    chance = random.Random(seed)
    verdicts = [0, 0]
    for _ in range(count):
        history = some_history(chance)
        expected = has_order(history)
        if (rule(history) is None) != expected:
            return history, verdicts
        verdicts[expected] += 1
    return None, verdicts


def test_the_rule_agrees_with_a_search_over_all_orders(capsys: pytest.CaptureFixture[str]) -> None:
    history, verdicts = disagreement(fault_of, 1, 20_000)
    assert history is None
    assert min(verdicts) > 5_000, "the histories say nothing"
    with capsys.disabled():
        print(f" {sum(verdicts)} histories, {verdicts[0]} without an order")


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 100 + PARTS))
def test_the_rule_agrees_on_a_million_histories(
    seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    history, verdicts = disagreement(fault_of, seed, 1_000_000 // PARTS)
    assert history is None
    with capsys.disabled():
        print(f" {sum(verdicts)} histories, {verdicts[0]} without an order")


MUTANTS = {
    "two first writes pass": ("if len(accepted) > 1:", "if len(accepted) > 2:"),
    "two values pass": ("if len(values) > 1:", "if len(values) > 2:"),
    "nobody need write": ("if not writes:\n        return", "if not writes:\n        return None and"),
    "a write of any value will do": (" and one.value in values", ""),
    "an unknown write beats an accepted one": ("accepted or [one", "accepted + [one"),
    "an unknown write is over when it returns": ("<= high:", "<= min(high, write.returned_ns):"),
    "absent reads are not looked at": ("max(low, write.invoked_ns)", "write.invoked_ns"),
    "a write may take effect before it begins": ("max(low, write.invoked_ns)", "low"),
    "what was seen is not looked at": ("<= high:", "<= write.returned_ns:"),
    "at one moment is too late": ("<= high:", "< high:"),
    "the last observer counts": ("high = min(", "high = max("),
    "the first absent read counts": ("low = max(", "low = min("),
    "an absent read counts from its return": ("max((one.invoked_ns", "max((one.returned_ns"),
    "what was seen counts from its call": ("min(one.returned_ns", "min(one.invoked_ns"),
    "the first write decides": ("    if low > high:", "        break\n    if low > high:"),
    "accepted writes are no observers": ("observers = accepted + [", "observers = ["),
    "reads are no observers": ("[one for one in operations if one.kind == SEEN]", "[]"),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_rule_disagrees_with_the_search(name: str) -> None:
    right, wrong = MUTANTS[name]
    source = inspect.getsource(register)
    assert source.count(right) == 1
    made = ModuleType("mutant")
    exec(source.replace(right, wrong), made.__dict__)
    rule = made.fault_of
    assert callable(rule)
    history, _ = disagreement(rule, 2, 20_000)
    assert history is not None


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
