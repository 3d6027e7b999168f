"""Suite `submit-batch`: each line is answered as a single submit of it would be."""

from __future__ import annotations

from typing import Any

from golden.oracle import server
from golden.oracle.base import TENANT, record
from golden.oracle.emit import Flag, Suite
from golden.oracle.suites import verify as keys
from golden.oracle.suites.submit import SQUARE, TENANTS, members_of

FLAGS = {
    "Apart": Flag("One bad line spoils no other.", ("formats 8.2",)),
    "Lines": Flag("How lines are told apart, and how many.", ("formats 8.1", "formats 8.3")),
    "Media": Flag("Media type and encoding of the whole.", ("formats 8.1", "formats 9.3")),
    "Order": Flag("Answers in the order of the lines.", ("formats 8.2",)),
    "Same": Flag("An id that comes twice.", ("formats 8.2", "formats 9.1")),
    "Tenant": Flag("All lines are of one tenant.", ("formats 8.4",)),
}
NDJSON = [["Content-Type", "application/x-ndjson"]]
FIRST_EPOCH = 500_000


class Lines:
    """Sign records whose epochs no other case uses."""

    def __init__(self) -> None:
        self.epoch = FIRST_EPOCH

    def members(self, **changes: str) -> dict[str, str]:
        self.epoch += 1
        return {**members_of(self.epoch, *SQUARE, 2, 500_000_000, 500_000_000)[0], **changes}

    def good(self, kid: str = "k1", sig_v: int = 2, **changes: str) -> bytes:
        return self.signed(self.members(**changes), kid, sig_v)

    def signed(self, members: dict[str, str], kid: str = "k1", sig_v: int = 2, **how: Any) -> bytes:
        how.setdefault("tenant", "tenant-b" if kid == "k3" else TENANT)
        return record(keys.signed(kid, members, sig_v, **how))


def suites() -> list[Suite]:
    # Two files, because lines at the limits are long.
    limits, rest = (
        Suite(f"submit-batch/{name}.json", "http.batch", "suites/batch.py", {f: FLAGS[f] for f in FLAGS if (f == "Lines") == (name == "limits")}, server.batch)
        for name in ("limits", "batch")
    )

    def add(name: str, flag: str, lines: list[bytes], headers: list[list[str]] = NDJSON, code: str | None = None, end: bytes = b"\n") -> None:
        body = b"\n".join(lines) + (end if lines else b"")
        (limits if flag == "Lines" else rest).add(f"submitbatch/{name}", flag, {"headers": headers, "body": body.hex(), "tenants": TENANTS}, code=code)

    make = Lines()
    shapes(add, make)
    apart(add, make)
    again(add, make)
    tenants(add, make)
    media(add, make)
    return [limits, rest]


def shapes(add: Any, make: Lines) -> None:
    for count in (1, 2, 3, 10, 33):
        add(f"good-{count}", "Order", [make.good() for _ in range(count)])
    add("none", "Lines", [])
    add("last-lf-absent", "Lines", [make.good(), make.good()], end=b"")
    add("last-lf-twice", "Lines", [make.good()], end=b"\n\n")
    add("empty-between", "Lines", [make.good(), b"", make.good()])
    add("empty-first", "Lines", [b"", make.good()])
    add("cr-lf", "Lines", [make.good() + b"\r", make.good() + b"\r"])
    add("spaces-around", "Lines", [b"  " + make.good() + b"\t"])
    add("one-too-many", "Lines", [b""] * 1001)
    add("a-thousand", "Lines", [b""] * 1000)
    add("more-than-one-too-many", "Lines", [b""] * 1003)
    add("line-too-long", "Lines", [make.good(), b" " * 65_537, make.good()])
    full = make.good()
    add("line-at-the-limit", "Lines", [full + b" " * (65_536 - len(full)), make.good()])
    add("all-keys", "Order", [make.good(kid) for kid in ("k1", "k2", "k4")])
    add("both-versions", "Order", [make.good(sig_v=1), make.good(sig_v=2)], [*NDJSON, ["X-Tenant-Id", TENANT]])
    add("escalated-between", "Order", [make.good(), make.good(D_hat="2.5"), make.good(budget="0.9"), make.good()])


def apart(add: Any, make: Lines) -> None:
    def beside(name: str, bad: bytes) -> None:
        add(f"beside-{name}", "Apart", [make.good(), bad, make.good()])

    good = make.good()
    beside("cut", good[:-1])
    beside("array", b"[" + good + b"]")
    beside("duplicate-member", good[:-1] + b',"r":0.5}')
    beside("depth", record(make.members(), ft="[" * 40 + "]" * 40))
    beside("surrogate", record(make.members(shard_id='"\\ud800"')))
    beside("unknown-member", record(keys.signed("k1", make.members(), 2), extra="1"))
    beside("missing-member", record(keys.signed("k1", make.members(), 2), ft=None))
    beside("other-id", make.signed({**make.members(), "pcs_id": '"' + "ab" * 32 + '"'}))
    beside("out-of-range", record(keys.signed("k1", make.members(), 2), r="1.5"))
    beside("unknown-key", record({**keys.signed("k1", make.members(), 2), "kid": '"k9"'}))
    beside("revoked-key", make.good("k5"))
    forged = keys.signed("k1", make.members(), 2)
    beside("forged", record(forged, sig=f'"{keys.flip(forged, 3)}"'))
    beside("no-signature", record(make.members()))
    beside("invalid-utf-8", good.replace(b"shard-001", b"shard-\xff1"))
    add("all-bad", "Apart", [b"{}", b"[]", b"x", b'{"a":1,"a":1}'])


def again(add: Any, make: Lines) -> None:
    one = make.members()
    add("twice", "Same", [make.signed(one)] * 2)
    add("twice-apart", "Same", [make.signed(m := make.members()), make.good(), make.signed(m)])
    two = make.members()
    add("other-content", "Same", [make.signed(two), make.signed({**two, "seed": "1"}), make.signed(two)])
    three = make.members()
    add("other-delivery", "Same", [make.signed(three), make.signed({**three, "attempt": "2"})])
    four = make.members()
    add("other-key", "Same", [make.signed(four), make.signed(four, "k2")])
    five = make.members()
    forged = keys.signed("k1", five, 2)
    add("forged-first", "Same", [record(forged, sig=f'"{keys.flip(forged, 5)}"'), make.signed(five)])


def tenants(add: Any, make: Lines) -> None:
    add("other-tenant-second", "Tenant", [make.good(), make.good("k3"), make.good()])
    add("other-tenant-alone", "Tenant", [make.good("k3"), make.good("k3")])
    forged = keys.signed("k3", make.members(), 2, tenant="tenant-b")
    add("forged-does-not-choose", "Tenant", [record(forged, sig=f'"{keys.flip(forged, 2)}"'), make.good()])
    add("header-of-other", "Tenant", [make.good(), make.good()], [*NDJSON, ["X-Tenant-Id", "tenant-b"]])
    add("header-agrees", "Tenant", [make.good(), make.good()], [*NDJSON, ["X-Tenant-Id", TENANT]])


def media(add: Any, make: Lines) -> None:
    for name, value in {"json": "application/json", "text": "text/plain", "none": ""}.items():
        add(f"media-{name}", "Media", [make.good()], [["Content-Type", value]] if value else [], "unsupported_media_type")
    add("media-gzip", "Media", [make.good()], [*NDJSON, ["Content-Encoding", "gzip"]], "unsupported_media_type")
