"""Write a trace: one JSON line an event, times in ns since the start (spec/drills.md 2)."""

from __future__ import annotations

import json
import platform
import threading
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from .scenario import Scenario

NS_PER_S: Final = 1_000_000_000
PACKAGES: Final = ("fractal-lba", "fractal-lba-server")


class TraceWriter:
    """One trace. Safe for threads; its clock is monotonic."""

    def __init__(self, path: Path, scenario: Scenario, *, seed: int, command: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._file = path.open("w", encoding="utf-8")
        self._started_ns = time.monotonic_ns()
        self.write(
            "run",
            at_ns=0,
            schema=1,
            engine="live",
            seed=seed,
            scenario=scenario.document,
            scenario_digest=scenario.digest,
            started_unix_ns=time.time_ns(),
            control=scenario.control,
            versions=versions(),
            command=command,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self.write("error", said=f"{type(error).__name__}: {error}"[:2000])
        self.write("end")
        with self._lock:
            self._file.close()

    def now_ns(self) -> int:
        """Give the time since the start."""
        return time.monotonic_ns() - self._started_ns

    def write(self, event: str, *, at_ns: int | None = None, **members: Any) -> None:
        """Write one event; what is None is left out. After the end nothing is written."""
        given = {name: value for name, value in members.items() if value is not None}
        at = self.now_ns() if at_ns is None else at_ns
        line = json.dumps({"event": event, "at_ns": at, **given}, separators=(",", ":"))
        with self._lock:
            if not self._file.closed:
                self._file.write(line + "\n")


def versions() -> dict[str, str]:
    """Name what took part."""
    found = {"python": platform.python_version(), "system": platform.system()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "source tree"
    return found
