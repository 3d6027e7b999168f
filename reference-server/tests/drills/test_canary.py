"""The canary of the judge: a judge that is blind to anything named does not start."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from fractal_lba_server.contract import validator
from fractal_lba_server.judge import anomalies as looks
from fractal_lba_server.judge.canary import (
    RUNS_FAIL,
    SINGLE_COUNTS,
    SINGLE_FAILS,
    CanaryError,
    bad_records,
    bad_runs,
    canary,
    good_records,
)
from fractal_lba_server.judge.check import FAILS, HOLDS, Event, Report, check


def test_the_judge_condemns_the_bad_run_and_not_the_good_one() -> None:
    canary()


def test_the_runs_of_the_canary_are_traces() -> None:
    for event in (*bad_records(), *bad_runs(), *good_records()):
        validator("trace").validate(event)


@pytest.mark.parametrize("name", sorted(SINGLE_FAILS | RUNS_FAIL))
def test_a_judge_that_is_blind_to_one_promise_is_found(name: str) -> None:
    def blind(events: Iterable[Event]) -> Report:
        report = check(events)
        verdicts = [
            one._replace(state=HOLDS) if one.name == name else one for one in report.verdicts
        ]
        return Report(tuple(verdicts), report.trace)

    with pytest.raises(CanaryError, match=name):
        canary(blind)


@pytest.mark.parametrize("name", sorted(SINGLE_COUNTS))
def test_a_judge_that_overlooks_an_anomaly_is_found(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(looks.LOOKS, name, (lambda _: 0, lambda _: None))
    with pytest.raises(CanaryError, match=name):
        canary()


def test_a_judge_that_condemns_everything_is_found() -> None:
    def harsh(events: Iterable[Event]) -> Report:
        report = check(events)
        verdicts = tuple(one._replace(state=FAILS) for one in report.verdicts)
        return Report(verdicts, report.trace)

    with pytest.raises(CanaryError, match="good run"):
        canary(harsh)
