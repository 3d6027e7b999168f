"""Hold the proxy process: open links, break them, count what the breaking did."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Final, Self

STOP_TIMEOUT_S: Final = 10


class ProxyError(Exception):
    """The proxy refused a command or has ended."""


class Links:
    """All links of one drill. Safe for threads."""

    def __init__(self, seed: int) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(  # noqa: S603 - this program, its own module
            [sys.executable, "-m", "fractal_lba_server.drill.proxy", str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def open(self, link: str, to: str) -> int:
        """Listen for a link; give the port."""
        return int(self._ask(do="open", link=link, to=to)["port"])

    def set(self, link: str, *, way: str = "both", **faults: Any) -> None:
        """Change what one direction of a link, or both, suffers."""
        self._ask(do="set", link=link, way=way, **faults)

    def refuse(self, link: str, *, refuse: bool) -> None:
        """Have connects refused, or taken again."""
        self._ask(do="refuse", link=link, refuse=refuse)

    def reset(self, link: str) -> int:
        """End all connections of a link with a reset; count them."""
        return int(self._ask(do="reset", link=link)["resets"])

    def retarget(self, link: str, to: str) -> None:
        """Send new connections of a link elsewhere."""
        self._ask(do="retarget", link=link, to=to)

    def watch(self, link: str, marks: Iterable[bytes]) -> None:
        """Count these bytes wherever they pass."""
        self._ask(do="watch", link=link, marks=[mark.hex() for mark in marks])

    def counts(self) -> dict[str, Any]:
        """Give by link what was counted."""
        return self._ask(do="counts")

    def _ask(self, **command: Any) -> dict[str, Any]:
        with self._lock:
            given, taken = self._process.stdin, self._process.stdout
            assert given is not None
            assert taken is not None
            try:
                given.write(json.dumps(command) + "\n")
                given.flush()
                line = taken.readline()
            except (OSError, ValueError):
                line = ""
        if not line:
            message = "the proxy has ended"
            raise ProxyError(message)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            message = f"{command['do']}: {answer['error']}"
            raise ProxyError(message)
        return answer

    def close(self) -> None:
        """End the proxy and with it every connection."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        finally:
            self._process.kill()
            self._process.wait()


def effect_of(before: Mapping[str, Any], after: Mapping[str, Any], names: Iterable[str]) -> int:
    """Count what happened to the named counters of a link between two looks, in both ways."""
    total = 0
    for name in names:
        for way in ("forward", "back"):
            total += after[way].get(name, 0) - before[way].get(name, 0)
        total += after.get(name, 0) - before.get(name, 0)
    return total
