"""An engine of a few lines, and its scenario, for the tests of what surrounds engines.

One region goes down; clients are back after `failures * interval_s` and a uniform part of the TTL,
and what was acknowledged in a uniform part of the shipping interval before the fault is gone.
`TINY_SLEEP_S` makes it slow, `tiny-crash` kills its process, `tiny-refuses` is refused.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

from fractal_lba_server.core.faults import DocumentError, Fault
from fractal_lba_server.drill.scenario import Scenario, ScenarioError
from fractal_lba_sim.streams import Streams

S = 10**9
RATE = 10
STREAM = {"placement": "open", "region_epoch": 0}


class Engine:
    def play(
        self, scenario: Scenario, *, seed: int, plants: Sequence[str] = ()
    ) -> Iterator[dict[str, Any]]:
        if scenario.document["title"] == "tiny-crash" and seed == 3:
            os._exit(7)
        if scenario.part("settings").get("on_partition") == "refuse":
            raise ScenarioError("tiny: cannot refuse writes")
        if scenario.part("settings").get("level") == "witnessed":
            raise DocumentError([Fault("/settings/level", "nobody witnesses", "choose another")])
        time.sleep(float(os.environ.get("TINY_SLEEP_S", "0")))
        streams = Streams(seed)
        probe, shipping = scenario.part("settings", "probe"), scenario.part("settings", "shipping")
        part = streams.of("client", "dns").random()
        wait_s = probe["failures"] * probe["interval_s"] + part * probe.get("dns_ttl_s", 0)
        lost_s = streams.of("euw", "shipping").random() * shipping.get("interval_s", 0)
        (fault,) = scenario.faults(seed)
        hit_s, end_s = fault["at_s"], scenario.part("load")["duration_s"]
        back_s = min(hit_s + wait_s, end_s)
        acked, lost = int(hit_s * RATE), int(lost_s * RATE)
        yield {
            "event": "run", "at_ns": 0, "schema": 1, "engine": "tiny", "seed": seed,
            "scenario": scenario.document, "scenario_digest": scenario.digest,
            "started_unix_ns": 1767225600 * S, "control": scenario.control,
            "versions": {"tiny": "1"},
        }  # fmt: skip
        yield flow("euw", 0, hit_s, 1, acked, "near")
        yield calls(0, hit_s, good=True)
        injected = {"event": "fault", "id": fault["id"], "kind": fault["kind"], "region": "euw"}
        effects = {"calls": 0 if scenario.document["title"] == "tiny-idle" else 3}
        yield {**injected, "at_ns": ns(hit_s), "state": "injected"}
        if back_s > hit_s:
            yield calls(hit_s, back_s, good=False)
        if end_s > back_s:
            yield flow("use", back_s, end_s, 1, int((end_s - back_s) * RATE) or 1, "near")
            yield calls(back_s, end_s, good=True)
        yield {**injected, "at_ns": ns(end_s), "state": "healed", "effects": effects}
        for code, of, first, count in (
            ("use", "euw", 1, acked - lost),
            ("use", "use", 1, int((end_s - back_s) * RATE) or 1),
        ):
            yield {"event": "census", "at_ns": ns(end_s), "census": "end", "region": code}
            if end_s > back_s or of == "euw":
                yield {
                    "event": "span", "at_ns": ns(end_s), "census": "end", "region": code,
                    "of": of, **STREAM, "first": first, "count": count, "class": "winner",
                }  # fmt: skip
        yield {"event": "end", "at_ns": ns(end_s)}


def ns(seconds: float) -> int:
    return round(seconds * S)


def flow(
    region: str, from_s: float, to_s: float, first: int, count: int, client: str
) -> dict[str, Any]:
    return {
        "event": "flow", "at_ns": ns(to_s), "first_ns": ns(from_s), "client": client,
        "region": region, **STREAM, "first": first, "count": count, "bytes": count * 800,
        "result": "new", "level": "durable",
    }  # fmt: skip


def calls(from_s: float, to_s: float, *, good: bool) -> dict[str, Any]:
    count = max(1, round((to_s - from_s) * RATE))
    return {
        "event": "calls", "at_ns": ns(to_s), "from_ns": ns(from_s), "client": "near",
        "count": count, "good": count if good else 0,
    }  # fmt: skip


def tiny_document(**over: Any) -> dict[str, Any]:
    document: dict[str, Any] = {
        "version": 1,
        "name": "tiny",
        "title": "tiny",
        "topology": {
            "regions": [{"code": "euw"}, {"code": "use"}],
            "placements": {"open": {"regions": ["euw", "use"], "topology": "active-active"}},
        },
        "settings": {
            "probe": {"interval": "10s", "failures": 3, "dns_ttl": "300s"},
            "shipping": {"interval": "60s"},
        },
        "load": {
            "duration": "1000s",
            "rate": "10/s",
            "clients": [{"name": "near", "endpoints": ["euw", "use"], "failover": "dns"}],
        },
        "faults": [{"id": "down", "kind": "region-down", "region": "euw", "at": "200s"}],
        "promises": {"rto": "180s", "rpo": "60s", "steady": "30s", "evidence": {"runs": 4}},
    }
    return {**document, **over}
