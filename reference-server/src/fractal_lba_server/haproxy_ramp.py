"""Carry out a ramp (core/ramp.py) in a running HAProxy, through its administrative socket."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from .core.ramp import DONE, Ramp, RampRule
from .steady_clock import steady_ns

PROBE_S: Final = 0.5
"""How long `/readyz` may take while a region ramps."""

LOOK_S: Final = 1.0
"""How often the region is looked at while it ramps; four times in a step that is shorter."""

ANSWER_BYTES_MAX: Final = 65_536
"""HAProxy answers an order with nothing, or with a line that says what is wrong."""

_SERVER: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}/[A-Za-z0-9_.:-]{1,64}")


class RampFailedError(Exception):
    """The region did not stay healthy, or HAProxy refused an order; its weight is 0."""


def behind(status: Mapping[str, Any]) -> list[str]:
    """Say, of the status of a region, what others have told it of that it does not hold yet."""
    return [
        f"{one['region']}/{one['placement']}: holds {one['seq']} of {one['claimed_seq']}"
        for one in status["received"]
        if one["seq"] < one["claimed_seq"]
    ]


def ramp_up(
    path: Path, servers: Sequence[str], probe: str, *, hold_s: float, say: Callable[[str], None]
) -> None:
    """Give servers 10, 50, then 100 % of their weight; back to 0 on any fault or interruption.

    A region is a server in each backend that it serves; they ramp together.
    """
    if not all(_SERVER.fullmatch(server) for server in servers):
        raise RampFailedError("the server: expected BACKEND/SERVER")
    ramp = Ramp(RampRule(hold_ms=int(hold_s * 1_000)))
    ramp.begin(steady_ns(), caught_up=is_ready(probe))
    with contextlib.ExitStack() as undo:
        for server in servers:
            undo.callback(set_weight, path, server, 0)
        _apply(path, servers, ramp, say)
        while ramp.percent and ramp.state != DONE:
            time.sleep(min(LOOK_S, hold_s / 4))
            if ramp.observe(is_ready(probe), steady_ns()):
                _apply(path, servers, ramp, say)
        undo.pop_all()
    if not ramp.percent:
        raise RampFailedError(f"{probe} does not answer 200; the weight is 0")


def _apply(path: Path, servers: Sequence[str], ramp: Ramp, say: Callable[[str], None]) -> None:
    for server in servers:
        set_weight(path, server, ramp.percent)
    say(f"{' '.join(servers)}: {ramp.percent} %")


def set_weight(path: Path, server: str, percent: int) -> None:
    """Set the weight of a server to a share of its configured one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(PROBE_S * 4)
        sock.connect(str(path))
        sock.sendall(f"set weight {server} {percent}%\n".encode())
        answer = b""
        while more := sock.recv(ANSWER_BYTES_MAX):
            answer += more
    if answer.strip():
        raise RampFailedError(f"HAProxy: {answer.decode(errors='replace').strip()}")


def is_ready(probe: str) -> bool:
    """Ask a region's `/readyz` once."""
    parts = urlsplit(probe)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=PROBE_S)
    try:
        connection.request("GET", parts.path or "/readyz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
