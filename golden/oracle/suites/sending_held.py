"""Histories of suite `outbox/step` at the level `replicated`: what is held, and until when."""

from __future__ import annotations

from typing import Any

from golden.oracle import sending
from golden.oracle.emit import Flag, Stream, Suite

FLAGS = {
    "Again": Flag("A newer region_epoch sends again what may be lost.", ("formats 11.26", "formats 11.28")),
    "Cover": Flag("What a watermark covers.", ("formats 11.25", "formats 11.26", "formats 11.28")),
    "HeldDrawn": Flag("A drawn history with held entries.", ("formats 11.22", "formats 11.27")),
    "HeldFlight": Flag("A held entry is not in flight, and not taken.", ("formats 11.22", "formats 11.27")),
    "Level": Flag("What an answer means at the level replicated.", ("formats 11.24", "formats 11.27")),
    "Status": Flag("What a region status says of held entries.", ("formats 11.29", "formats 12.16", "formats 12.17")),
}
ALMOST = "3fefffffffffffff"
ZERO = "0000000000000000"
AT = "eu1/open/1/5"


def stream(region_epoch: int | str, replicated: int | str, closed: str = "", *, placement: str = '"open"', durable: int | str = 99, more: str = "") -> str:
    return f'{{"closed":[{closed}],"durable":{durable},"placement":{placement},"region_epoch":{region_epoch},"replicated":{replicated}{more}}}'


def status(*streams: str, region: str = '"eu1"', more: str = "") -> str:
    return f'{{"region":{region},"streams":[{",".join(streams)}]{more}}}'


def closed(*ends: tuple[int, int]) -> str:
    return ",".join(f'{{"region_epoch":{epoch},"seq":{seq}}}' for epoch, seq in ends)


class Adder:
    """Add cases with entry 1 taken and answered: held at `eu1/open/1/5`, if nothing else is said."""

    def __init__(self, suite: Suite, history: Any) -> None:
        self.suite = suite
        self.history = history

    def add(self, name: str, flag: str, history: Any, width: int = 16) -> None:
        args = {"width_max": str(width), "durability": "replicated", "events": history.events}
        self.suite.add(f"outbox/step-held-{name}", flag, args)

    def sent(self, count: int = 1, **how: Any) -> Any:
        return self.history().puts(count, **how).take(limit=1)

    def held(self, position: str = AT, count: int = 1, **more: str) -> Any:
        return self.sent(count).answer(1, 200, position=position, **more)


def add_to(suite: Suite, history: Any) -> None:
    adder = Adder(suite, history)
    levels(adder)
    covers(adder)
    agains(adder)
    flights(adder)
    statuses(adder)
    unreadable(adder)
    drawn(adder)


def levels(a: Adder) -> None:
    for code in (200, 202):
        a.add(f"{code}", "Level", a.sent().answer(1, code, position=AT).take(now_ms=60_000))
    a.add("own-call", "Level", a.history().put(1, in_flight=True).answer(1, 200, position=AT).take(now_ms=60_000))
    for level in ("durable", "replicated", "witnessed"):
        a.add(f"level-{level}", "Level", a.held(level=level))
    a.add("level-without-position", "Level", a.sent().answer(1, 200, level="replicated"))
    a.add("no-position", "Level", a.sent(3).answer(1, 200, u=ALMOST).take(now_ms=998).answer(2, 200, 998, ZERO).take(now_ms=999))
    for seq in (4, 5, 6):
        a.add(f"own-watermark-{seq}", "Level", a.held(replicated=f"eu1/open/1/{seq}"))
    a.add("own-watermark-newer-epoch", "Level", a.held(replicated="eu1/open/3/4").heard("eu1/open/1/9").heard("eu1/open/3/5"))
    a.add("own-watermark-newer-epoch-covers", "Level", a.held(replicated="eu1/open/3/5"))
    a.add("own-watermark-older-epoch", "Level", a.held("eu1/open/2/5", replicated="eu1/open/1/9").heard("eu1/open/2/5"))
    a.add("own-watermark-other-placement", "Level", a.held(replicated="eu1/eu/3/9").heard("eu1/open/1/5"))
    a.add("own-watermark-other-region", "Level", a.held(replicated="us1/open/3/9").heard("eu1/open/1/5"))
    a.add("position-of-other-region", "Level", a.held("us1/open/1/5", replicated="eu1/open/1/9").heard("us1/open/1/5"))
    a.add("known-watermark", "Level", a.sent().heard("eu1/open/1/9").answer(1, 200, position=AT))
    a.add("known-newer-epoch", "Level", a.sent(2).heard("eu1/open/2/9").answer(1, 200, u=ZERO, position=AT).take())
    a.add("known-newer-epoch-and-own", "Level", a.sent().heard("eu1/open/3/9").answer(1, 200, u=ZERO, position=AT, replicated="eu1/open/2/9").take())
    a.add("seq-zero", "Level", a.held(replicated="eu1/open/1/0").heard("eu1/open/1/1"))


def covers(a: Adder) -> None:
    a.add("exactly", "Cover", a.held().heard("eu1/open/1/4").heard("eu1/open/1/5").heard("eu1/open/1/6"))
    a.add("beyond", "Cover", a.held().heard("eu1/open/1/6"))
    a.add("large", "Cover", a.held("eu1/open/4294967295/9007199254740991").heard("eu1/open/4294967295/9007199254740990").heard("eu1/open/4294967295/9007199254740991"))
    for name, other in {"region": "us1/open/1/9", "placement": "eu1/eu/1/9", "region-newer": "us1/open/2/9", "placement-newer": "eu1/eu/2/9", "epoch-older": "eu1/open/0/9"}.items():
        a.add(f"other-{name}", "Cover", a.held().heard(other).take(now_ms=60_000).heard(AT))
    three = a.history().puts(3).take().answer(3, 200, position="eu1/open/1/7").answer(1, 200, position="eu1/open/1/5").answer(2, 200, position="eu1/open/1/6")
    a.add("some-of-three", "Cover", three.heard("eu1/open/1/6").heard("eu1/open/1/7"))
    two = a.history().puts(2).take().answer(1, 200, position="eu1/open/1/5").answer(2, 200, position="us1/open/1/5")
    a.add("two-regions", "Cover", two.heard("us1/open/1/5").heard("eu1/open/1/5"))
    a.add("goes-back", "Cover", a.sent(2).take(limit=1).heard("eu1/open/1/9").heard("eu1/open/1/4").answer(1, 200, position="eu1/open/1/7").answer(2, 200, position="eu1/open/1/10"))
    a.add("epoch-goes-back", "Cover", a.held("eu1/open/2/5").heard("eu1/open/2/3").heard("eu1/open/1/99").heard("eu1/open/2/5"))
    a.add("twice", "Cover", a.held().heard("eu1/open/1/5").heard("eu1/open/1/5"))
    a.add("epoch-ten", "Cover", a.held("eu1/open/9/5").heard("eu1/open/10/5"))
    for index, value in enumerate(("", "eu1/open/1", "EU1/open/1/9", "eu1/open/1/09", "eu1/open/1/9, eu1/open/1/9", " eu1/open/1/9", "eu1/open/1/-1", "eu1/open/1/9x")):
        a.add(f"no-watermark-{index}", "Cover", a.held().heard(value).heard(AT))
    for code in (400, 401, 403, 409, 429, 503, 0):
        a.add(f"heard-in-{code}", "Cover", a.held(count=2).take(limit=1).answer(2, code, u=ZERO, replicated="eu1/open/1/5"))
    a.add("heard-in-200", "Cover", a.held(count=2).take(limit=1).answer(2, 200, position="eu1/open/1/8", replicated="eu1/open/1/5"))
    a.add("found-held", "Cover", a.history().put(1, hold=AT).put(2).take(now_ms=5).heard("eu1/open/1/5"))


def agains(a: Adder) -> None:
    a.add("newer-epoch", "Again", a.held().heard("eu1/open/2/3").take().answer(1, 200, position="eu1/open/2/4").heard("eu1/open/2/4"))
    a.add("newer-epoch-beyond", "Again", a.held().heard("eu1/open/2/9").take())
    a.add("stands", "Again", a.held().heard("eu1/open/2/3").take().answer(1, 200, position=AT, replicated="eu1/open/2/3").heard("eu1/open/2/4").heard("eu1/open/2/5"))
    a.add("other-region-took-it", "Again", a.held().heard("eu1/open/2/3").take().answer(1, 200, position="us1/open/4/70", replicated="us1/open/4/70"))
    a.add("conflict", "Again", a.held().heard("eu1/open/2/3").take().answer(1, 409))
    a.add("is-refused", "Again", a.held().heard("eu1/open/2/3").take().answer(1, 401).heard("eu1/open/2/9").hurry().take())
    a.add("fails", "Again", a.held().heard("eu1/open/2/3").take().answer(1, 503, u=ALMOST).take(now_ms=998).take(now_ms=999))
    late = a.history().put(1).take().answer(1, 503, u=ALMOST).take(now_ms=999).answer(1, 503, 999, ALMOST).take(now_ms=2998).answer(1, 200, 2998, position=AT)
    a.add("forgets-failures", "Again", late.heard("eu1/open/2/3").take(now_ms=3000).answer(1, 503, 3000, ALMOST).take(now_ms=3998).take(now_ms=3999))
    many = a.history().puts(4).take().answer(4, 200, position="eu1/open/1/4").answer(2, 200, position="eu1/open/1/2").answer(1, 200, position="eu1/open/2/1").answer(3, 200, position="us1/open/1/3")
    a.add("some-of-four", "Again", many.heard("eu1/open/2/0").take(now_ms=9))
    a.add("again-twice", "Again", a.held().heard("eu1/open/2/3").take().answer(1, 200, position="eu1/open/2/4").heard("eu1/open/3/1").take())
    a.add("found-held-again", "Again", a.history().put(1, hold=AT).heard("eu1/open/2/0").take())
    a.add("by-a-refusal", "Again", a.held(count=2).take(limit=1).answer(2, 503, u=ALMOST, replicated="eu1/open/2/9").take(now_ms=1))


def flights(a: Adder) -> None:
    narrow = a.sent(6).answer(1, 503, u=ALMOST).take()
    a.add("widens", "HeldFlight", narrow.answer(2, 200, position=AT).take().take())
    a.add("leaves-room", "HeldFlight", a.sent(6).answer(1, 503, u=ALMOST).take().answer(2, 200, position=AT).take(limit=1).answer(3, 503, u=ALMOST).take(), 4)
    a.add("not-hurried", "HeldFlight", a.held(count=2).hurry().take(now_ms=60_000))
    a.add("ends-pauses", "HeldFlight", a.sent(4).take(limit=1).answer(1, 401).take().answer(2, 200, position=AT).take())
    a.add("of-paused-kid", "HeldFlight", a.history().puts(3).take(limit=2).answer(1, 200, position=AT).answer(2, 401).heard("eu1/open/2/0").take().hurry().take())
    a.add("not-taken", "HeldFlight", a.held(count=3).take(limit=1, now_ms=99).take(now_ms=99).take(now_ms=10**9))
    a.add("released-widens-nothing", "HeldFlight", a.sent(4).answer(1, 200, position=AT).take(limit=1).answer(2, 503, u=ALMOST).heard(AT).take())


def statuses(a: Adder) -> None:
    def told(name: str, *bodies: str, position: str = AT) -> None:
        history = a.held(position)
        for body in bodies:
            history.status(body)
        a.add(f"status-{name}", "Status", history.take(now_ms=60_000))

    told("covers", status(stream(1, 4)), status(stream(1, 5)))
    told("other-region", status(stream(1, 9), region='"us1"'))
    told("other-placement", status(stream(1, 9, placement='"eu"')))
    told("second-stream", status(stream(1, 9, placement='"eu"'), stream(1, 9)))
    told("no-stream", status())
    told("older-epoch", status(stream(0, 9)))
    told("stands", status(stream(2, 4, closed((1, 5)))), status(stream(2, 5, closed((1, 5)))))
    told("stands-and-covered", status(stream(2, 6, closed((1, 5)))))
    told("closed-below", status(stream(2, 9, closed((1, 4)))))
    told("closed-elsewhere", status(stream(3, 9, closed((2, 7)))))
    told("closed-not-listed", status(stream(2, 9)))
    told("closed-later-below", status(stream(3, 9, closed((1, 8), (2, 4)))))
    told("closed-earlier-below", status(stream(3, 4, closed((0, 2), (1, 8), (2, 9)))))
    told("closed-of-present", status(stream(1, 4, closed((1, 2)))), status(stream(1, 5)))
    told("two-epochs-on", status(stream(3, 4, closed((1, 5), (2, 6)))), status(stream(3, 5, closed((1, 5), (2, 6)))))
    told("then-newer", status(stream(2, 4, closed((1, 5)))), status(stream(3, 4, closed((1, 5), (2, 4)))))
    told("unknown-members", status(stream(1, 5, more=',"lag_ms":3'), more=',"role":"primary"'))
    told("replicated-zero", status(stream(1, 0, durable=0)))
    told("white-space", status(stream(1, 5)).replace(",", " ,\n"))
    known = a.held().heard("eu1/open/2/1")
    a.add("status-after-newer", "Status", known.status(status(stream(2, 9, closed((1, 5))))).take())
    old = a.held("eu1/open/2/5").heard("eu1/open/2/3")
    a.add("status-is-old", "Status", old.status(status(stream(1, 9, closed((0, 9))))).status(status(stream(2, 5))))
    many = a.history().puts(3).take().answer(1, 200, position="eu1/open/1/4").answer(2, 200, position="eu1/open/1/6").answer(3, 200, position="eu1/eu/1/9")
    a.add("status-divides", "Status", many.status(status(stream(2, 4, closed((1, 5))), stream(1, 9, placement='"eu"'))).take())


def unreadable(a: Adder) -> None:
    good = stream(1, 5)
    wrong = {
        "empty": "", "array": f"[{good}]", "no-region": '{"streams":[]}', "no-streams": '{"region":"eu1"}', "region-long": status(good, region='"eu11"'),
        "region-upper": status(good, region='"EU1"'), "region-number": status(good, region="1"), "streams-object": '{"region":"eu1","streams":{}}',
        "stream-text": status('"open"'), "placement-upper": status(stream(1, 5, placement='"Open"')), "placement-empty": status(stream(1, 5, placement='""')),
        "epoch-fraction": status(stream("1.0", 5)), "epoch-text": status(stream('"1"', 5)), "epoch-negative": status(stream(-1, 5)), "seq-exponent": status(stream(1, "5e0")),
        "seq-minus-zero": status(stream(1, "-0")), "seq-too-large": status(stream(1, 2**53)), "seq-null": status(stream(1, "null")), "durable-text": status(stream(1, 5, durable='"9"')),
        "closed-number": status(stream(1, 5).replace("[]", "[1]")), "closed-object": status(stream(1, 5).replace("[]", "{}")), "closed-without-seq": status(stream(1, 5, '{"region_epoch":0}')),
        "closed-seq-negative": status(stream(1, 5, '{"region_epoch":0,"seq":-1}')), "duplicate": status(good, more=',"region":"eu1"'), "second-stream": status(good, stream(1, "true")),
        "trailing": status(good) + "x",
    }  # fmt: skip
    for name, body in wrong.items():
        a.add(f"no-status-{name}", "Status", a.held().status(body))
    for member in ("closed", "durable", "placement", "region_epoch", "replicated"):
        a.add(f"no-status-without-{member.replace('_', '-')}", "Status", a.held().status(status(good.replace(f'"{member}"', '"other"'))))
    a.add("no-status-bom", "Status", a.held().status("\ufeff" + status(good)))


def drawn(a: Adder) -> None:
    for index in range(20):
        draw = Stream(f"outbox/step-held-{index}")
        history, now, number = a.history(), 0, 0
        flying: list[int] = []
        world = sending.Sending(4, 4, replicated=True)

        def play(history: Any = history, world: sending.Sending = world) -> dict[str, Any]:
            return world.step(history.events[-1])

        def where(draw: Stream = draw, now: int = 0) -> str:
            return f"{draw.pick(('eu1', 'eu1', 'us1'))}/{draw.pick(('open', 'open', 'eu'))}/{1 + (now + draw.below(6000)) // 9000}/{draw.below(12)}"

        for _ in range(40):
            choice = draw.below(12)
            now += draw.below(1000)
            if choice < 3:
                number += 1
                history.put(number, kid=f"k{draw.below(2)}", length=100 + draw.below(900))
                play()
            elif choice < 6:
                taken = play(history.take(now, 1 + draw.below(4), "2000"))["taken"]
                flying += [int(name, 16) for name in taken]
            elif choice < 9 and flying:
                one = flying.pop(draw.below(len(flying)))
                code = draw.pick((200, 200, 200, 202, 202, 401, 409, 503, 0))
                said: dict[str, str] = {"position": where(now=now)} if draw.below(8) else {}
                said |= {"replicated": where(now=now)} if draw.below(2) else {}
                play(history.answer(one, code, now, f"{0x3fe0000000000000 + draw.below(2**51):016x}", **said))
            elif choice < 11:
                play(history.heard(where(now=now)))
            elif draw.below(2):
                epoch = 1 + now // 9000
                ends = closed(*((e, draw.below(12)) for e in range(1, epoch)))
                play(history.status(status(stream(epoch, draw.below(12), ends))))
            else:
                play(history.hurry())
        a.add(f"drawn-{index:02d}", "HeldDrawn", history.take(now + 60_000), width=4)
