"""Operations with real sockets and a fake clock (`PROTOCOL.md` section 6)."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Self

from exchange import failover_of, outcome_answer, submitted_answer
from signing import Members, double

from fractal_lba.canonical import parse
from fractal_lba.client import Client
from fractal_lba.endpoints import Endpoint
from fractal_lba.errors import FractalLBAError
from fractal_lba.http import Cancel
from fractal_lba.outcome import Submitted
from fractal_lba.retry import RetryPolicy
from fractal_lba.secret import Secret
from fractal_lba.sign import HmacSigner, sign
from fractal_lba.spool import OutboxStats, open_outbox
from fractal_lba.testing import FakeClock

FAILOVER = (
    "down_after", "up_after", "probe_interval_ms", "failback_after_ms", "allowed_regions",
    "redirect_hops",
)  # fmt: skip
TIMES = ("connect_timeout_ms", "attempt_timeout_ms", "total_timeout_ms")
STATS = ("entries", "held", "in_flight", "dead")
ITEM = ("outcome", "replayed", "level")


class Always:
    """Draw one number for ever."""

    def __init__(self, u: float) -> None:
        self.u = u

    def random(self) -> float:
        return self.u


class CancellingClock(FakeClock):
    """Cancel as a wait begins, where a call asks for it."""

    cancel: threading.Event | None = None

    def wait(self, wait_ms: int, cancel: Cancel | None = None) -> bool:
        if self.cancel is not None:
            self.cancel.set()
        return super().wait(wait_ms, cancel)


def options_of(given: Members) -> Members:
    """Turn the options of a case into those of a client."""
    made: Members = {name: given[name] for name in ("durability", "token", "app") if name in given}
    made |= {name[:-2] + "s": int(given[name]) / 1000 for name in TIMES if name in given}
    if "max_response_bytes" in given:
        made["max_response_bytes"] = int(given["max_response_bytes"])
    if "max_attempts" in given:
        made["retry"] = RetryPolicy(max_attempts=int(given["max_attempts"]))
    made["failover"] = failover_of({name: given[name] for name in FAILOVER if name in given})
    return made


def folder() -> tempfile.TemporaryDirectory[str]:
    """Make a directory for an outbox, which is gone at the end."""
    return tempfile.TemporaryDirectory(prefix="flk-testee-")


class Caller:
    """One client, and its clock."""

    def __init__(self, args: Members, **more: Any) -> None:
        self.clock = CancellingClock(int(args["now_ms"]))
        self.signer = HmacSigner(bytes.fromhex(args["key"]), kid=args.get("kid"))
        self.args, self.more = args, more
        self.ends = ExitStack()
        given = args.get("options", {})
        has_outbox = given.get("outbox") == "true"
        self.directory = self.ends.enter_context(folder()) if has_outbox else None
        self.open = self.ends.enter_context(ExitStack())
        self.client = self.opened()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.ends.close()

    def opened(self) -> Client:
        """Open the client, with its outbox if it has one."""
        args, box = self.args, None
        if self.directory is not None:
            box = self.open.enter_context(open_outbox(self.directory, background=False))
        client = Client(
            [Endpoint(each["url"], each.get("region")) for each in args["endpoints"]],
            signer=self.signer,
            tenant=args.get("tenant"),
            sig_version=int(args["sig_v"]),
            clock=self.clock,
            random=Always(double(args["u"])),
            outbox=box,
            **options_of(args.get("options", {})),
            **self.more,
        )
        self.box = box
        return self.open.enter_context(client)

    def kept(self, call: Members) -> OutboxStats:
        """Flush the outbox, or close and open it again; count what it holds."""
        if call["call"] == "flush":
            return self.client.flush(int(call["ms"]) / 1000)
        self.open.close()
        self.client = self.opened()
        assert self.box is not None
        return self.box.stats()

    def answer(self, call: Members) -> Members:
        """Make one call."""
        if call["call"] == "advance":
            self.clock.advance(int(call["ms"]))
            return {}
        if call["call"] == "submit_many":
            return {"items": list(self.items(call))}
        if call["call"] in ("flush", "reopen"):
            stats = self.kept(call)
            return {"stats": {name: str(getattr(stats, name)) for name in STATS}}
        before = len(self.clock.waits_ms)
        try:
            found: Members = {"ok": self.one(call)}
        except FractalLBAError as error:
            found = {"err": facts_of(error)}
        return {**found, "waited_ms": str(sum(self.clock.waits_ms[before:]))}

    def one(self, call: Members) -> Members:
        """Make a call about one record."""
        if call["call"] == "get":
            return {"outcome": outcome_answer(self.client.get(call["pcs_id"]))}
        record, cancel = parse(bytes.fromhex(call["json"])), None
        if call["call"] == "cancel":
            cancel = self.clock.cancel = threading.Event()
        try:
            return whole(self.client.submit(record, cancel=cancel))
        finally:
            self.clock.cancel = None

    def items(self, call: Members) -> Iterator[Members]:
        """Submit many records."""
        records = [parse(bytes.fromhex(text)) for text in call["json"]]
        for item in self.client.submit_many(records, concurrency=int(call["concurrency"])):
            answer: Members = {"index": str(item.index)}
            if item.result is None:
                assert item.error is not None
                yield {**answer, "err": {"code": item.error.code}}
            else:
                parts = whole(item.result)
                yield {**answer, "ok": {name: parts[name] for name in ITEM}}


def whole(submitted: Submitted) -> Members:
    """Write what a submit gave, with the facts of its exchange."""
    answer = {**submitted_answer(submitted), "attempts": str(submitted.raw.attempts)}
    id = submitted.raw.request_id
    return answer if id is None else {**answer, "request_id": id}


def facts_of(error: FractalLBAError) -> Members:
    """Write what an error knows."""
    facts = {
        "stop": error.stop, "status": error.status, "retry_after_ms": error.retry_after_ms,
        "request_id": error.request_id,
    }  # fmt: skip
    known = {name: str(value) for name, value in facts.items() if value is not None}
    return {"code": error.code, "attempts": str(error.attempts), **known}


def called(args: Members) -> Members:
    """client.*."""
    with Caller(args) as caller:
        return {"calls": [caller.answer(call) for call in args["calls"]]}


# --- what is logged --------------------------------------------------------------------------


class Kept(logging.Handler):
    """Keep every line, with all that was passed to make it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.getMessage()} {record.args!r}")


def captured(args: Members) -> Members:
    """log.capture."""
    kept, log = Kept(), logging.getLogger("captured")
    log.setLevel(logging.DEBUG)
    log.handlers = [kept]
    with Caller(args, logger=log, token=args.get("token")) as caller:
        things = [caller.client, caller.signer, Secret(args["key"]), *met(args, caller)]
    shown = [text for thing in things for text in (str(thing), repr(thing), f"{thing}")]
    return {"log": "\n".join([*kept.lines, *shown]).encode().hex()}


def met(args: Members, caller: Caller) -> list[object]:
    """Do what the scenario says; give what came back, or the error."""
    try:
        if args["scenario"] == "get":
            return [caller.client.get(args["pcs_id"])]
        record = parse(bytes.fromhex(args["json"]))
        if args["scenario"] == "submit":
            return [caller.client.submit(record)]
        return [sign(record, caller.signer, tenant=args["tenant"])]
    except FractalLBAError as error:
        return [error]


OPS: dict[str, Callable[[Members], Members]] = {
    **dict.fromkeys(
        ("client.submit", "client.submit_many", "client.get", "client.cancel", "client.failover"),
        called,
    ),
    "log.capture": captured,
}
