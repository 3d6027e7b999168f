"""A toy engine: one record may be lost if a cut and a kill meet, as the plant says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from fractal_lba_server.drill.scenario import Scenario, ScenarioError

Event = dict[str, Any]

LOSES = "forgets-behind-a-cut"
"""Planted: what is written during a cut is gone if the writer is killed before it heals."""

FALLS = "falls-over"
"""Planted: a drain ends the machine."""

STARTED = 1767225600000000000


class Engine:
    """One region acknowledges; a census says what it holds."""

    def play(self, scenario: Scenario, *, seed: int, plants: Sequence[str] = ()) -> Iterator[Event]:
        document = scenario.document
        if any(fault["kind"] == "bit-flip" for fault in document.get("faults", ())):
            message = "bit-flip: the toy engine cannot play it; exact can"
            raise ScenarioError(message)
        yield {
            "event": "run", "at_ns": 0, "schema": 1, "engine": "exact", "seed": seed,
            "scenario": document, "scenario_digest": scenario.digest,
            "started_unix_ns": STARTED, "control": False, "versions": {"toy": "1"},
        }  # fmt: skip
        faults = scenario.faults(seed)
        yield from _faults(faults)
        if FALLS in plants and any(step["do"] == "drain" for step in document.get("steps", ())):
            raise AssertionError("a drain meets what nobody thought of")
        lost = _lost_times(faults) if LOSES in plants else []
        load = document["load"]
        count = max(1, round(load["duration_s"] * load["rate_per_s"]))
        chance = Random(f"{seed}/load")
        held = []
        end_ns = round(load["duration_s"] * 1e9) + 10**9
        for number in range(count):
            at_s = load["duration_s"] * number / count
            if load.get("arrivals") == "poisson":
                at_s = chance.uniform(0, load["duration_s"])
            put = _put(number, round(at_s * 1e9))
            yield put
            if not any(begin <= at_s < end for begin, end in lost):
                held.append(put)
        codes = [region["code"] for region in document["topology"]["regions"]]
        for code in codes:
            yield {"event": "census", "at_ns": end_ns, "census": "end", "region": code,
                   "keys": len(held)}  # fmt: skip
            for put in held:
                yield {"event": "held", "at_ns": end_ns, "census": "end", "region": code,
                       "key": put["key"], "frame": put["frame"], "content": put["content"],
                       "overridden": []}  # fmt: skip
        yield {"event": "end", "at_ns": end_ns}


def _faults(faults: Sequence[Event]) -> Iterator[Event]:
    for fault in faults:
        at_ns = round(fault["at_s"] * 1e9)
        about = {"id": fault["id"], "kind": fault["kind"]}
        yield {"event": "fault", "at_ns": at_ns, **about, "state": "injected"}
        # A reset of a connection that nobody uses is a fault without effect.
        effects = {"done": int(fault["kind"] != "reset")}
        yield {"event": "fault", "at_ns": at_ns, **about, "state": "effect", "effects": effects}


def _lost_times(faults: Sequence[Event]) -> list[tuple[float, float]]:
    cuts = [fault for fault in faults if fault["kind"] == "partition"]
    kills = [fault["at_s"] for fault in faults if fault["kind"] == "process-kill"]
    return [
        (cut["at_s"], kill)
        for cut in cuts
        for kill in kills
        if cut["at_s"] <= kill <= cut["at_s"] + cut["for_s"]
    ]


def _put(number: int, at_ns: int) -> Event:
    return {
        "event": "put", "at_ns": at_ns + 1_000_000, "call_ns": at_ns, "client": "near-euw",
        "region": "euw", "key": f"acme/{number:064x}", "content": f"{number:016x}", "bytes": 813,
        "result": "new", "frame": f"euw:{number + 1:016x}",
        "position": f"euw/open/1/{number + 1}", "level": "durable",
    }  # fmt: skip
