"""A wrong harness is noticed; the harness as it is raises nothing."""

from __future__ import annotations

import pytest

from mutants.harness import FAULTS, Fault, caught
from mutants.harness.checks import CHECKS


def test_the_harness_as_it_is_passes_every_check() -> None:
    assert caught(None) == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_a_wrong_harness_is_caught_by_the_checks_it_names(fault: Fault) -> None:
    assert caught(fault) == list(fault.killed_by)


def test_faults_name_checks_that_exist() -> None:
    assert {name for fault in FAULTS for name in fault.killed_by} <= set(CHECKS)
    assert len({fault.id for fault in FAULTS}) == len(FAULTS)
