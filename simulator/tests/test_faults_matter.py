"""Each kind of fault matters: a simulator that ignores it is caught by that kind, and by no other.

The matrix has a row for each kind of fault and a column for each mutant, which ignores one kind.
The run of a kind is invalid under its own mutant, because its effect counter stays 0, and valid
under every other one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from test_exact_faults import REFUSED, fault_of, scenario

from fractal_lba_server.drill.kinds import FAULT_KINDS
from fractal_lba_server.drill.scenario import scenario_of
from fractal_lba_server.judge.check import FAILS, HOLDS, check
from fractal_lba_sim.catalogue import counter_of
from fractal_lba_sim.exact.breaker import Breaker, Fault
from fractal_lba_sim.exact.engine import Engine
from fractal_lba_sim.exact.fault_kinds import KINDS
from fractal_lba_sim.exact.plants import SIMULATOR, Parts, plant

KINDS_MIN = 40
OTHERS_SHORT = 2
"""Mutants of other kinds under which the short form plays the run of a kind."""

NOT_PLAYED = {"listing-stale": "no decision of the server depends on a listing"}
"""Kinds that the exact engine refuses, each with its reason."""


def mutant_of(kind: str) -> str:
    return f"ignores-{kind}"


def _planted(kind: str) -> Callable[[Parts], Parts]:
    class Ignores(Breaker):
        def inject(self, fault: Fault) -> None:
            if fault["kind"] != kind:
                super().inject(fault)
                return
            self.open[fault["id"]] = fault
            self._moments[fault["id"]] = []
            self._write(fault, "injected")

        def heal(self, fault: Fault) -> None:
            if fault["kind"] != kind:
                super().heal(fault)
            elif self.open.pop(fault["id"], None) is not None:
                self._write(fault, "healed")

        def end(self) -> None:
            self.open = {id: one for id, one in self.open.items() if one["kind"] != kind}
            super().end()

    return lambda parts: parts.but(breaker=Ignores)


for _kind in sorted(KINDS):
    plant(mutant_of(_kind), kind=SIMULATOR, says=f"{_kind} is ignored")(_planted(_kind))


def state_of(kind: str, mutant: str | None) -> str:
    """Play the run of a kind, with a mutant or without; give whether its faults had effects."""
    plants = () if mutant is None else (mutant_of(mutant),)
    made = scenario_of(scenario(fault_of(kind)), "test")
    return check(Engine().play(made, seed=1, plants=plants)).state_of("effects")


def effects_of(kind: str) -> dict[str, int]:
    made = scenario_of(scenario(fault_of(kind)), "test")
    rows: list[Any] = Engine().play(made, seed=1)
    effects: dict[str, int] = {}
    for row in rows:
        if row["event"] == "fault" and row["kind"] == kind:
            effects.update(row.get("effects", {}))
    return effects


def test_at_least_forty_kinds_are_played_and_the_others_have_a_reason() -> None:
    assert len(KINDS) >= KINDS_MIN
    assert set(NOT_PLAYED) == REFUSED == FAULT_KINDS.keys() - KINDS.keys()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_kind_counts_its_effect_under_its_own_name(kind: str) -> None:
    assert effects_of(kind)[counter_of(kind)] > 0


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_mutant_that_ignores_a_kind_is_exposed_by_it(kind: str) -> None:
    assert state_of(kind, kind) == FAILS


def others(kind: str, count: int) -> list[str]:
    """Give the mutants of other kinds; those next to it in the alphabet share its handlers."""
    ordered = sorted(KINDS)
    at = ordered.index(kind)
    companions = {fault["kind"] for fault in scenario(fault_of(kind))["faults"]}
    ring = ordered[at + 1 :] + ordered[:at]
    return [other for other in ring if other not in companions][:count]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_mutant_of_another_kind_is_not_exposed_by_it(kind: str) -> None:
    for other in others(kind, OTHERS_SHORT):
        assert state_of(kind, other) == HOLDS, other


@pytest.mark.long
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_no_mutant_of_another_kind_is_exposed_by_it(kind: str) -> None:
    for other in others(kind, len(KINDS)):
        assert state_of(kind, other) == HOLDS, other
