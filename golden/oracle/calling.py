"""What a client does: calls against scripted servers, with a clock that only waits move.

`spec/retry.md` 1-43 and `spec/formats.md` 13.8-13.9, put together from the other modules: the
rules of an attempt are in `waiting`, of endpoints in `fleet`, of messages in `answers`, and of a
client with an outbox in `posting`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from golden.oracle import answers, canon, schema, sign, waiting
from golden.oracle.closed_codes import CODES
from golden.oracle.fault import Fault
from golden.oracle.fleet import Fleet
from golden.oracle.posting import Post
from golden.oracle.scanner import Number, parse

Members = dict[str, Any]
TOTAL_TIMEOUT_MS = 60_000
ASK_MS = 5_000  # between two questions for the status of a region


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one attempt: a response as bytes, or a failure of the network."""

    step: Members
    error: str | None = None

    @property
    def status(self) -> int:
        return int(self.step.get("status", "0"))


@dataclass(slots=True)
class Server:
    """One scripted server: its steps in order, or a step for each record."""

    script: Members
    used: int = 0

    def answer(self, pcs_id: str) -> Answer:
        if "by_id" in self.script:
            step = self.script["by_id"][pcs_id]
        else:
            steps = self.script["steps"]
            step = steps[min(self.used, len(steps) - 1)]
            if self.used >= len(steps) and step.get("repeat") != "true":
                raise AssertionError("a script ended before its client")
            self.used += 1
        if step.get("reset") == "true" or "cut" in step:
            return Answer(step, "connection_lost")
        if step.get("hang") == "true":
            return Answer(step, "attempt_timeout")
        return Answer(step)


@dataclass(slots=True)
class Client:
    """One client and the servers that it may reach."""

    args: Members
    fleet: Fleet
    servers: list[Server]
    now_ms: int
    quota: int = waiting.QUOTA_MAX
    requests: list[Members] = field(default_factory=list)
    post: Post | None = None

    @classmethod
    def of(cls, args: Members) -> Client:
        check_identity(args)
        fleet = Fleet.of(args["options"], args["endpoints"])
        servers = [Server(script) for script in args["script"]["servers"]]
        client = cls(args, fleet, servers, int(args["now_ms"]))
        if args["options"].get("outbox") == "true":
            client.post = Post(client.option("durability", "durable") == "replicated")
        return client

    @property
    def u(self) -> int:
        return int(self.args["u"], 16)

    def option(self, name: str, default: str) -> str:
        value = self.args["options"].get(name, default)
        assert isinstance(value, str)
        return value

    # --- one exchange ---------------------------------------------------------------------------

    def exchange(
        self,
        request: Members,
        pcs_id: str,
        *,
        cancelled: bool = False,
        until_ms: int | None = None,
    ) -> Members:
        """Attempt until there is a result or a reason to stop."""
        policy = waiting.Policy(max_attempts=int(self.option("max_attempts", "3")))
        deadline_ms = self.now_ms + int(self.option("total_timeout_ms", str(TOTAL_TIMEOUT_MS)))
        if until_ms is not None:
            deadline_ms = min(deadline_ms, until_ms)
        began_ms, attempt, taken = self.now_ms, 0, 0
        self.fleet.call(self.now_ms, self.u)
        while True:
            attempt += 1
            sender = self.fleet.current
            answer = self.attempt(sender, request, pcs_id, attempt)
            if self.post is not None and answer.error is None:
                self.post.hear(answer.step["headers"])
            value, code, facts = self.read(answer, request, pcs_id)
            elsewhere = self.note(sender, answer, facts)
            told = self.told(facts)
            result = waiting.Result(
                answer.status, self.headers(answer, told), self.network(answer, code)
            )
            planned = waiting.plan(
                policy, result, attempt, self.u, self.now_ms, deadline_ms, self.quota, elsewhere
            )
            self.quota = int(planned["quota"])
            if code is None:
                self.quota = min(waiting.QUOTA_MAX, self.quota + taken)
                return {
                    "ok": value | self.counted(request, attempt),
                    "waited_ms": self.since(began_ms),
                }
            stop = planned.get("stop")
            if stop is None and cancelled:
                code, facts, stop = "cancelled", {}, "cancelled"
            if stop is not None:
                error = {"code": code, "attempts": str(attempt), "stop": stop, **facts}
                return {"err": error, "waited_ms": self.since(began_ms)}
            taken = waiting.cost(result, told)
            self.now_ms += int(planned["wait_ms"])

    def counted(self, request: Members, attempt: int) -> Members:
        return {"attempts": str(attempt)} if request["request"] == "submit" else {}

    def since(self, began_ms: int) -> str:
        return str(self.now_ms - began_ms)

    @staticmethod
    def told(facts: Members) -> int | None:
        return int(facts["retry_after_ms"]) if "retry_after_ms" in facts else None

    @staticmethod
    def network(answer: Answer, code: str | None) -> str | None:
        """Name what `plan` must know beside the status: a lost answer, or one nobody can read."""
        if answer.error is not None:
            return answer.error
        unreadable = ("response_malformed", "response_too_large")
        return code if code in unreadable else None

    @staticmethod
    def headers(answer: Answer, told: int | None) -> tuple[tuple[str, str], ...]:
        """Give the fields of a response, with what it asked for in header or body as one wait."""
        kept = [(k, v) for k, v in answer.step.get("headers", []) if k.lower() != "retry-after"]
        if told is not None:
            kept.append(("retry-after", f"{told // 1000}.{told % 1000:03d}"))
        return tuple(kept)

    def attempt(self, sender: int, request: Members, pcs_id: str, attempt: int) -> Answer:
        """Send to an endpoint, and keep what its server saw."""
        url = self.fleet.urls[sender]
        if url == "server:closed":
            return Answer({}, "connect_failed")
        number = url.removeprefix("server:")
        built = answers.request({**request, "endpoint": url, "attempt": str(attempt)})
        seen = dict(built["headers"])
        facts = {
            "attempt": seen.get("x-retry-attempt"),
            "key": seen.get("idempotency-key"),
            "tenant": seen.get("x-tenant-id"),
            "min_ack": seen.get("pcs-min-ack"),
            "authorization": seen.get("authorization"),
        }
        if built["method"] == "POST":
            facts["body_sha256"] = hashlib.sha256(bytes.fromhex(built["body"])).hexdigest()
        self.requests.append(
            {"server": number, "method": built["method"], "path": built["url"].removeprefix(url)}
            | {name: value for name, value in facts.items() if value is not None}
        )
        return self.servers[int(number)].answer(pcs_id)

    def read(
        self, answer: Answer, request: Members, pcs_id: str
    ) -> tuple[Members, str | None, Members]:
        """Give the value, or a code and what is known beside it."""
        if answer.error is not None:
            return {}, answer.error, {}
        step = answer.step
        args = {
            "request": request["request"], "status": step["status"], "pcs_id": pcs_id,
            "headers": step["headers"], "body": self.replaced(step), "now_ms": str(self.now_ms),
        }  # fmt: skip
        limit = int(self.option("max_response_bytes", str(answers.RESPONSE_BYTES_MAX)))
        too_long = len(args["body"]) // 2 > limit
        code = "response_too_large"
        try:
            if not too_long:
                return answers.response(args), None, {}
        except Fault as fault:
            code = fault.code
        if 400 <= answer.status < 600 and not too_long:
            found = answers.mapped(args)
        else:
            found = answers.request_id(step["headers"], {})
        facts = {"status": step["status"]}
        for name in ("request_id", "retry_after_ms"):
            if name in found:
                facts[name] = found[name]
        return {}, code, facts

    def replaced(self, step: Members) -> str:
        """Give a body with the URLs that a harness fills in as the oracle names them."""
        body = bytes.fromhex(step["body"])
        for number in range(len(self.servers)):
            body = body.replace(f"{{server:{number}}}".encode(), f"server:{number}".encode())
        return body.hex()

    def note(self, sender: int, answer: Answer, facts: Members) -> bool:
        """Tell the fleet; say whether the next attempt goes elsewhere."""
        event: dict[str, str] = {"endpoint": str(sender), "sent": "true"}
        event["result"] = answer.error or str(answer.status)
        if "retry_after_ms" in facts:
            event["retry_after_ms"] = facts["retry_after_ms"]
        if answer.status in (421, 423):
            members = answers.members_of(bytes.fromhex(self.replaced(answer.step)))
            hint = members.get("leader_hint")
            if isinstance(hint, dict):
                event["hint"] = str(hint["endpoint"])
                epoch = hint["region_epoch"]
                assert isinstance(epoch, Number)
                event["hint_epoch"] = epoch.token
        return self.fleet.result(event, self.now_ms, self.u)

    # --- calls ----------------------------------------------------------------------------------

    def common(self) -> Members:
        tenant = self.args.get("tenant")
        return {"agent": "any"} | ({} if tenant is None else {"tenant": tenant})

    def submit(self, call: Members, *, cancelled: bool = False) -> Members:
        try:
            body, pcs_id, content = self.signed(bytes.fromhex(call["json"]))
        except Fault as fault:
            return {"err": {"code": fault.code, "attempts": "0"}, "waited_ms": "0"}
        request = {"request": "submit", "body": body.hex(), "content": content, **self.common()}
        level = self.option("durability", "durable")
        if self.post is not None:
            name = self.post.put(request, pcs_id)
            answer = self.exchange(request, pcs_id, cancelled=cancelled)
            self.post.settle(name, answer, self.now_ms, self.args["u"])
            return answer
        if level != "durable":
            request["min_ack"] = level
        return self.exchange(request, pcs_id, cancelled=cancelled)

    # --- with an outbox (12.18, 13.16) ----------------------------------------------------------

    def flush(self, call: Members) -> Members:
        """Send what waits, and learn what is replicated, until nothing is left or time is over."""
        post = self.post
        assert post is not None
        deadline_ms = self.now_ms + int(call["ms"])
        ask_at: int | None = None
        post.sending.step({"event": "hurry"})
        while True:
            name = post.take(self.now_ms)
            asks = bool(post.sending.holding.at) and "token" in self.args["options"]
            ask_at = None if not asks else self.now_ms if ask_at is None else ask_at
            asked = ask_at is not None and ask_at <= self.now_ms < deadline_ms
            if asked:
                ask_at = self.now_ms + ASK_MS
                self.ask(post)
            if name is not None:
                request, pcs_id = post.letters[name]
                answer = self.exchange(request, pcs_id, until_ms=deadline_ms)
                post.settle(name, answer, self.now_ms, self.args["u"])
                if self.now_ms >= deadline_ms:
                    break
                continue
            if asked:
                continue
            due_ms = post.due_ms()
            if self.now_ms >= deadline_ms or (due_ms is None and not asks):
                break
            ends = (deadline_ms, due_ms, ask_at)
            self.now_ms = min(at for at in ends if at is not None and at > self.now_ms)
        return {"stats": post.stats()}

    def ask(self, post: Post) -> None:
        """Ask each endpoint that can know for the status of its region."""
        held = {at.region for at in post.sending.holding.at.values()}
        for index in self.fleet.eligible:
            region = self.args["endpoints"][index].get("region")
            if region is not None and region not in held:
                continue
            request = {"request": "status", "token": self.args["options"]["token"], **self.common()}
            answer = self.attempt(index, request, "", 1)
            if answer.error is None:
                post.learn(answer.step)

    def reopen(self, call: Members) -> Members:  # noqa: ARG002 - a call as the others
        """Close the client and its outbox, and open both again."""
        assert self.post is not None
        self.post = self.post.opened_again()
        self.fleet = Fleet.of(self.args["options"], self.args["endpoints"])
        self.quota = waiting.QUOTA_MAX
        return {"stats": self.post.stats()}

    def signed(self, data: bytes) -> tuple[bytes, str, str]:
        """Check a record as `submit` does, sign it, and give its bytes and names."""
        args = self.args
        record = parse(data)
        eight = schema.check(record)
        if canon.derive_pcs_id(eight.merkle_root, eight.epoch, eight.shard_id) != eight.pcs_id:
            raise Fault("pcs_id_mismatch", "/pcs_id")
        sig_v = int(args["sig_v"])
        _, body = sign.sign(
            record, "HMAC", bytes.fromhex(args["key"]), args.get("kid"), sig_v, args.get("tenant")
        )
        return body, eight.pcs_id, canon.content_digest(record, eight.nanos)

    def get(self, call: Members) -> Members:
        request = {"request": "get", "pcs_id": call["pcs_id"], **self.common()}
        if "token" in self.args["options"]:
            request["token"] = self.args["options"]["token"]
        answer = self.exchange(request, call["pcs_id"])
        if "ok" in answer:
            answer["ok"] = {"outcome": answer["ok"]["outcome"]}
        return answer

    def submit_many(self, call: Members) -> Members:
        items: list[Members] = []
        for index, text in enumerate(call["json"]):
            answer = self.submit({"json": text})
            item: Members = {"index": str(index)}
            if "ok" in answer:
                item["ok"] = {k: answer["ok"][k] for k in ("outcome", "replayed", "level")}
            else:
                item["err"] = {"code": answer["err"]["code"]}
            items.append(item)
        return {"items": items}

    def step(self, call: Members) -> Members:
        match call["call"]:
            case "submit":
                return self.submit(call)
            case "cancel":
                return self.submit(call, cancelled=True)
            case "submit_many":
                return self.submit_many(call)
            case "get":
                return self.get(call)
            case "flush":
                return self.flush(call)
            case "reopen":
                return self.reopen(call)
        self.now_ms += int(call["ms"])
        return {}


def check_identity(args: Members) -> None:
    """Refuse what a constructor refuses: version 2 without tenant or kid."""
    if args["sig_v"] == "2" and ("tenant" not in args or "kid" not in args):
        raise Fault("config_invalid")
    if len(bytes.fromhex(args["key"])) < 32:
        raise Fault("key_unusable")
    levels = answers.LEVELS[:2] if args["options"].get("outbox") == "true" else answers.LEVELS
    if args["options"].get("durability", levels[0]) not in levels:
        raise Fault("config_invalid")
    for name in ("max_attempts", "total_timeout_ms"):
        if int(args["options"].get(name, "1")) < 1:
            raise Fault("config_invalid")


def play(args: Members) -> Members:
    """Make the calls of one client in order."""
    client = Client.of(args)
    calls = [client.step(call) for call in args["calls"]]
    requests = client.requests
    if any("by_id" in script for script in args["script"]["servers"]):
        requests = sorted(requests, key=lambda request: str(request.get("key")))
    for answer in calls:
        code = answer.get("err", {}).get("code")
        assert code is None or code in CODES, code
    return {"calls": calls, "requests": requests}
