"""What the outbox of a client holds, beside `sending`: letters, dead letters, what answers say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from golden.oracle import answers
from golden.oracle.sending import Sending

WIDTH_MAX = 16
LINES_MAX = "1000"
BYTES_MAX = str(4 * 2**20)
UNREADABLE = ("response_malformed", "response_too_large")
EXCHANGE = (("level", "pcs-level"), ("position", "pcs-position"), ("replicated", "pcs-replicated"))
Members = dict[str, Any]
Headers = list[list[str]]


@dataclass(slots=True)
class Post:
    """The outbox of one client, which sends in a flush alone."""

    replicated: bool
    sending: Sending = field(init=False)
    letters: dict[str, tuple[Members, str]] = field(default_factory=dict)
    dead: int = 0
    last: Headers = field(default_factory=list)
    ids: int = 0

    def __post_init__(self) -> None:
        self.sending = Sending(WIDTH_MAX, WIDTH_MAX, self.replicated)

    def put(self, request: Members, pcs_id: str) -> str:
        """Keep a record that its own call sends."""
        self.ids += 1
        name = f"{self.ids:016x}"
        self.letters[name] = request, pcs_id
        self.sending.step({"event": "put", "id": name, "length": "1000", "in_flight": "true"})
        return name

    def take(self, now_ms: int) -> str | None:
        """Give the one entry that is due; with several a client would send a batch."""
        event = {"event": "take", "now_ms": str(now_ms), "limit": LINES_MAX, "bytes_max": BYTES_MAX}
        taken = self.sending.step(event)["taken"]
        assert len(taken) < 2, "a script with two due entries needs a batch"
        return taken[0] if taken else None

    def due_ms(self) -> int | None:
        waiting = [each.due_ms for each in self.sending.kept.values() if each.state == "waiting"]
        return min(waiting, default=None)

    def hear(self, headers: Headers) -> None:
        """Hear the watermark of an answer, whatever it answers (12.14)."""
        self.last = headers
        value = answers.header(headers, "pcs-replicated")
        if value is not None:
            self.sending.step({"event": "heard", "value": value})

    def learn(self, step: Members) -> None:
        """Hear an answer about a region: the status before the header."""
        if step["status"] == "200":
            self.sending.step({"event": "status", "body": step["body"]})
        self.hear(step["headers"])

    def settle(self, name: str, answer: Members, now_ms: int, u: str) -> None:
        """Let the outbox judge how a call ended."""
        event = {"event": "answer", "id": name, "now_ms": str(now_ms), "u": u}
        if "ok" in answer:
            event["status"] = "200"
            found = [(member, answers.header(self.last, field)) for member, field in EXCHANGE]
            event |= {member: value for member, value in found if value is not None}
        else:
            error = answer["err"]
            if error["code"] == "cancelled":
                event["cancelled"] = "true"
            elif error["code"] not in UNREADABLE and "status" in error:
                event["status"] = error["status"]
            if "retry_after_ms" in error:
                event["retry_after_ms"] = error["retry_after_ms"]
        if self.sending.step(event)["verdict"] == "bury":
            self.dead += 1

    def opened_again(self) -> Post:
        """Give what a new owner finds: held entries stay held, all others wait (11.23)."""
        found = Post(self.replicated, dead=self.dead, ids=self.ids)
        for name in sorted(self.sending.kept):
            event = {"event": "put", "id": name, "length": "1000", "in_flight": "false"}
            if name in self.sending.holding.at:
                event["hold"] = self.sending.holding.text(name)
            found.letters[name] = self.letters[name]
            found.sending.step(event)
        return found

    def stats(self) -> dict[str, str]:
        """Count as 13.16 says."""
        return {
            "entries": str(len(self.sending.kept)),
            "held": str(len(self.sending.holding.at)),
            "in_flight": str(self.sending.in_flight()),
            "dead": str(self.dead),
        }
