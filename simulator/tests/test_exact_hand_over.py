"""An operator hands a placement over: the old writer stops, the new one has every frame."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from fractal_lba_server.drill.scenario import scenario_of
from fractal_lba_server.judge.check import FAILS, HOLDS, check
from fractal_lba_sim.engine import engine
from fractal_lba_sim.explore.zoo.bases import STANDBY

ASKED_S, VOTED_S, GIVEN_UP_S = 6, 9, 19
"""By checkers and an arbiter alone the standby would write from 10.6 s on, after `VOTED_S`."""

NS = 1_000_000_000
CUT = {"id": "cut", "kind": "partition", "from": "euw", "to": "use", "at_s": 5, "for_s": 17}


def played(*, arbiter: bool, faults: tuple[dict[str, Any], ...] = ()) -> list[dict[str, Any]]:
    """Play the zoo's warm standby with an operator's hand-over and the server's own probes."""
    document = deepcopy(dict(STANDBY))
    document["topology"]["arbiter"] = arbiter
    del document["settings"]["probe"]
    document["load"] |= {
        "duration_s": 24, "rate_per_s": 10, "settle_s": 30, "repeat_share": 0.3,
        "clients": [{"name": "one", "endpoints": ["euw", "use"]}],
    }  # fmt: skip
    document["steps"] = [{"do": "failback", "at_s": ASKED_S, "region": "euw", "to": "use"}]
    document["faults"] = list(faults)
    return list(engine("exact").play(scenario_of(document, "hand-over"), seed=1))


def writers(events: list[dict[str, Any]], *, after_s: float, until_s: float = 60) -> set[str]:
    return {
        event["region"]
        for event in events
        if event["event"] == "put"
        and event["result"] == "new"
        and after_s * NS < event["at_ns"] < until_s * NS
    }


def verdicts(events: list[dict[str, Any]]) -> dict[str, str]:
    return {verdict.name: verdict.state for verdict in check(events).verdicts}


@pytest.mark.parametrize("arbiter", [True, False])
def test_the_standby_writes_all_that_comes_after_a_hand_over(arbiter: bool) -> None:
    events = played(arbiter=arbiter)
    assert writers(events, after_s=0, until_s=ASKED_S) == {"euw"}
    assert writers(events, after_s=ASKED_S + 1, until_s=VOTED_S) == {"use"}
    assert writers(events, after_s=VOTED_S) == {"use"}
    found = verdicts(events)
    assert FAILS not in found.values()
    assert found["single_writer"] == found["no_loss_end_to_end"] == HOLDS


def test_the_old_writer_goes_on_where_the_standby_cannot_be_reached_in_time() -> None:
    events = played(arbiter=False, faults=(CUT,))
    assert writers(events, after_s=0) == writers(events, after_s=GIVEN_UP_S) == {"euw"}
    assert FAILS not in verdicts(events).values()
