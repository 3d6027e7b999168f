"""Suites `client` and `log`: whole calls of a client against scripted servers."""

from __future__ import annotations

import base64
from typing import Any

from golden.oracle import calling, canon
from golden.oracle.base import FULL, LONG_KEY, MERKLE_ROOT, TENANT, record
from golden.oracle.emit import Flag, Suite
from golden.oracle.suites.http import EXCHANGE, body

FLAGS = {
    "Attempts": Flag("How often, and what ends it.", ("retry 1", "retry 5", "retry 11")),
    "Bytes": Flag("The same bytes and key in every attempt.", ("retry 16", "formats 12.2")),
    "Cancel": Flag("A cancelled wait ends the call.", ("retry 2", "retry 18")),
    "Deadline": Flag("A wait that cannot fit stops at once.", ("retry 7",)),
    "Errors": Flag("The server's code is kept.", ("formats 12.7", "retry 43")),
    "Failover": Flag("Where the next attempt goes.", ("retry 30", "retry 31", "retry 36")),
    "Hint": Flag("Hints lead only to configured endpoints.", ("retry 41",)),
    "Level": Flag("A level that is asked for in every attempt.", ("formats 12.13", "formats 4.3")),
    "Many": Flag("Answers in the order of the input.", ("formats 12.1",)),
    "Options": Flag("Options that a constructor refuses.", ("canonical 4.3",)),
    "Quota": Flag("What retries cost, and what they give back.", ("retry 8", "retry 13", "retry 15")),
    "Read": Flag("Reading an outcome.", ("formats 12.3", "formats 12.4")),
    "Region": Flag("A region outside the list is never used.", ("retry 27",)),
    "Refused": Flag("A record that is refused before anything is sent.", ("formats 1.1", "canonical 5.5")),
    "Wait": Flag("How long, and never earlier than asked.", ("retry 6", "retry 21", "retry 42")),
}
LOG_FLAGS = {"Secret": Flag("No key, token or signature is ever logged.", ("formats 12.12",))}
KID = "k1"
HALF = "3fe0000000000000"
ZERO = "0000000000000000"
ALMOST = "3fefffffffffffff"
NOW = "1770000000000"
TOKEN = "dGhpcy1pcy1hLXJlYWQtdG9rZW4tb2YtMzItYnl0ZXM"
HANG_MS = "1000"
Step = dict[str, Any]


def pcs_id(epoch: int) -> str:
    return canon.derive_pcs_id(MERKLE_ROOT, epoch, "shard-001")


def full(epoch: int = 7, /, **changes: str | None) -> str:
    members: dict[str, str | None] = {"epoch": str(epoch), "pcs_id": f'"{pcs_id(epoch)}"'}
    return record(FULL, **(members | changes)).hex()


def step(status: int, *headers: tuple[str, str], data: bytes = b"", **how: str) -> Step:
    return {"status": str(status), "headers": [list(h) for h in headers], "body": data.hex(), **how}


def good(epoch: int = 7, status: int = 200, **how: str) -> Step:
    reason = {"accepted": "false", "escalated": "true", "reason": '"n_j_implausible"'} if status == 202 else {}
    data = body(pcs_id=f'"{pcs_id(epoch)}"', **reason)
    return step(status, *((name, value) for name, value in EXCHANGE), data=data, **how)


def problem(status: int, code: str, *headers: tuple[str, str], **members: str) -> Step:
    more = "".join(f',"{k}":{v}' for k, v in members.items())
    data = f'{{"type":"about:blank","title":"t","status":{status},"code":"{code}"{more}}}'.encode()
    return step(status, ("Content-Type", "application/problem+json"), *headers, data=data)


def steps(*found: Step) -> dict[str, Any]:
    return {"steps": list(found)}


def submit(epoch: int = 7, **changes: str | None) -> dict[str, str]:
    return {"call": "submit", "json": full(epoch, **changes)}


class Calls:
    """Collect cases; by default one server, one call of one record, version 2."""

    def __init__(self, flags: dict[str, Flag] = FLAGS) -> None:
        self.suites: dict[str, Suite] = {}
        self.known = flags

    def add(self, name: str, flag: str, *servers: dict[str, Any], calls: list[Any] | None = None, u: str = HALF, sig_v: str = "2",
            urls: list[dict[str, str]] | None = None, tenant: str | None = TENANT, kid: str | None = KID, key: bytes = LONG_KEY,
            op: str = "submit", code: str | None = None, comment: str = "", **options: Any) -> None:
        file = "quota" if flag == "Quota" else op
        suite = self.suites.get(file)
        if suite is None:
            suite = Suite(f"client/{file}.json", f"client.{op}", "suites/client.py", {}, calling.play)
            self.suites[file] = suite
        suite.flags[flag] = self.known[flag]
        args: dict[str, Any] = {"endpoints": urls or [{"url": f"server:{i}"} for i in range(len(servers) or 1)]}
        args |= {k: v for k, v in {"tenant": tenant, "kid": kid}.items() if v is not None}
        args |= {"key": key.hex(), "sig_v": sig_v, "u": u, "now_ms": NOW, "options": options}
        args |= {"calls": calls or [submit()], "script": {"servers": list(servers) or [steps()]}}
        suite.add(f"client/{op.replace('_', '-')}-{name}", flag, args, code=code, comment=comment)


def suites() -> list[Suite]:
    c = Calls()
    singles(c)
    waits(c)
    ends(c)
    quotas(c)
    failovers(c)
    many(c)
    reads(c)
    cancels(c)
    return [*(c.suites[file] for file in sorted(c.suites)), logs()]


def singles(c: Calls) -> None:
    c.add("accepted", "Bytes", steps(good()))
    c.add("escalated", "Bytes", steps(good(status=202)))
    c.add("version-1", "Bytes", steps(good()), sig_v="1")
    c.add("version-1-no-kid", "Bytes", steps(good()), sig_v="1", kid=None)
    c.add("version-1-no-tenant", "Bytes", steps(good()), sig_v="1", tenant=None)
    c.add("retried-bytes", "Bytes", steps(step(503), step(500), good()), comment="one body, one key, X-Retry-Attempt 1, 2")
    c.add("off-grid", "Bytes", steps(good()), calls=[submit(r="0.5000000004")], comment="what is sent is what was signed")
    c.add("unicode", "Bytes", steps(good()), calls=[submit(ft='{"outbox_seq":0,"degraded":true,"fallbacks":["\\u00e9\\ud83d\\ude00"],"clock_skew_ms":-1}')])
    c.add("attempt-member-stays", "Bytes", steps(step(503), good()), calls=[submit(attempt="4")], comment="the member attempt never counts up")
    c.add("two-records", "Bytes", steps(good(1), good(2)), calls=[submit(1), submit(2)])
    c.add("same-record-twice", "Bytes", steps(good(), good()), calls=[submit(), submit()])
    for level in ("replicated", "witnessed"):
        c.add(f"level-{level}", "Bytes", steps(good()), durability=level)
    waiting = problem(503, "unavailable", ("PCS-Position", "eu1/open/0/42"), ("Retry-After", "1"), position='"eu1/open/0/42"')
    reached = step(200, ("PCS-Level", "replicated"), ("PCS-Position", "eu1/open/0/42"), ("Idempotency-Replayed", "true"), data=body(pcs_id=f'"{pcs_id(7)}"'))
    c.add("min-ack-reached-later", "Level", steps(waiting, reached), durability="replicated")
    c.add("min-ack-not-reached", "Level", steps(waiting, waiting, waiting), durability="replicated", comment="recorded all the same")
    c.add("no-tenant", "Options", tenant=None, code="config_invalid")
    c.add("no-kid", "Options", kid=None, code="config_invalid")
    c.add("short-key", "Options", key=LONG_KEY[:31], code="key_unusable")
    c.add("zero-attempts", "Options", max_attempts="0", code="config_invalid", comment="zero is a value, and no policy has it")
    c.add("zero-total-timeout", "Options", total_timeout_ms="0", code="config_invalid")
    c.add("no-region-allowed", "Options", allowed_regions=["eu1"], code="config_invalid")
    faults: dict[str, dict[str, str | None]] = {
        "unknown-member": {"extra": "1"}, "no-ft": {"ft": None}, "wrong-id": {"pcs_id": '"' + "ab" * 32 + '"'}, "d-hat": {"D_hat": "3.6"},
        "epoch-fraction": {"epoch": "7.0"}, "sent-at": {"sent_at": '"2026-02-30T00:00:00Z"'}, "regime": {"regime": '"Mixed"'}, "n-j": {"N_j": '{"2":4}'},
    }
    for name, changes in faults.items():
        c.add(f"refused-{name}", "Refused", calls=[{"call": "submit", "json": full(7, **changes)}])
    for at, code in {400: "json_malformed", 401: "signature_invalid", 403: "tenant_mismatch", 404: "not_found", 409: "pcs_id_conflict", 413: "payload_too_large", 415: "unsupported_media_type", 422: "hex_invalid"}.items():
        c.add(f"error-{at}", "Errors", steps(problem(at, code, ("X-Request-Id", "r-1"))))
    for at in (400, 401, 403, 405, 409, 410, 418, 431, 451, 501, 505):
        c.add(f"status-{at}", "Errors", steps(step(at)))
    c.add("status-301", "Errors", steps(step(301, ("Location", "http://elsewhere.example/"))), comment="a redirect is never followed")
    c.add("status-307", "Errors", steps(step(307, ("Location", "/v1/pcs/other"))))
    c.add("status-201", "Errors", steps(step(201, data=body(pcs_id=f'"{pcs_id(7)}"'))))
    c.add("status-204", "Errors", steps(step(204)))
    c.add("unreadable-200", "Errors", steps(step(200, data=b"<html>")), comment="it was committed: never retried")
    c.add("unreadable-other-id", "Errors", steps(good(8)))
    c.add("unreadable-202-should-retry", "Errors", steps(step(202, ("X-Should-Retry", "true"), data=b"{}")))
    c.add("too-large", "Errors", steps(step(200, data=b" " * 2000)), max_response_bytes="1000")


def waits(c: Calls) -> None:
    for name, u in {"half": HALF, "zero": ZERO, "almost-one": ALMOST}.items():
        c.add(f"jitter-{name}", "Wait", steps(step(503), step(503), good()), u=u)
        c.add(f"jitter-{name}-capped", "Wait", steps(*[step(500)] * 7, good()), u=u, max_attempts="8", down_after="20")
    for value in ("7", "0", "2.5", "60", "-3", "soon", "1 s", " 4 ", "0.0001"):
        slug = value.strip().replace(".", "").replace("-", "minus").replace(" ", "") or "none"
        c.add(f"after-{slug}", "Wait", steps(step(429, ("Retry-After", value)), good()), total_timeout_ms="200000")
        c.add(f"after-{slug}-503", "Wait", steps(step(503, ("Retry-After", value)), good()), u=ZERO, total_timeout_ms="200000")
    c.add("after-two", "Wait", steps(step(503, ("Retry-After", "2"), ("Retry-After", "5")), good()))
    c.add("after-date", "Wait", steps(step(503, ("Date", "Mon, 02 Feb 2026 02:39:50 GMT"), ("Retry-After", "Mon, 02 Feb 2026 02:40:00 GMT")), good()))
    c.add("after-past-date", "Wait", steps(step(503, ("Date", "Mon, 02 Feb 2026 02:39:50 GMT"), ("Retry-After", "Mon, 02 Feb 2026 02:39:00 GMT")), good()))
    c.add("after-body", "Wait", steps(problem(503, "unavailable", retry_after_ms="3210"), good()))
    c.add("after-body-larger", "Wait", steps(problem(503, "unavailable", ("Retry-After", "2"), retry_after_ms="3210"), good()))
    c.add("after-header-larger", "Wait", steps(problem(503, "unavailable", ("Retry-After", "9"), retry_after_ms="3210"), good()))
    c.add("after-61", "Wait", steps(step(503, ("Retry-After", "61"))), total_timeout_ms="200000", comment="too long: stop, with the value")
    c.add("after-60-000", "Wait", steps(step(503, ("Retry-After", "60")), good()), u=ZERO, total_timeout_ms="70000")


def ends(c: Calls) -> None:
    for at in (408, 425, 429, 500, 502, 503, 504):
        c.add(f"retried-{at}", "Attempts", steps(step(at), good()))
        c.add(f"exhausted-{at}", "Attempts", steps(step(at), step(at), step(at)))
    for count in (1, 2, 5):
        c.add(f"max-attempts-{count}", "Attempts", steps(*[step(500)] * count), max_attempts=str(count), down_after="20")
    c.add("reset-then-good", "Attempts", steps({"reset": "true"}, good()))
    c.add("reset-thrice", "Attempts", steps(*[{"reset": "true"}] * 3))
    c.add("cut-then-good", "Attempts", steps(good(cut="10"), good()))
    c.add("hang-then-good", "Attempts", steps({"hang": "true"}, good()), attempt_timeout_ms=HANG_MS)
    c.add("closed", "Attempts", urls=[{"url": "server:closed"}], max_attempts="2")
    c.add("should-retry-409", "Attempts", steps(step(409, ("X-Should-Retry", "true")), good()))
    c.add("should-retry-false", "Attempts", steps(step(503, ("X-Should-Retry", "false"))))
    c.add("should-retry-over-limit", "Attempts", steps(*[step(500, ("X-Should-Retry", "true"))] * 3))
    c.add("should-retry-odd", "Attempts", steps(step(500, ("X-Should-Retry", "yes")), good()))
    c.add("deadline-250", "Deadline", steps(step(503)), total_timeout_ms="250")
    c.add("deadline-10250", "Deadline", steps(step(503), good()), total_timeout_ms="10250", comment="the exact bound is in retry.plan: here sockets are real")
    c.add("deadline-after", "Deadline", steps(step(429, ("Retry-After", "30"))), total_timeout_ms="30000")


def quotas(c: Calls) -> None:
    failing = [submit(epoch) for epoch in range(1, 20)]
    refused = step(500, repeat="true")
    c.add("quota-runs-out", "Quota", steps(refused), calls=failing, u=ZERO, down_after="1000", comment="500 / 14 = 35 retries, then none")
    told = step(429, ("Retry-After", "0"), repeat="true")
    c.add("quota-429-costs-5", "Quota", steps(told), calls=[submit(epoch) for epoch in range(1, 53)], u=ZERO)
    refund = steps(*[s for epoch in range(1, 40) for s in (step(500), good(epoch))], *[step(500)] * 3)
    c.add("quota-is-refunded", "Quota", refund, calls=[submit(epoch) for epoch in range(1, 41)], u=ZERO, down_after="1000")


def failovers(c: Calls) -> None:
    def add(name: str, *servers: dict[str, Any], flag: str = "Failover", **more: Any) -> None:
        c.add(name, flag, *servers, op="failover", **more)

    add("on-503", steps(step(503)), steps(good()))
    add("on-closed", steps(), steps(good()), urls=[{"url": "server:closed"}, {"url": "server:1"}])
    add("sticky", steps(step(503)), steps(good(1), good(2)), calls=[submit(1), submit(2)])
    add("500-stays", steps(step(500), good()), steps())
    add("502-stays", steps(step(502), good()), steps())
    add("504-stays", steps(step(504), good()), steps())
    add("reset-stays", steps({"reset": "true"}, good()), steps(), comment="ambiguous: two regions that both say new are a conflict")
    add("hang-stays", steps({"hang": "true"}, good()), steps(), attempt_timeout_ms=HANG_MS)
    add("429-stays", steps(step(429, ("Retry-After", "1")), good()), steps(), comment="the quota is the tenant's")
    add("ambiguous-until-down", steps(step(500), step(500), step(500)), steps(good()), max_attempts="4")
    add("after-binds-its-sender", steps(step(503, ("Retry-After", "30"))), steps(good()), comment="the other endpoint needs only the jitter")
    add("after-too-long-elsewhere", steps(step(503, ("Retry-After", "90"))), steps(good()))
    add("not-free", steps(step(503)), steps(step(503)), max_attempts="2", comment="a failover is an attempt")
    add("three", steps(step(503)), steps(step(503)), steps(good()))
    add("back-when-all-refuse", steps(step(503), good()), steps(step(503)))
    add("refusal-stays", steps(step(409)), steps())
    regions = [{"url": "server:0", "region": "eu1"}, {"url": "server:1", "region": "us1"}, {"url": "server:2", "region": "eu2"}]
    add("region-outside", steps(step(503)), steps(), steps(good()), flag="Region", urls=regions, allowed_regions=["eu1", "eu2"])
    add("region-alone", steps(step(503), step(503), step(503)), steps(), flag="Region", urls=regions[:2], allowed_regions=["eu1"])
    add("region-unnamed", steps(), steps(good()), flag="Region", urls=[{"url": "server:0"}, regions[1]], allowed_regions=["us1"])
    hint = {"leader_hint": '{"endpoint":"{server:1}","region_epoch":3}'}
    retry = ("X-Should-Retry", "true")
    add("hint", steps(problem(421, "not_leader", retry, **hint)), steps(good()), flag="Hint")
    add("hint-not-retried", steps(problem(421, "not_leader", **hint)), steps(), flag="Hint")
    add("hint-frozen-waits", steps(problem(423, "frozen", retry, retry_after_ms="1500"), good()), steps(), flag="Hint")
    elsewhere = {"leader_hint": '{"endpoint":"https://elsewhere.example","region_epoch":3}'}
    add("hint-unknown-host", steps(problem(421, "wrong_region", retry, **elsewhere), good()), steps(), flag="Hint", comment="a record is never sent to a host nobody named")
    stale = {"leader_hint": '{"endpoint":"{server:0}","region_epoch":2}'}
    add("hint-stale", steps(problem(421, "not_leader", retry, **hint)), steps(problem(421, "not_leader", retry, **stale), good()), flag="Hint")


def many(c: Calls) -> None:
    def add(name: str, script: dict[str, Any], epochs: list[int], concurrency: int, **more: Any) -> None:
        call = {"call": "submit_many", "json": [full(e) for e in epochs], "concurrency": str(concurrency)}
        c.add(name, "Many", script, calls=[call], op="submit_many", **more)

    add("in-order", steps(good(1), good(2), good(3)), [1, 2, 3], 1)
    add("one-fails", steps(good(1), problem(409, "pcs_id_conflict"), good(3)), [1, 2, 3], 1)
    add("none", steps(), [], 4)
    add("first-fails", steps(problem(422, "hex_invalid"), good(2)), [1, 2], 1)
    by_id = {pcs_id(e): good(e) if e % 5 else problem(409, "pcs_id_conflict") for e in range(1, 41)}
    add("forty-at-once", {"by_id": by_id}, list(range(1, 41)), 8)
    add("wide", {"by_id": {pcs_id(e): good(e) for e in range(1, 9)}}, list(range(1, 9)), 64)
    slow = {pcs_id(e): good(e, delay_ms="150") if e == 1 else good(e) for e in range(1, 5)}
    add("slow-first", {"by_id": slow}, [1, 2, 3, 4], 4, comment="the first is answered last, and comes first")
    bad = {"call": "submit_many", "json": [full(1), full(2, extra="1"), full(3)], "concurrency": "1"}
    c.add("refused-inside", "Many", steps(good(1), good(3)), calls=[bad], op="submit_many")


def reads(c: Calls) -> None:
    def add(name: str, *found: Step, token: str | None = TOKEN, **more: Any) -> None:
        options: dict[str, Any] = {} if token is None else {"token": token}
        call = {"call": "get", "pcs_id": pcs_id(7)}
        c.add(name, "Read", steps(*found), calls=[call], op="get", **options, **more)

    add("outcome", good())
    add("without-token", problem(401, "unauthorized"), token=None)
    add("not-found", problem(404, "not_found"))
    add("unavailable-is-not-absent", step(503), step(503), step(503))
    add("retried", step(503), good())
    add("unreadable", step(200, data=b"{}"))
    add("other-id", good(8))
    add("limited", step(429, ("Retry-After", "2")), good())


def cancels(c: Calls) -> None:
    call = {"call": "cancel", "json": full()}
    c.add("in-wait", "Cancel", steps(step(503)), calls=[call], op="cancel")
    c.add("in-long-wait", "Cancel", steps(step(503, ("Retry-After", "50"))), calls=[call], op="cancel")
    c.add("without-wait", "Cancel", steps(good()), calls=[call], op="cancel", comment="no wait began, so nothing was cancelled")
    c.add("refused-without-wait", "Cancel", steps(step(409)), calls=[call], op="cancel")
    c.add("then-submit", "Cancel", steps(step(503), good()), calls=[call, submit()], op="cancel")


def logs() -> Suite:
    suite = Suite("log/capture.json", "log.capture", "suites/client.py", LOG_FLAGS, log_expectation)
    base = {"endpoints": [{"url": "server:0"}], "tenant": TENANT, "kid": KID, "key": LONG_KEY.hex(), "sig_v": "2", "u": HALF, "now_ms": NOW}
    for name, scenario, script in (
        ("submit", "submit", steps(good())),
        ("submit-retried", "submit", steps(step(503), good())),
        ("submit-refused", "submit", steps(problem(401, "signature_invalid"))),
        ("submit-reset", "submit", steps({"reset": "true"}, good())),
        ("submit-unreadable", "submit", steps(step(200, data=b"{}"))),
        ("submit-echoed", "submit", steps(step(400, data=bytes.fromhex(full())))),
    ):
        suite.add(f"log/{name}", "Secret", {**base, "scenario": scenario, "json": full(), "script": {"servers": [script]}})
    for name, script in (("get", steps(good())), ("get-refused", steps(problem(403, "forbidden")))):
        suite.add(f"log/{name}", "Secret", {**base, "scenario": "get", "pcs_id": pcs_id(7), "token": TOKEN, "script": {"servers": [script]}})
    suite.add("log/sign", "Secret", {**base, "scenario": "sign", "json": full(), "script": {"servers": []}})
    return suite


def log_expectation(args: dict[str, Any]) -> dict[str, Any]:
    """List what no log may hold: the key and the token in their spellings, and the signature."""
    key = bytes.fromhex(args["key"])
    spelled = [key, key.hex().encode(), base64.b64encode(key), base64.urlsafe_b64encode(key).rstrip(b"=")]
    if "token" in args:
        spelled.append(args["token"].encode())
    if "json" in args:
        client = calling.Client.of({**args, "options": {}})
        body_sent, _, _ = client.signed(bytes.fromhex(args["json"]))
        sig = body_sent.split(b'"sig":"')[1].split(b'"')[0]
        spelled += [sig, base64.b64decode(sig).hex().encode()]
    called = args["scenario"] != "sign"
    return {"holds": [args["scenario"]] if called else [], "lacks": [text.hex() for text in spelled]}
