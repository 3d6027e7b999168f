"""Suite `outbox/step`: which entries go out when, as whole histories."""

from __future__ import annotations

from typing import Any

from golden.oracle import sending
from golden.oracle.emit import Flag, Stream, Suite
from golden.oracle.suites import sending_held

FLAGS = sending_held.FLAGS | {
    "Drawn": Flag("A drawn history.", ("formats 11.14", "formats 11.15")),
    "Due": Flag("Which entries go, and in what order.", ("formats 11.14",)),
    "Hurry": Flag("A flush ends pauses and own waits.", ("formats 11.17",)),
    "Pause": Flag("Refused credentials pause their group alone.", ("formats 11.12", "formats 11.16")),
    "Verdict": Flag("What an answer means for its entry.", ("formats 11.12", "formats 11.15")),
    "Wait": Flag("How long until the next try.", ("formats 11.15",)),
    "Width": Flag("After a failure one entry goes, then twice as many.", ("formats 11.14",)),
}
HALF = "3fe0000000000000"
ZERO = "0000000000000000"
ALMOST = "3fefffffffffffff"
PLENTY = "1000000"


class History:
    def __init__(self) -> None:
        self.events: list[dict[str, str]] = []

    def _add(self, event: str, **members: str) -> History:
        self.events.append({"event": event, **members})
        return self

    def put(self, number: int, *, kid: str = "k1", tenant: str = "t1", length: int = 100, in_flight: bool = False, bare: bool = False, **more: str) -> History:
        named = {} if bare else {"kid": kid, "tenant": tenant}
        named |= more
        return self._add("put", id=f"{number:016x}", length=str(length), in_flight="true" if in_flight else "false", **named)

    def puts(self, count: int, **how: Any) -> History:
        for number in range(1, count + 1):
            self.put(number, **how)
        return self

    def take(self, now_ms: int = 0, limit: int = 1000, bytes_max: str = PLENTY) -> History:
        return self._add("take", now_ms=str(now_ms), limit=str(limit), bytes_max=bytes_max)

    def answer(self, number: int, status: int = 0, now_ms: int = 0, u: str = HALF, **more: str) -> History:
        told = {"status": str(status)} if status else {}
        return self._add("answer", id=f"{number:016x}", now_ms=str(now_ms), u=u, **told, **more)

    def hurry(self) -> History:
        return self._add("hurry")

    def heard(self, value: str) -> History:
        return self._add("heard", value=value)

    def status(self, body: str) -> History:
        return self._add("status", body=body.encode().hex())


def suites() -> list[Suite]:
    s = Suite("outbox/step.json", "outbox.step", "suites/sending.py", FLAGS, sending.play)

    def add(name: str, flag: str, history: History, width: int = 16) -> None:
        s.add(f"outbox/step-{name}", flag, {"width_max": str(width), "events": history.events})

    due(add)
    verdicts(add)
    waits(add)
    widths(add)
    pauses(add)
    drawn(add)
    sending_held.add_to(s, History)
    return [s]


def due(add: Any) -> None:
    add("nothing", "Due", History().take())
    add("one", "Due", History().put(1).take().take())
    add("in-order-of-ids", "Due", History().put(3).put(1).put(2).take())
    add("limit", "Due", History().puts(5).take(limit=2).take(limit=2).take(limit=2))
    add("limit-zero", "Due", History().puts(2).take(limit=0))
    add("bytes", "Due", History().puts(5, length=400).take(bytes_max="1000").take(bytes_max="1000"))
    add("bytes-exactly", "Due", History().puts(3, length=500).take(bytes_max="1000"))
    add("bytes-first-always-goes", "Due", History().puts(2, length=5000).take(bytes_max="1000").take(bytes_max="1000"))
    add("own-call-sends-it", "Due", History().put(1, in_flight=True).put(2).take())
    add("later-due-after-earlier", "Due", History().puts(2).take().answer(1, 429, u=ALMOST).answer(2, 429, u=ZERO).put(3).take(now_ms=5000))


def verdicts(add: Any) -> None:
    for status in (200, 202, 400, 401, 403, 404, 405, 408, 409, 413, 415, 421, 422, 423, 425, 429, 431, 500, 501, 502, 503, 504):
        add(f"status-{status}", "Verdict", History().puts(3).take(limit=1).answer(1, status, u=ZERO).take(now_ms=1).take(now_ms=40_000))
    add("network", "Verdict", History().puts(3).take(limit=1).answer(1, u=ZERO).take())
    add("cancelled", "Verdict", History().puts(3).take(limit=1).answer(1, u=ZERO, cancelled="true").take())


def waits(add: Any) -> None:
    for name, u in (("half", HALF), ("zero", ZERO), ("almost-one", ALMOST)):
        history, now = History().put(1), 0
        for tries in range(7):
            history.take(now_ms=now).answer(1, 503, now_ms=now, u=u)
            bound = min(1000 * 2**tries, 30_000)
            wait = {"half": bound // 2, "zero": 0, "almost-one": bound - 1}[name]
            if wait:
                history.take(now_ms=now + wait - 1)
            now += wait
        add(f"wait-{name}", "Wait", history.take(now_ms=now))
    for status in (429, 503):
        add(f"wait-asked-{status}", "Wait", History().put(1).take().answer(1, status, u=HALF, retry_after_ms="7000").take(now_ms=7499).take(now_ms=7500))
    add("wait-tries-many", "Wait", History().put(1).take().answer(1, 503, u=ZERO).take().answer(1, 503, u=ZERO).take().answer(1, 503, u=ALMOST).take(now_ms=3998).take(now_ms=3999))


def widths(add: Any) -> None:
    failed = History().puts(20).take(limit=1).answer(1, 503, u=ALMOST)
    add("one-probes", "Width", failed.take(now_ms=1).take(now_ms=1))
    grown = History().puts(40).take(limit=1).answer(1, 503, u=ALMOST).take()
    number, width = 2, 1
    for _ in range(6):
        for _ in range(width):
            grown.answer(number, 200)
            number += 1
        grown.take()
        width = min(2 * width, 4)
        if number > 30:
            break
    add("doubles", "Width", grown, width=4)
    add("fails-again", "Width", History().puts(9).take(limit=1).answer(1, 503, u=ALMOST).take().answer(2, 200).take().answer(3, 503, u=ALMOST).take().answer(4, 200).take())
    add("429-keeps-width", "Width", History().puts(9).take(limit=1).answer(1, 429, u=ALMOST).take())
    add("cancel-keeps-width", "Width", History().puts(9).take(limit=1).answer(1, u=ALMOST, cancelled="true").take())
    add("refusal-widens", "Width", History().puts(9).take(limit=1).answer(1, 503, u=ALMOST).take().answer(2, 409).take())
    add("in-flight-counts", "Width", History().puts(4).take(limit=3).answer(1, 503, u=ALMOST).take())
    add("width-one", "Width", History().puts(4).take(), width=1)


def pauses(add: Any) -> None:
    two = History().put(1, kid="k1").put(2, kid="k2").put(3, kid="k1").put(4, kid="k2")
    add("kid", "Pause", two.take(limit=1).answer(1, 401).take().take())
    tenants = History().put(1, tenant="t1").put(2, tenant="t2").put(3, tenant="t1", kid="k9")
    add("tenant", "Pause", tenants.take(limit=1).answer(1, 403).take())
    add("both", "Pause", History().puts(2).take(limit=2).answer(1, 401).answer(2, 403).put(3).take().hurry().take())
    add("success-ends-it", "Pause", History().puts(4).take(limit=2).answer(1, 401).take().answer(2, 200).take())
    add("success-of-other-does-not", "Pause", History().put(1).put(2, kid="k2", tenant="t2").put(3).take(limit=2).answer(1, 401).answer(2, 200).take())
    add("new-entry-is-parked", "Pause", History().put(1).take().answer(1, 401).put(2).put(3, kid="k2").take())
    add("without-names", "Pause", History().put(1).put(2, bare=True).take(limit=1).answer(1, 401).take())
    add("hurry-ends-it", "Hurry", History().puts(3).take(limit=1).answer(1, 401).take().hurry().take())
    add("hurry-own-wait", "Hurry", History().put(1).take().answer(1, 503, u=ALMOST).hurry().take())
    add("hurry-not-asked-wait", "Hurry", History().put(1).take().answer(1, 503, u=ALMOST, retry_after_ms="5000").hurry().take(now_ms=4999).take(now_ms=5000))
    add("hurry-keeps-flight", "Hurry", History().puts(2).take(limit=1).hurry().take())


def drawn(add: Any) -> None:
    for index in range(30):
        draw = Stream(f"outbox/step-{index}")
        history, now, number = History(), 0, 0
        flying: list[int] = []
        sending_now = sending.Sending(4, 4)

        def play(history: History = history, world: sending.Sending = sending_now) -> dict[str, Any]:
            return world.step(history.events[-1])

        for _ in range(30):
            choice = draw.below(10)
            now += draw.below(2000)
            if choice < 3:
                number += 1
                history.put(number, kid=f"k{draw.below(2)}", tenant=f"t{draw.below(2)}", length=100 + draw.below(900))
                play()
            elif choice < 6:
                taken = play(history.take(now, 1 + draw.below(4), str(1000 + draw.below(2000))))["taken"]
                flying += [int(name, 16) for name in taken]
            elif choice < 9 and flying:
                one = flying.pop(draw.below(len(flying)))
                status = draw.pick((200, 200, 202, 401, 403, 409, 429, 503, 500, 0))
                play(history.answer(one, status, now, f"{0x3fe0000000000000 + draw.below(2**51):016x}"))
            elif choice == 9:
                play(history.hurry())
        add(f"drawn-{index:02d}", "Drawn", history.take(now + 60_000), width=4)
