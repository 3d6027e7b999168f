"""Suite `endpoint`: health and failover as whole histories."""

from __future__ import annotations

from typing import Any

from golden.oracle.emit import Flag, Stream, Suite
from golden.oracle.fleet import HALF, Fleet

FLAGS = {
    "AllDown": Flag("All down: the longest failed is taken.", ("retry 35",)),
    "Ambiguous": Flag("An ambiguous result keeps the endpoint.", ("retry 31",)),
    "Bound": Flag("Retry-After binds its sender.", ("retry 33", "retry 34")),
    "Drawn": Flag("A drawn history.", ("retry 28", "retry 34", "retry 36")),
    "Failback": Flag("The return to the first endpoint.", ("retry 40",)),
    "Health": Flag("up, suspect, down.", ("retry 28", "retry 29")),
    "Hint": Flag("Hints of 421 and 423.", ("retry 41",)),
    "Keep": Flag("Results that keep the endpoint.", ("retry 32",)),
    "Probe": Flag("Probes.", ("retry 39",)),
    "Refused": Flag("A refused result fails over at once.", ("retry 30", "retry 37")),
    "Region": Flag("Only allowed regions.", ("retry 27",)),
    "Sticky": Flag("Success is sticky.", ("retry 36",)),
}
URLS = ("https://a.example", "https://b.example", "https://c.example")


def run(args: dict[str, Any]) -> dict[str, Any]:
    fleet = Fleet.of(args["options"], args["endpoints"])
    return {"steps": [fleet.step(event) for event in args["events"]]}


class Script:
    """Write a history: time goes on by a second per event; results come from `sender`."""

    def __init__(self) -> None:
        self.events: list[dict[str, str]] = []
        self.at = 1_000_000

    def _add(self, **event: str) -> Script:
        self.at += 1000
        self.events.append({"event": event.pop("event"), "at_ms": str(self.at), **event})
        return self

    def call(self, u: str = HALF) -> Script:
        return self._add(event="call", u=u)

    def result(self, sender: int, result: str, **more: str) -> Script:
        more.setdefault("sent", "true")
        more.setdefault("u", HALF)
        return self._add(event="result", endpoint=str(sender), result=result, **more)

    def probe(self, endpoint: int, ok: bool, u: str = HALF) -> Script:
        return self._add(event="probe", endpoint=str(endpoint), ok="true" if ok else "false", u=u)

    def wait(self, ms: int) -> Script:
        self.at += ms
        return self


def suites() -> list[Suite]:
    s = Suite("endpoint/endpoint.json", "endpoint.plan", "suites/endpoint.py", FLAGS, run)

    def add(name: str, flag: str, script: Script, count: int = 2, code: str | None = None,
            regions: tuple[str | None, ...] = (), **options: Any) -> None:
        endpoints: list[dict[str, str]] = [{"url": url} for url in URLS[:count]]
        for endpoint, region in zip(endpoints, regions, strict=False):
            if region is not None:
                endpoint["region"] = region
        s.add(f"endpoint/{name}", flag, {"options": options, "endpoints": endpoints, "events": script.events}, code=code)

    single_results(add)
    downs(add)
    bounds(add)
    failbacks(add)
    hints(add)
    regions(add)
    drawn(s)
    return [s]


def single_results(add: Any) -> None:
    for name, result, sent in (
        ("connect-failed", "connect_failed", "false"), ("503", "503", "true"), ("lost-unsent", "connection_lost", "false"), ("timeout-unsent", "attempt_timeout", "false"),
    ):
        for count in (1, 2, 3):
            add(f"refused-{name}-{count}", "Refused", Script().call().result(0, result, sent=sent), count)
    for name, result in (("lost", "connection_lost"), ("timeout", "attempt_timeout"), ("500", "500"), ("502", "502"), ("504", "504"), ("501", "501")):
        add(f"ambiguous-{name}", "Ambiguous", Script().call().result(0, result).result(0, result).result(0, result).result(1, "200"))
        add(f"ambiguous-{name}-once-then-good", "Ambiguous", Script().call().result(0, result).result(0, "200").call())
    for result in ("200", "202", "400", "401", "403", "404", "408", "409", "413", "422", "425", "429"):
        add(f"keep-{result}", "Keep", Script().call().result(0, result).call())
        add(f"keep-{result}-after-failure", "Health", Script().call().result(0, "500").result(0, result))
    add("tls-failed", "Keep", Script().call().result(0, "tls_failed").call())


def downs(add: Any) -> None:
    add("down-after-three", "Health", Script().call().result(0, "500").result(0, "502").result(0, "504").result(1, "200").call())
    add("down-after-one", "Health", Script().call().result(0, "500").result(1, "200"), down_after="1")
    add("down-after-five", "Health", Script().call().result(0, "500").result(0, "500").result(0, "500").result(0, "500").result(0, "500"), down_after="5")
    add("failures-in-a-row", "Health", Script().call().result(0, "500").result(0, "500").result(0, "404").result(0, "500").result(0, "500").result(0, "500"))
    add("refused-ping-pong", "Refused", Script().call().result(0, "503").result(1, "503").result(0, "503").result(1, "503").result(0, "503").result(1, "503"))
    add("refused-round", "Refused", Script().call().result(0, "503").result(1, "503").result(2, "503").result(0, "503").result(1, "503").result(2, "503"), 3)
    add("tls-down-next-call", "Sticky", Script().call().result(0, "tls_failed").result(0, "tls_failed").result(0, "tls_failed").call())
    all_down = Script().call().result(0, "503").result(1, "503").result(0, "503").result(1, "503").result(0, "503").result(1, "503")
    add("all-down-then-calls", "AllDown", all_down.call().result(0, "503").call().result(1, "200").call())
    add("all-down-single", "AllDown", Script().call().result(0, "503").result(0, "503").result(0, "503").call().result(0, "503").call(), 1)
    add("all-down-three", "AllDown", Script().call().result(0, "503").result(1, "503").result(2, "503").result(0, "503").call(), 3, down_after="1")
    add("down-real-success", "AllDown", Script().call().result(0, "503").result(0, "200"), 1, down_after="1")
    add("sticky-after-failover", "Sticky", Script().call().result(0, "503").result(1, "200").call().result(1, "200").call())
    add("sticky-current-down-by-probe", "Sticky", Script().call().result(0, "200").probe(0, False).probe(0, False).probe(0, False).call())
    probing = Script().call().result(0, "500").result(0, "500").result(0, "500")
    add("probe-up", "Probe", probing.probe(0, True).probe(0, True).call())
    for name, oks in {"good-bad-good": (True, False, True), "good-bad-good-good": (True, False, True, True), "one": (True,), "bad": (False,)}.items():
        script = Script().call().result(0, "500").result(0, "500").result(0, "500")
        for ok in oks:
            script.probe(0, ok)
        add(f"probe-{name}", "Probe", script.call())
    add("probe-suspect-good", "Probe", Script().call().result(0, "500").probe(0, True).result(0, "500").result(0, "500"))
    add("probe-suspect-bad", "Probe", Script().call().result(0, "500").probe(0, False).probe(0, False).call())
    add("probe-up-after-one", "Probe", Script().call().result(0, "503").probe(0, True), down_after="1", up_after="1")
    add("probe-up-after-three", "Probe", Script().call().result(0, "503").probe(0, True).probe(0, True).probe(0, True), down_after="1", up_after="3")


def bounds(add: Any) -> None:
    add("bound-skipped", "Bound", Script().call().result(0, "503", retry_after_ms="30000").result(1, "503").result(1, "503"))
    add("bound-over", "Bound", Script().call().result(0, "503", retry_after_ms="1000").wait(1000).result(1, "503"))
    add("bound-ends-exactly", "Bound", Script().call().result(0, "503", retry_after_ms="1000").result(1, "503"))
    add("bound-one-left", "Bound", Script().call().result(0, "503", retry_after_ms="1001").result(1, "503"))
    add("bound-429", "Bound", Script().call().result(0, "429", retry_after_ms="5000").call().result(0, "200"))
    add("bound-500-does-not", "Bound", Script().call().result(0, "500", retry_after_ms="60000").result(0, "503").result(1, "503"))
    add("bound-third", "Bound", Script().call().result(0, "503", retry_after_ms="30000").result(1, "503").result(2, "503"), 3)
    add("bound-all-others", "Bound", Script().call().result(0, "503", retry_after_ms="30000").result(1, "503", retry_after_ms="20000").result(2, "503"), 3)
    add("bound-sender-down", "Bound", Script().call().result(0, "503", retry_after_ms="90000").result(1, "503", retry_after_ms="60000").result(2, "503").result(2, "503").result(2, "503"), 3)


def failbacks(add: Any) -> None:
    def away() -> Script:
        return Script().call().result(0, "503", u=HALF).result(1, "200")

    good = away().probe(0, True).probe(0, True)
    # It was left at 1,002,000 with u = 0.5, so the return is due at 1,602,000.
    add("failback-due", "Failback", good.wait(1_602_000 - good.at - 1000).call().result(0, "200"))
    early = away().probe(0, True).probe(0, True)
    add("failback-not-yet", "Failback", early.wait(1_601_999 - early.at - 1000).call())
    late = away().probe(0, True).probe(0, True)
    add("failback-late", "Failback", late.wait(2_000_000).call())
    add("failback-one-probe", "Failback", away().probe(0, True).wait(700_000).call())
    add("failback-no-probe", "Failback", away().wait(700_000).call())
    add("failback-bad-last", "Failback", away().probe(0, True).probe(0, True).probe(0, False).wait(700_000).call())
    add("failback-none", "Failback", away().probe(0, True).probe(0, True).wait(9_000_000).call(), failback_after_ms="none")
    for name, u, due in (("u-zero", "0" * 16, 300_000), ("u-quarter", "3fd0000000000000", 450_000)):
        for step, when in ((-1, "before"), (0, "at")):
            script = Script().call().result(0, "503", u=u).result(1, "200").probe(0, True).probe(0, True)
            script.at = 1_002_000 + due + step - 1000
            add(f"failback-{name}-{when}", "Failback", script.call())
    add("failback-up-after-one", "Failback", away().probe(0, True).wait(700_000).call(), up_after="1")
    add("failback-then-fails", "Failback", away().probe(0, True).probe(0, True).wait(700_000).call().result(0, "503").call())
    add("failback-from-third", "Failback", Script().call().result(0, "503").result(1, "503").result(2, "200").probe(0, True).probe(0, True).wait(700_000).call(), 3)
    add("failback-short", "Failback", away().probe(0, True).probe(0, True).wait(100_000).call(), failback_after_ms="100000")


def hints(add: Any) -> None:
    b = {"hint": URLS[1], "hint_epoch": "5"}
    for status in ("421", "423"):
        add(f"hint-{status}", "Hint", Script().call().result(0, status, **b).result(1, "200").call())
    add("hint-unknown-host", "Hint", Script().call().result(0, "421", hint="https://evil.example", hint_epoch="5"))
    add("hint-itself", "Hint", Script().call().result(0, "421", hint=URLS[0], hint_epoch="5"))
    add("hint-none", "Hint", Script().call().result(0, "421").call())
    add("hint-stale", "Hint", Script().call().result(0, "421", **b).result(1, "421", hint=URLS[0], hint_epoch="4"))
    add("hint-same-epoch", "Hint", Script().call().result(0, "421", **b).result(1, "421", hint=URLS[0], hint_epoch="5"))
    add("hint-hops", "Hint", Script().call().result(0, "421", **b).result(1, "421", hint=URLS[0], hint_epoch="6").result(0, "421", hint=URLS[1], hint_epoch="7").result(1, "421", hint=URLS[0], hint_epoch="8"))
    home = {"hint": URLS[0], "hint_epoch": "5"}
    add("hint-to-down-home", "Hint", Script().call().result(0, "503").probe(0, True).call().result(1, "421", **home).call().probe(0, True).call(), down_after="1")
    add("hint-to-down-home-again", "Hint", Script().call().result(0, "503").call().result(1, "421", **home).call().probe(0, True).call().result(1, "421", **home).call().result(1, "421", **home).call().probe(0, True).call(), down_after="1")
    add("hint-hops-new-call", "Hint", Script().call().result(0, "421", **b).call().result(1, "421", hint=URLS[0], hint_epoch="6"), redirect_hops="1")
    add("hint-hops-zero", "Hint", Script().call().result(0, "421", **b), redirect_hops="0")
    add("hint-on-503", "Hint", Script().call().result(0, "503", hint=URLS[2], hint_epoch="5"), 3)
    add("hint-region", "Hint", Script().call().result(0, "421", **b), 2, None, ("eu1", "us1"), allowed_regions=["eu1"])


def regions(add: Any) -> None:
    add("region-skips", "Region", Script().call().result(0, "503").result(2, "503").result(0, "503"), 3, None, ("eu1", "us1", "eu2"), allowed_regions=["eu1", "eu2"])
    add("region-first-not-allowed", "Region", Script().call().result(1, "503"), 3, None, ("us1", "eu1", "eu2"), allowed_regions=["eu1", "eu2"])
    add("region-none-named", "Region", Script().call(), 2, None, (None, "eu1"), allowed_regions=["eu1"])
    add("region-only-one", "Region", Script().call().result(0, "503").result(0, "503").result(0, "503").call(), 3, None, ("eu1", "us1", None), allowed_regions=["eu1"])
    add("region-no-eligible", "Region", Script().call(), 2, "config_invalid", ("eu1", "us1"), allowed_regions=["ap1"])
    add("region-unnamed-not-eligible", "Region", Script().call(), 2, "config_invalid", (None, None), allowed_regions=["eu1"])
    add("region-empty-list", "Region", Script().call(), 2, "config_invalid", ("eu1", "us1"), allowed_regions=[])


def drawn(s: Suite) -> None:
    """Draw histories in which every result comes from the current endpoint."""
    draw = Stream("endpoint/drawn")
    results = ("200", "200", "429", "503", "503", "500", "504", "connect_failed", "connection_lost", "attempt_timeout", "404")
    for i in range(40):
        count = 2 + i % 2
        args: dict[str, Any] = {"options": {}, "endpoints": [{"url": u} for u in URLS[:count]], "events": []}
        fleet, script = Fleet.of({}, args["endpoints"]), Script()
        for _ in range(18):
            kind = draw.below(8)
            script.wait(draw.below(200) * 1000)
            if kind == 0:
                script.call()
            elif kind == 1:
                script.probe(draw.below(count), draw.below(3) > 0)
            else:
                more = {"retry_after_ms": str(draw.below(300) * 1000)} if draw.below(4) == 0 else {}
                script.result(fleet.current, draw.pick(results), sent=draw.pick(("true", "false")), **more)
            fleet.step(script.events[-1])
        s.add(f"endpoint/drawn-{i:02d}", "Drawn", {**args, "events": script.events})
