"""Write traces by hand: a healthy one, and the small changes that make it a wrong one."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

S = 10**9
MS = 10**6
STARTED_MS = 1_700_000_000_000


def frame(region: str, at_ms: int) -> str:
    return f"{region}:{(STARTED_MS + at_ms) << 16:016x}"


def content(name: str) -> str:
    return name.encode().hex()[:16].ljust(16, "0")


class Book:
    """A trace that grows."""

    def __init__(self, promises: Mapping[str, Any] | None = None, **scenario: Any) -> None:
        document = {"name": "by-hand", "promises": dict(promises or {}), **scenario}
        self.events: list[dict[str, Any]] = [
            {
                "event": "run", "at_ns": 0, "schema": 1, "engine": "live", "seed": 1,
                "scenario": document, "scenario_digest": "0" * 64,
                "started_unix_ns": STARTED_MS * MS, "control": False, "versions": {},
            }
        ]  # fmt: skip

    def add(self, event: str, at_ms: float, **members: Any) -> Book:
        given = {name.rstrip("_"): value for name, value in members.items()}
        self.events.append({"event": event, "at_ns": int(at_ms * MS), **given})
        return self

    def put(self, key: str, at_ms: float, result: str = "new", **members: Any) -> Book:
        region = members.pop("region", "euw")
        call_ms = members.pop("call_ms", at_ms - 5)
        base: dict[str, Any] = {
            "client": region, "region": region, "key": key, "content": content(key),
            "bytes": 800, "call_ns": int(call_ms * MS), "result": result,
        }  # fmt: skip
        if result in ("new", "duplicate"):
            base |= {"frame": frame(region, int(at_ms)), "level": "durable"}
        return self.add("put", at_ms, **base | members)

    def get(self, key: str, at_ms: float, result: str = "present", **members: Any) -> Book:
        region = members.pop("region", "euw")
        base: dict[str, Any] = {
            "client": region, "region": region, "key": key,
            "call_ns": int((at_ms - 5) * MS), "result": result,
        }  # fmt: skip
        return self.add("get", at_ms, **base | members)

    def call(self, key: str, due_ms: float, took_ms: float = 10, result: str = "recorded") -> Book:
        return self.add(
            "call", due_ms + took_ms, client="euw", key=key, scheduled_ns=int(due_ms * MS),
            call_ns=int(due_ms * MS), result=result,
        )  # fmt: skip

    def calls(self, begin_ms: int, end_ms: int, took_ms: float = 10, step_ms: int = 100) -> Book:
        for due in range(begin_ms, end_ms, step_ms):
            self.call(f"c{due}", due, took_ms, "recorded" if took_ms < 1000 else "failed")
        return self

    def fault(self, at_ms: float, healed_ms: float | None = None, **members: Any) -> Book:
        base: dict[str, Any] = {"id": "kill", "kind": "region-down", "region": "euw"} | members
        effects = base.pop("effects", {"refused": 3})
        self.add("fault", at_ms, **base, state="injected")
        if healed_ms is not None:
            self.add("fault", healed_ms, **base, state="healed")
        return self.add("fault", at_ms + 1, **base, state="effect", effects=effects)

    def census(
        self, name: str, at_ms: float, held: Mapping[str, Mapping[str, Any]], *regions: str
    ) -> Book:
        """Write what each region holds; `held` gives by key the members of its line."""
        for region in regions:
            self.add("census", at_ms, census=name, region=region, keys=len(held))
            for key, members in held.items():
                base = {"content": content(key), "overridden": []} | dict(members)
                self.add("held", at_ms, census=name, region=region, key=key, **base)
        return self

    def digests(self, after: str, at_ms: float, **digest_of: str) -> Book:
        for region, digest in digest_of.items():
            self.add(
                "digest", at_ms, after=after, region=region, placement="open", digest=digest,
                keys=1,
            )  # fmt: skip
        return self

    def end(self, at_ms: float = 100_000) -> list[dict[str, Any]]:
        self.add("end", at_ms)
        return copy.deepcopy(self.events)
