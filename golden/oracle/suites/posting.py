"""Suite `client/outbox`: whole calls of a client whose outbox holds what is not yet replicated."""

from __future__ import annotations

from typing import Any

from golden.oracle import calling
from golden.oracle.emit import Flag, Suite
from golden.oracle.suites.client import (
    ALMOST,
    TOKEN,
    Calls,
    Step,
    pcs_id,
    problem,
    step,
    steps,
    submit,
)
from golden.oracle.suites.http import body
from golden.oracle.suites.sending_held import closed, status, stream

FLAGS = {
    "Again": Flag("What may be lost goes out again: the same bytes, the same key.", ("formats 11.28", "formats 11.29", "formats 11.30")),
    "Ask": Flag("When the status of a region is asked for.", ("formats 12.15", "formats 12.18")),
    "Hold": Flag("What is held until it is replicated.", ("formats 11.22", "formats 11.24", "formats 12.13")),
    "Learn": Flag("A watermark is read from every answer.", ("formats 12.14", "formats 11.28")),
    "Options": Flag("Levels that an outbox does not have.", ("formats 12.13",)),
    "Reopen": Flag("A held entry is held after a restart.", ("formats 11.23",)),
}
SENT_AT = '"2026-02-02T00:00:00Z"'
FLUSH = {"call": "flush", "ms": "12000"}
REOPEN = {"call": "reopen"}


def put(epoch: int) -> dict[str, str]:
    return submit(epoch, sent_at=SENT_AT)


def good(epoch: int, position: str | None, replicated: str | None = None, level: str = "durable", code: int = 200) -> Step:
    named = {"PCS-Position": position, "PCS-Level": level, "PCS-Replicated": replicated}
    headers = [(name, value) for name, value in named.items() if value is not None]
    reason = {"accepted": "false", "escalated": "true", "reason": '"n_j_implausible"'} if code == 202 else {}
    return step(code, *headers, data=body(pcs_id=f'"{pcs_id(epoch)}"', **reason))


def told(text: str, *headers: tuple[str, str], code: int = 200) -> Step:
    return step(code, ("Content-Type", "application/json"), *headers, data=text.encode())


def at(seq: int, region_epoch: int = 1, region: str = "eu1") -> str:
    return f"{region}/open/{region_epoch}/{seq}"


def suites() -> list[Suite]:
    c = Calls(FLAGS)
    c.suites["submit"] = Suite("client/outbox.json", "client.submit", "suites/posting.py", {}, calling.play)

    def add(name: str, flag: str, calls: list[Any], *found: Step, durability: str = "replicated", **more: Any) -> None:
        c.add(f"held-{name}", flag, steps(*found), calls=calls, outbox="true", durability=durability, **more)

    holds(add)
    learns(add)
    asks(add)
    agains(add)
    reopens(add)
    two_regions(c)
    return [c.suites["submit"]]


def holds(add: Any) -> None:
    add("one", "Hold", [put(1), FLUSH], good(1, at(5)))
    add("escalated", "Hold", [put(1), FLUSH], good(1, at(5), code=202))
    add("not-at-durable", "Hold", [put(1), FLUSH], good(1, at(5)), durability="durable")
    for level in ("replicated", "witnessed"):
        add(f"not-at-level-{level}", "Hold", [put(1), FLUSH], good(1, at(5), level=level))
    add("own-watermark", "Hold", [put(1), put(2), FLUSH], good(1, at(5), at(4)), good(2, at(6), at(6)))
    add("no-position", "Hold", [put(1), FLUSH], good(1, None), good(1, None), good(1, None, level="replicated"), comment="nothing to hold it at: asked again until the level is reached")
    add("sent-by-flush", "Hold", [put(1), FLUSH], step(503), step(503), step(503), good(1, at(5)))
    add("bad-watermark", "Hold", [put(1), FLUSH], good(1, at(5), "none"), good(1, at(5), at(4)), comment="unreadable, so sent again")
    add("refused", "Hold", [put(1), put(2), FLUSH], good(1, at(5)), problem(422, "hex_invalid"))
    add("witnessed", "Options", [put(1)], durability="witnessed", code="config_invalid")
    add("local", "Options", [put(1)], durability="local", code="config_invalid")


def learns(add: Any) -> None:
    heard = ("PCS-Replicated", at(5))
    add("released-by-next", "Learn", [put(1), put(2), FLUSH], good(1, at(5)), good(2, at(6), at(5)))
    add("released-by-higher", "Learn", [put(1), put(2), FLUSH], good(1, at(5)), good(2, at(6), at(9)))
    add("released-by-refusal", "Learn", [put(1), put(2), FLUSH], good(1, at(5)), problem(422, "hex_invalid", heard))
    add("released-by-retried", "Learn", [put(1), put(2), FLUSH], good(1, at(5)), step(503, heard), good(2, at(6)))
    add("released-by-unreadable", "Learn", [put(1), put(2)], good(1, at(5)), step(200, heard, data=b"{}"))
    add("released-by-get", "Learn", [put(1), {"call": "get", "pcs_id": pcs_id(7)}, FLUSH], good(1, at(5)), problem(404, "not_found", heard), token=TOKEN)
    add("not-by-lower", "Learn", [put(1), put(2), FLUSH], good(1, at(5)), good(2, at(6), at(4)))
    add("not-by-malformed", "Learn", [put(1), put(2), FLUSH], good(1, at(5)), problem(422, "hex_invalid", ("PCS-Replicated", "eu1/open/1/05")))
    add("not-by-other-region", "Learn", [put(1), put(2), FLUSH], good(1, at(5)), good(2, at(9, region="us1"), at(9, region="us1")))


def asks(add: Any) -> None:
    low, high = told(status(stream(1, 4))), told(status(stream(1, 5)))
    add("asked-at-once", "Ask", [put(1), FLUSH], good(1, at(5)), high, token=TOKEN)
    add("asked-three-times", "Ask", [put(1), FLUSH], good(1, at(5)), low, low, high, token=TOKEN)
    add("asked-in-vain", "Ask", [put(1), FLUSH], good(1, at(5)), low, low, low, token=TOKEN)
    add("asked-not-without-held", "Ask", [put(1), FLUSH], good(1, at(5), at(5)), token=TOKEN)
    add("asked-not-without-token", "Ask", [put(1), FLUSH], good(1, at(5)))
    add("asked-short", "Ask", [put(1), {"call": "flush", "ms": "4000"}, FLUSH], good(1, at(5)), low, high, token=TOKEN)
    for code, name in ((401, "unauthorized"), (404, "not_found"), (503, "unavailable")):
        add(f"asked-refused-{code}", "Ask", [put(1), FLUSH], good(1, at(5)), problem(code, name), problem(code, name), high, token=TOKEN)
    add("asked-refusal-is-heard", "Ask", [put(1), FLUSH], good(1, at(5)), problem(401, "unauthorized", ("PCS-Replicated", at(5))), token=TOKEN)
    add("asked-unreadable", "Ask", [put(1), FLUSH], good(1, at(5)), told("{}"), high, token=TOKEN)
    add("asked-reset", "Ask", [put(1), FLUSH], good(1, at(5)), {"reset": "true"}, high, token=TOKEN)
    stands = told(status(stream(2, 4, closed((1, 5)))), ("PCS-Replicated", at(4, 2)))
    add("asked-status-before-header", "Ask", [put(1), FLUSH], good(1, at(5)), stands, told(status(stream(2, 5, closed((1, 5))))), token=TOKEN)


def agains(add: Any) -> None:
    below = told(status(stream(2, 9, closed((1, 4)))))
    add("again-closed-below", "Again", [put(1), FLUSH], good(1, at(5)), below, good(1, at(10, 2)), told(status(stream(2, 10, closed((1, 4))))), token=TOKEN)
    add("again-not-listed", "Again", [put(1), FLUSH], good(1, at(5)), told(status(stream(2, 9))), good(1, at(10, 2), at(10, 2)), token=TOKEN)
    add("again-by-header", "Again", [put(1), put(2), FLUSH], good(1, at(5)), good(2, at(6, 2), at(6, 2)), good(1, at(5), at(6, 2)))
    add("again-stands", "Again", [put(1), put(2), FLUSH, put(3), FLUSH], good(1, at(5)), good(2, at(6, 2), at(4, 2)), good(1, at(5), at(4, 2)), good(3, at(7, 2), at(7, 2)))
    displaced = problem(409, "pcs_id_conflict", displaced="true", first_acked='"eu1/open/1/5"')
    add("again-displaced", "Again", [put(1), put(2), FLUSH], good(1, at(5)), good(2, at(6, 2), at(6, 2)), displaced)
    add("again-fails-once", "Again", [put(1), put(2), FLUSH], good(1, at(5)), good(2, at(6, 2), at(6, 2)), step(503), good(1, at(7, 2), at(7, 2)))
    add("again-fails-thrice", "Again", [put(1), put(2), FLUSH], good(1, at(5)), good(2, at(6, 2), at(6, 2)), step(503), step(503), step(503), good(1, at(7, 2), at(7, 2)), u=ALMOST)
    add("again-old-answer", "Again", [put(1), put(2), FLUSH], good(1, at(5)), good(2, at(6, 2), at(6, 2)), good(1, at(5), at(9)), good(1, at(7, 2), at(7, 2)), comment="an old server answers first")


def reopens(add: Any) -> None:
    add("reopened", "Reopen", [put(1), REOPEN, FLUSH], good(1, at(5)))
    add("reopened-released", "Reopen", [put(1), REOPEN, put(2), FLUSH], good(1, at(5)), good(2, at(6), at(6)))
    add("reopened-asked", "Reopen", [put(1), REOPEN, FLUSH], good(1, at(5)), told(status(stream(1, 5))), token=TOKEN)
    add("reopened-again", "Reopen", [put(1), REOPEN, put(2), FLUSH], good(1, at(5)), good(2, at(6, 2), at(6, 2)), good(1, at(7, 2), at(7, 2)))
    add("reopened-stands", "Reopen", [put(1), FLUSH, REOPEN, put(2), FLUSH], good(1, at(5)), *[told(status(stream(2, 4, closed((1, 5)))))] * 3, good(2, at(6, 2), at(5, 2)), *[told(status(stream(2, 6, closed((1, 5)))))], token=TOKEN, comment="held at the newer region_epoch, which the file knows")
    add("reopened-waiting", "Reopen", [put(1), REOPEN, FLUSH], step(503), step(503), step(503), good(1, at(5)))
    add("reopened-empty", "Reopen", [put(1), REOPEN, FLUSH], good(1, at(5), at(5)))


def two_regions(c: Calls) -> None:
    regions = [{"url": "server:0", "region": "eu1"}, {"url": "server:1", "region": "us1"}]
    high = told(status(stream(1, 5)))
    held: dict[str, Any] = {"outbox": "true", "durability": "replicated", "token": TOKEN}
    c.add("held-asked-where-held", "Ask", steps(good(1, at(5)), high), steps(), urls=regions, calls=[put(1), FLUSH], **held)
    c.add("held-asked-not-where-forbidden", "Ask", steps(good(1, at(5, region="us1"))), steps(), urls=regions, calls=[put(1), FLUSH], allowed_regions=["eu1"], **held)
    moved = [{"url": "server:0", "region": "eu1"}, {"url": "server:1", "region": "us1"}]
    c.add("held-failed-over", "Ask", steps(good(1, at(5)), step(503), high), steps(good(2, at(3, region="us1"), at(3, region="us1"))), urls=moved, calls=[put(1), put(2), FLUSH], **held)
