"""What a directory of outbox files holds: `spec/formats.md` section 11."""

from __future__ import annotations

import re
from typing import Any

from golden.oracle.crc import crc
from golden.oracle.fault import Fault
from golden.oracle.holding import place
from golden.oracle.scanner import Number, parse_any

TEXT_BYTES_MAX = 2**20
AT_MAX = 2**53 - 1
ID_LAST = 2**64 - 1
TYPES = ("put", "sent", "ack", "hold", "dead", "release")
NAME = re.compile(r"outbox-([0-9a-f]{16})\.log", re.ASCII)
ID = re.compile(r"[0-9a-f]{16}", re.ASCII)
Frame = dict[str, Any]


def read(data: bytes, at: int) -> tuple[Frame, int] | None:
    """Read the whole, known frame at an offset, and where it ends."""
    length = int.from_bytes(data[at : at + 4], "big")
    text = data[at + 8 : at + 8 + length]
    if len(data) < at + 8 or not 1 <= length <= TEXT_BYTES_MAX or len(text) < length:
        return None
    if (
        not text.startswith(b'{"t":"')
        or crc("crc32", text).to_bytes(4, "big") != data[at + 4 : at + 8]
    ):
        return None
    try:
        frame = parse_any(text)
    except Fault:
        return None
    return (frame, at + 8 + length) if isinstance(frame, dict) and is_known(frame) else None


def is_text(frame: Frame, name: str, *, optional: bool = False) -> bool:
    return isinstance(frame.get(name), str) or (optional and name not in frame)


def is_known(frame: Frame) -> bool:
    if frame.get("t") not in TYPES or not is_text(frame, "id") or not ID.fullmatch(frame["id"]):
        return False
    if frame["t"] != "put":
        return True
    at = frame.get("at")
    return (
        all(is_text(frame, n) for n in ("pcs_id", "key", "body"))
        and isinstance(at, Number)
        and is_time(at)
        and all(is_text(frame, n, optional=True) for n in ("kid", "tenant", "from"))
    )


def is_time(at: Number) -> bool:
    return at.is_integer and at.token != "-0" and abs(int(at.token)) <= AT_MAX


def is_letter(frame: Frame) -> bool:
    """Tell whether a `dead` frame of dead.log is whole (11.6)."""
    put, status = frame.get("put"), frame.get("status", "000")
    return (
        isinstance(put, dict)
        and put.get("t") == "put"
        and is_known(put)
        and all(is_text(frame, n) for n in ("code", "reason", "response"))
        and isinstance(status, str)
        and re.fullmatch("[0-9]{3}", status, re.ASCII) is not None
    )


def scan(data: bytes) -> tuple[list[Frame], list[tuple[int, int]]]:
    """Give the frames and the runs of unreadable bytes (11.8)."""
    frames: list[Frame] = []
    gaps: list[tuple[int, int]] = []
    at = 0
    while at < len(data):
        found = read(data, at)
        if found is None:
            start = at
            while at < len(data) and (found := read(data, at)) is None:
                at += 1
            gaps.append((start, at))
            if found is None:
                break
        frames.append(found[0])
        at = found[1]
    return frames, gaps


class Recovery:
    """Fold the files, oldest first."""

    def __init__(self) -> None:
        self.live: dict[str, Frame] = {}
        self.held: dict[str, str] = {}
        self.dead: set[str] = set()
        self.corrupt: list[str] = []
        self.cuts: list[list[str]] = []
        self.unreadable = 0
        self.next_id = 1

    def frames(self, name: str, data: bytes, newest: bool) -> list[Frame]:
        frames, gaps = scan(data)
        for frame in frames:
            self.next_id = max(self.next_id, min(int(frame["id"], 16) + 1, ID_LAST))
        if newest and len(gaps) == 1 and gaps[0][1] == len(data):
            self.cuts.append([name, str(gaps[0][0])])
        elif gaps:
            self.damage(name, len(gaps))
        return frames

    def damage(self, name: str, count: int) -> None:
        self.unreadable += count
        if name not in self.corrupt:
            self.corrupt.append(name)

    def log(self, name: str, data: bytes, newest: bool) -> None:
        self.next_id = max(self.next_id, int(name[7:23], 16))
        for frame in self.frames(name, data, newest):
            if frame["t"] == "put":
                self.live[frame["id"]] = frame
            elif frame["t"] in ("ack", "dead", "release"):
                self.live.pop(frame["id"], None)
                self.held.pop(frame["id"], None)
            elif frame["t"] == "hold" and frame["id"] in self.live:
                self.hold(frame)

    def hold(self, frame: Frame) -> None:
        """Keep the last readable position of a live entry (11.23)."""
        at = frame.get("position")
        if isinstance(at, str) and place(at) is not None:
            self.held[frame["id"]] = at

    def dead_log(self, data: bytes) -> None:
        for frame in self.frames("dead.log", data, True):
            if frame["t"] == "release":
                self.dead.discard(frame["id"])
            elif frame["t"] == "dead" and is_letter(frame):
                self.dead.add(frame["id"])
            else:
                self.damage("dead.log", 1)
        for name in self.dead:
            self.live.pop(name, None)


def entry(frame: Frame, held: dict[str, str]) -> dict[str, str]:
    out = {
        "id": frame["id"],
        "pcs_id": frame["pcs_id"],
        "key": frame["key"],
        "at": frame["at"].token,
        "body": frame["body"].encode("utf-8").hex(),
    }
    if frame["id"] in held:
        out["hold"] = held[frame["id"]]
    return out | {n: frame[n] for n in ("kid", "tenant", "from") if n in frame}


def recover(args: dict[str, Any]) -> dict[str, Any]:
    files = {name: bytes.fromhex(data) for name, data in args["files"].items()}
    logs = sorted(name for name in files if NAME.fullmatch(name))
    state = Recovery()
    for name in logs:
        state.log(name, files[name], name == logs[-1])
    if "dead.log" in files:
        state.dead_log(files["dead.log"])
    return {
        "entries": [entry(state.live[i], state.held) for i in sorted(state.live)],
        "dead": sorted(state.dead),
        "corrupt": sorted(state.corrupt),
        "cuts": sorted(state.cuts),
        "unreadable": str(state.unreadable),
        "next_id": f"{state.next_id:016x}",
    }
