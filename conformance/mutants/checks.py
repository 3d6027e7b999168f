"""What no vector can show: the order of what the outbox writes, sends and refuses.

A check runs in the process of a mutant against the SDK's own client and outbox, on a directory in
memory that forgets what was not synced. The right SDK passes every check.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from functools import cache
from types import ModuleType
from typing import Any, Final

from fractal_lba.canonical import parse
from fractal_lba.client import Client
from fractal_lba.errors import FractalLBAError
from fractal_lba.http import Request
from fractal_lba.outbox import Letter, Owner, Recovery, read_frame, sent_at_ms
from fractal_lba.sign import HmacSigner
from fractal_lba.spool import Outbox, open_outbox
from fractal_lba.testing import FakeClock, Reply, ScriptedTransport, SeededRandom, outcome_body

from .subject import CONFORMANCE

URL: Final = "https://a.example"
KEY: Final = bytes(range(32))
FORTNIGHT_MS: Final = 14 * 86_400_000
HERE: Final = Owner(1, "boot", 1, "here")
SENT_AT: Final = "2026-01-15T12:00:00Z"
NOW_MS: Final = sent_at_ms(SENT_AT) + 1000

Check = Callable[[], None]


class FailedError(Exception):
    """Say what a check found."""


def need(holds: bool, message: str) -> None:
    if not holds:
        raise FailedError(message)


@cache
def fault_files() -> ModuleType:
    """Load the directory in memory that the tests of the SDK use."""
    sys.path.append(str(CONFORMANCE.parent / "sdk-python" / "tests"))
    return importlib.import_module("fault_files")


def record(epoch: int = 1) -> dict[str, Any]:
    """Give a whole record; its id is derived."""
    return {
        "schema": "fractal-lba-kakeya", "version": "0.1", "merkle_root": "c3" * 32, "epoch": epoch,
        "shard_id": "s", "attempt": 1, "sent_at": SENT_AT, "seed": 0, "scales": [2, 4],
        "N_j": {"2": 4, "4": 16}, "v_star": [0.6, 0.8], "D_hat": 2.0, "coh_star": 0.5, "r": 0.5,
        "regime": "mixed", "budget": 0.35,
        "ft": {"outbox_seq": 0, "degraded": False, "fallbacks": [], "clock_skew_ms": 0},
    }  # fmt: skip


def good(request: Request) -> Reply:
    """Answer that a record was recorded."""
    return Reply(200, [], outcome_body(parse(request.body)["pcs_id"]))


class Bench:
    """A client with an outbox in memory, and a server that answers from a script."""

    def __init__(
        self,
        *script: Any,
        files: Any = None,
        now_ms: int = NOW_MS,
        level: str = "durable",
        **limits: Any,
    ) -> None:
        self.files = fault_files().FaultFiles() if files is None else files
        self.outbox: Outbox = open_outbox(
            "", files=self.files, owner=HERE, background=False, **limits
        )
        self.transport = ScriptedTransport(script, clock=FakeClock(now_ms))
        self.client = Client(
            URL, signer=HmacSigner(KEY, kid="k1"), tenant="acme", outbox=self.outbox,
            transport=self.transport, clock=self.transport.clock, random=SeededRandom(0),
            durability=level,
        )  # fmt: skip

    def end(self) -> None:
        self.client.close()
        self.outbox.close()


def letters(image: Any) -> list[Letter]:
    """Read what a directory holds after a power failure."""
    found = Recovery()
    names = sorted(name for name in image.names() if name.startswith("outbox-"))
    for name in names:
        found.feed(name, image.read(name), last=name == names[-1])
    kept = []
    for entry in found.entries.values():
        framed = read_frame(image.read(entry.file), entry.offset)
        need(framed is not None, "an entry that recovery found cannot be read")
        assert framed is not None
        kept.append(Letter.of(framed.value))
    return kept


def durable_before_sent() -> None:
    """Look for the record on the disk, under a name that lasts, as it is sent (11.10)."""
    seen: list[bool] = []

    def server(request: Request) -> Reply:
        bodies = [letter.body for letter in letters(bench.files.crash())]
        seen.append(request.body in bodies)
        return good(request)

    bench = Bench(server)
    bench.client.submit(record())
    bench.end()
    need(seen == [True], "power failed at the first attempt, and the record was gone")


def expired_is_dead() -> None:
    """See that an entry which is older than the limit is never sent (11.12)."""
    first = Bench()
    first.client.enqueue(record())
    first.end()
    files = first.files.copy()
    bench = Bench(good, files=files, now_ms=NOW_MS + FORTNIGHT_MS)
    bench.client.flush(1)
    codes = [letter.code for letter in bench.outbox.dead()]
    bench.end()
    need(not bench.transport.requests, "an expired entry was sent")
    need(codes == ["outbox_expired"], f"dead letters: {codes}")


def full_refuses() -> None:
    """See that a full outbox refuses the new record and keeps the old ones."""
    bench = Bench(max_entries=2)
    kept = [bench.client.enqueue(record(epoch)) for epoch in (1, 2)]
    try:
        bench.client.enqueue(record(3))
        code = "none"
    except FractalLBAError as error:
        code = error.code
    held = [letter.id for letter in letters(bench.files)]
    bench.end()
    need(code == "outbox_full", f"the third of two was answered with {code}")
    need(held == kept, f"it held {kept}, now {held}")


def same_bytes() -> None:
    """Compare what is delivered later with the bytes that were kept."""
    bench = Bench(good)
    bench.client.enqueue(record())
    (letter,) = letters(bench.files)
    bench.client.flush(1)
    bench.end()
    need([r.body for r in bench.transport.requests] == [letter.body], "other bytes were sent")


def refused_key_waits() -> None:
    """See that after 401 an entry waits for its key, and is no dead letter (11.12)."""
    bench = Bench(Reply(401))
    bench.client.enqueue(record())
    bench.client.flush(1)
    stats = bench.outbox.stats()
    bench.end()
    need((stats.entries, stats.dead) == (1, 0), f"{stats.entries} entries, {stats.dead} dead")
    need(stats.blocked == (("kid", "k1"),), f"blocked: {stats.blocked}")


def placed(request: Request) -> Reply:
    """Answer that a record was recorded at a place, which is not replicated."""
    return Reply(200, [("PCS-Position", "eu1/open/1/5")], good(request).body)


def held_is_not_in_flight() -> None:
    """See that what is held is neither in flight nor sent again by a flush (11.22)."""
    bench = Bench(placed, level="replicated")
    bench.client.submit(record())
    stats = bench.client.flush(60)
    bench.end()
    counted = (stats.entries, stats.held, stats.in_flight)
    need(counted == (1, 1, 0), f"entries, held, in flight: {counted}")
    need(len(bench.transport.requests) == 1, "a held entry was sent again")


def carried_is_held() -> None:
    """See that an entry is held when the file with its mark has gone (11.23)."""
    bench = Bench(placed, level="replicated")
    bench.client.submit(record())
    bench.outbox._logs._carry(["outbox-0000000000000001.log"])
    image = bench.files.crash(keep="all")
    bench.end()
    found = Recovery()
    found.feed("outbox-0000000000000001.log", last_copy(image), last=True)
    need([str(e.hold) for e in found.entries.values()] == ["eu1/open/1/5"], "the hold was left")


def last_copy(image: Any) -> bytes:
    """Give what a log holds from the last `put` on."""
    data: bytes = image.read("outbox-0000000000000001.log")
    return data[data.rindex(b'{"t":"put"') - 8 :]


CHECKS: Final[Mapping[str, Check]] = {
    "check/carried-is-held": carried_is_held,
    "check/durable-before-sent": durable_before_sent,
    "check/expired-is-dead": expired_is_dead,
    "check/full-refuses": full_refuses,
    "check/held-is-not-in-flight": held_is_not_in_flight,
    "check/refused-key-waits": refused_key_waits,
    "check/same-bytes": same_bytes,
}
"""Every check by the name that `list.toml` uses."""
