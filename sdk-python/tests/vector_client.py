"""Entries for the vectors of whole calls and of what is logged: both clients, on a script.

The servers are played in this process, so that a case shows what a client sends and decides; a
harness plays the same cases over real sockets.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

from clients import AnyClient
from fault_files import FaultFiles
from vector_exchange import outcome_answer, places_of
from vector_signing import Answer, Entry, double

from fractal_lba.canonical import parse
from fractal_lba.endpoints import Endpoint, FailoverPolicy
from fractal_lba.errors import FractalLBAError, error_for
from fractal_lba.http import RawResponse, Request
from fractal_lba.outbox import Owner
from fractal_lba.outcome import Submitted
from fractal_lba.retry import RetryPolicy
from fractal_lba.sign import HmacSigner, sign
from fractal_lba.spool import OutboxStats, open_outbox
from fractal_lba.testing import FakeClock

SEEN = {
    "attempt": "x-retry-attempt",
    "key": "idempotency-key",
    "tenant": "x-tenant-id",
    "min_ack": "pcs-min-ack",
    "authorization": "authorization",
}
HERE = Owner(1, "boot", 1, "here")
CLOSED = "http://127.0.0.1:9"


class Always:
    """Draw one number for ever."""

    def __init__(self, u: float) -> None:
        self.u = u

    def random(self) -> float:
        return self.u


class CancellingClock(FakeClock):
    """Cancel as a wait begins, where a case asks for it."""

    cancel: threading.Event | None = None

    def wait(self, wait_ms: int, cancel: Any = None) -> bool:
        if self.cancel is not None:
            self.cancel.set()
        return super().wait(wait_ms, cancel)


class Servers:
    """Play the script of a case, and keep what its servers saw."""

    def __init__(self, script: dict[str, Any]) -> None:
        self.scripts = script["servers"]
        self.used = [0] * len(self.scripts)
        self.lock = threading.Lock()
        self.requests: list[Answer] = []

    def send(self, request: Request, **_: Any) -> RawResponse:
        base, _, path = request.url.removeprefix("http://127.0.0.1:").partition("/")
        if request.url.startswith(CLOSED):
            raise error_for("connect_failed", "scripted")
        if path == "health":
            return RawResponse(200, [], b"{}")
        number = int(base) - 10_000
        with self.lock:
            self.requests.append(self.seen(number, request, "/" + path))
            step = self.step(number, request)
        if "reset" in step or "cut" in step:
            raise error_for("connection_lost", "scripted")
        if "hang" in step:
            raise error_for("attempt_timeout", "scripted")
        body = bytes.fromhex(step["body"])
        for other in range(len(self.scripts)):
            body = body.replace(f"{{server:{other}}}".encode(), url(f"server:{other}").encode())
        return RawResponse(int(step["status"]), [(n, v) for n, v in step["headers"]], body)

    async def send_async(self, request: Request, **options: Any) -> RawResponse:
        return self.send(request, **options)

    def close(self) -> None:
        """Nothing is open."""

    def seen(self, number: int, request: Request, path: str) -> Answer:
        fields = {name.lower(): value for name, value in request.headers}
        found = {name: fields[field] for name, field in SEEN.items() if field in fields}
        if request.method == "POST":
            found["body_sha256"] = hashlib.sha256(request.body).hexdigest()
        return {"server": str(number), "method": request.method, "path": path, **found}

    def step(self, number: int, request: Request) -> dict[str, str]:
        script = self.scripts[number]
        if "by_id" in script:
            step: dict[str, str] = script["by_id"][json.loads(request.body)["pcs_id"]]
            return step
        steps, used = script["steps"], self.used[number]
        self.used[number] += 1
        assert used < len(steps) or steps[-1].get("repeat") == "true", "the script has ended"
        chosen: dict[str, str] = steps[min(used, len(steps) - 1)]
        return chosen


def url(name: str) -> str:
    number = name.removeprefix("server:")
    return CLOSED if number == "closed" else f"http://127.0.0.1:{10_000 + int(number)}"


def options_of(given: dict[str, Any]) -> dict[str, Any]:
    """Turn the options of a case into those of a client."""
    left = dict(given)
    attempts = left.pop("max_attempts", None)
    policy = RetryPolicy() if attempts is None else RetryPolicy(max_attempts=int(attempts))
    regions = left.pop("allowed_regions", None)
    failover = {name: int(left.pop(name)) for name in ("down_after", "up_after") if name in left}
    made: dict[str, Any] = {
        name.removesuffix("ms") + "s": int(left.pop(name)) / 1000
        for name in ("total_timeout_ms", "attempt_timeout_ms")
        if name in left
    }
    if "max_response_bytes" in left:
        made["max_response_bytes"] = int(left.pop("max_response_bytes"))
    made["failover"] = FailoverPolicy(
        allowed_regions=None if regions is None else frozenset(regions), **failover
    )
    return {**made, **left, "retry": policy}


class Played:
    """One client and its servers."""

    def __init__(self, kind: str, args: dict[str, Any], **more: Any) -> None:
        self.clock = CancellingClock(int(args["now_ms"]))
        self.servers = Servers(args["script"])
        self.signer = HmacSigner(bytes.fromhex(args["key"]), kid=args.get("kid"))
        self.kind, self.args, self.more = kind, args, more
        self.files = FaultFiles()
        self.open()

    def open(self) -> None:
        """Open the client, with its outbox if it has one."""
        args, given = self.args, dict(self.args.get("options", {}))
        self.box = None
        if given.pop("outbox", None) == "true":
            self.box = open_outbox("", files=self.files, owner=HERE, background=False)
        self.client = AnyClient(
            self.kind,
            [Endpoint(url(e["url"]), e.get("region")) for e in args["endpoints"]],
            signer=self.signer,
            tenant=args.get("tenant"),
            sig_version=int(args["sig_v"]),
            clock=self.clock,
            random=Always(double(args["u"])),
            transport=self.servers,
            outbox=self.box,
            **options_of(given),
            **self.more,
        )

    def end(self) -> None:
        """Close the client and its outbox."""
        self.client.end()
        if self.box is not None:
            self.box.close()

    def kept(self, call: dict[str, Any]) -> OutboxStats:
        if call["call"] == "flush":
            flushed: OutboxStats = self.client.flush(int(call["ms"]) / 1000)
            return flushed
        self.end()
        self.open()
        assert self.box is not None
        return self.box.stats()

    def answer(self, call: dict[str, Any]) -> Answer:
        if call["call"] == "advance":
            self.clock.advance(int(call["ms"]))
            return {}
        if call["call"] == "submit_many":
            return {"items": self.many(call)}
        if call["call"] in ("flush", "reopen"):
            stats, names = self.kept(call), ("entries", "held", "in_flight", "dead")
            return {"stats": {name: str(getattr(stats, name)) for name in names}}
        before = len(self.clock.waits_ms)
        try:
            found: Answer = {"ok": self.one(call)}
        except FractalLBAError as error:
            found = {"err": facts_of(error)}
        return {**found, "waited_ms": str(sum(self.clock.waits_ms[before:]))}

    def one(self, call: dict[str, Any]) -> Answer:
        if call["call"] == "get":
            return {"outcome": outcome_answer(self.client.get(call["pcs_id"]))}
        record, cancel = parse(bytes.fromhex(call["json"])), None
        if call["call"] == "cancel":
            cancel = self.clock.cancel = threading.Event()
        try:
            return submitted_answer(self.client.submit(record, cancel=cancel))
        finally:
            self.clock.cancel = None

    def many(self, call: dict[str, Any]) -> list[Answer]:
        records = [parse(bytes.fromhex(text)) for text in call["json"]]
        items = []
        for item in self.client.submit_many(records, concurrency=int(call["concurrency"])):
            answer: Answer = {"index": str(item.index)}
            if item.error is not None:
                answer["err"] = {"code": item.error.code}
            else:
                assert item.result is not None
                whole = submitted_answer(item.result)
                answer["ok"] = {name: whole[name] for name in ("outcome", "replayed", "level")}
            items.append(answer)
        return items


def submitted_answer(submitted: Submitted) -> Answer:
    answer: Answer = {
        "outcome": outcome_answer(submitted.outcome),
        "replayed": "true" if submitted.replayed else "false",
        "level": submitted.level,
        "attempts": str(submitted.raw.attempts),
    }
    answer |= places_of(submitted)
    if submitted.raw.request_id is not None:
        answer["request_id"] = submitted.raw.request_id
    return answer


def facts_of(error: FractalLBAError) -> Answer:
    facts = {
        "stop": error.stop,
        "status": error.status,
        "retry_after_ms": error.retry_after_ms,
        "request_id": error.request_id,
    }
    known = {name: str(value) for name, value in facts.items() if value is not None}
    return {"code": error.code, "attempts": str(error.attempts), **known}


def played(kind: str) -> Entry:
    def play(args: dict[str, Any]) -> Answer:
        run = Played(kind, args)
        try:
            calls = [run.answer(call) for call in args["calls"]]
        finally:
            run.end()
        requests = run.servers.requests
        if any("by_id" in script for script in run.servers.scripts):
            requests = sorted(requests, key=lambda seen: str(seen.get("key")))
        return {"calls": calls, "requests": requests}

    play.__qualname__ = f"play_{kind}"
    return play


# --- what is logged --------------------------------------------------------------------------


class Kept(logging.Handler):
    """Keep every line."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.getMessage()} {record.args!r}")


def captured(kind: str) -> Entry:
    def capture(args: dict[str, Any]) -> Answer:
        kept, log = Kept(), logging.getLogger("captured")
        log.setLevel(logging.DEBUG)
        log.addHandler(kept)
        token = {"token": args["token"]} if "token" in args else {}
        run = Played(kind, args, logger=log, **token)
        try:
            shown = list(texts_of(args, run))
        finally:
            log.removeHandler(kept)
            run.end()
        return {"log": "\n".join([*kept.lines, *shown]).encode().hex()}

    capture.__qualname__ = f"capture_{kind}"
    return capture


def texts_of(args: dict[str, Any], run: Played) -> Iterator[str]:
    """Do what the scenario says, and give every text form of what took part."""
    things: list[object] = [run.signer, run.client.inner]
    try:
        if args["scenario"] == "get":
            things.append(run.client.get(args["pcs_id"]))
        elif args["scenario"] == "submit":
            things.append(run.client.submit(parse(bytes.fromhex(args["json"]))))
        else:
            record = parse(bytes.fromhex(args["json"]))
            things.append(sign(record, run.signer, tenant=args["tenant"]))
    except FractalLBAError as error:
        things.append(error)
    for thing in things:
        yield from (str(thing), repr(thing), f"{thing}")


def same(op: str, want: Answer, got: Answer) -> bool:
    """Judge a log by what it must hold and must lack."""
    if op != "log.capture" or "log" not in got:
        return False
    text = bytes.fromhex(got["log"])
    holds = all(needed.encode() in text for needed in want["holds"])
    return holds and not any(bytes.fromhex(secret) in text for secret in want["lacks"])


ENTRIES: dict[str, tuple[Entry, ...]] = {
    **{
        f"client.{name}": (played("sync"), played("async"))
        for name in ("submit", "submit_many", "get", "failover")
    },
    # A task is cancelled by its loop, not by an event: `test_aio` has that.
    "client.cancel": (played("sync"),),
    "log.capture": (captured("sync"), captured("async")),
}
