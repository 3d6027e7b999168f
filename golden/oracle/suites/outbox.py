"""Suite `outbox`: directory images after a crash, and the two checksums."""

from __future__ import annotations

from functools import partial
from typing import Any

from golden.oracle import recovery
from golden.oracle.crc import crc
from golden.oracle.emit import Flag, Stream, Suite

FLAGS = {
    "Corrupt": Flag("Damage that is no torn tail.", ("formats 11.8",)),
    "Dead": Flag("Dead letters.", ("formats 11.6",)),
    "Frame": Flag("What a frame is.", ("formats 11.2", "formats 11.3", "formats 11.4", "formats 11.20")),
    "Held": Flag("Which entries are held, and at which position.", ("formats 11.22", "formats 11.23")),
    "Ids": Flag("Ids never repeat.", ("formats 11.9", "formats 11.21")),
    "Names": Flag("Names and order of files.", ("formats 11.1", "formats 11.13")),
    "State": Flag("Which entries are live.", ("formats 11.5",)),
    "Torn": Flag("A torn tail is cut.", ("formats 11.7",)),
}
SUM_FLAGS = {"Checksum": Flag("The outbox has CRC-32, the log CRC32C.", ("formats 7.10", "formats 11.2"))}
FIRST = "outbox-0000000000000001.log"
SECOND = "outbox-0000000000000003.log"
DEAD = "dead.log"


def framed(text: bytes) -> bytes:
    return len(text).to_bytes(4, "big") + crc("crc32", text).to_bytes(4, "big") + text


def name(number: int) -> str:
    return f"{number:016x}"


def put_text(number: int, body: str = '{\\"x\\":1}', **more: str) -> bytes:
    members = {"pcs_id": '"' + f"{number:02x}" * 32 + '"', "key": '"' + "cd" * 32 + '"', "kid": '"k1"', "tenant": '"tenant-a"', "at": "1768478400000", "body": f'"{body}"', **more}
    rest = "".join(f',"{k}":{v}' for k, v in members.items() if v != "")
    return f'{{"t":"put","id":"{name(number)}"{rest}}}'.encode()


def put(number: int, **more: str) -> bytes:
    return framed(put_text(number, **more))


def mark(kind: str, number: int) -> bytes:
    return framed(f'{{"t":"{kind}","id":"{name(number)}"}}'.encode())


def hold(number: int, position: str = '"eu1/open/1/5"') -> bytes:
    return framed(f'{{"t":"hold","id":"{name(number)}","position":{position}}}'.encode())


def letter(number: int, **more: str) -> bytes:
    members = {"put": put_text(number).decode(), "code": '"pcs_id_conflict"', "reason": '"refused"', "response": '"{}"', "status": '"409"', **more}
    rest = "".join(f',"{k}":{v}' for k, v in members.items() if v != "")
    return framed(f'{{"t":"dead","id":"{name(number)}"{rest}}}'.encode())


def suites() -> list[Suite]:
    s = Suite("outbox/recover.json", "outbox.recover", "suites/outbox.py", FLAGS, recovery.recover)

    def add(case: str, flag: str, **files: bytes) -> None:
        names = {"first": FIRST, "second": SECOND, "dead": DEAD}
        s.add(f"outbox/{case}", flag, {"files": {names.get(k, k): v.hex() for k, v in files.items()}})

    states(add)
    torn(add)
    corrupt(add)
    frames(add)
    dead(add)
    holds(add)
    s.add("outbox/names-others", "Names", {"files": {FIRST: put(1).hex(), "outbox.lock": b"{}".hex(), "outbox-1.log": put(9).hex(), "outbox-000000000000000A.log": put(9).hex(),
                                                    "outbox-0000000000000002.log.corrupt": put(8).hex(), "dead.tmp": letter(1).hex()}})
    s.add("outbox/names-none", "Names", {"files": {}})
    s.add("outbox/names-order", "Names", {"files": {SECOND: (put(3) + mark("ack", 1)).hex(), FIRST: (put(1) + put(2)).hex()}})
    s.add("outbox/names-hex-order", "Names", {"files": {"outbox-0000000000000010.log": mark("ack", 10).hex(), "outbox-000000000000000a.log": put(10).hex()}})
    s.add("outbox/ids-from-name", "Ids", {"files": {"outbox-00000000000000ff.log": ""}})
    s.add("outbox/ids-from-ack", "Ids", {"files": {FIRST: (put(1) + mark("ack", 77)).hex()}})
    s.add("outbox/ids-from-dead", "Ids", {"files": {FIRST: put(1).hex(), DEAD: letter(500).hex()}})
    s.add("outbox/ids-large", "Ids", {"files": {FIRST: put(2**53 + 1).hex()}})
    s.add("outbox/ids-last", "Ids", {"files": {FIRST: put(2**64 - 1).hex()}})
    s.add("outbox/ids-last-but-one", "Ids", {"files": {FIRST: put(2**64 - 2).hex()}})
    s.add("outbox/ids-last-from-name", "Ids", {"files": {"outbox-ffffffffffffffff.log": ""}})
    s.add("outbox/ids-last-from-dead", "Ids", {"files": {FIRST: put(1).hex(), DEAD: letter(2**64 - 1).hex()}})
    sums = []
    for kind, folder in (("crc32", "outbox"), ("crc32c", "server")):
        sums.append(Suite(f"{folder}/{kind}.json", f"checksum.{kind}", "suites/outbox.py", SUM_FLAGS, partial(checksum, kind)))
        for case, data in {"check": b"123456789", "empty": b"", "zero": b"\0", "zeros": bytes(32), "ones": b"\xff" * 32, "ramp": bytes(range(256)), "text": b"put"}.items():
            sums[-1].add(f"outbox/{kind}-{case}", "Checksum", {"bytes": data.hex()})
    return [s, *sums]


def checksum(kind: str, args: dict[str, Any]) -> dict[str, str]:
    return {"value": f"{crc(kind, bytes.fromhex(args['bytes'])):08x}"}


def states(add: Any) -> None:
    add("empty-file", "State", first=b"")
    add("one", "State", first=put(1))
    add("three", "State", first=put(1) + put(2) + put(3))
    for kind in recovery.TYPES[1:]:
        add(f"{kind}-leaves-others", "State", first=put(1) + put(2) + mark(kind, 1))
        add(f"{kind}-in-later-file", "State", first=put(1) + put(2), second=mark(kind, 2) + put(3))
        add(f"{kind}-unknown-id", "State", first=put(1) + mark(kind, 9))
        add(f"{kind}-before-put", "State", first=mark(kind, 1) + put(1))
    add("sent-then-ack", "State", first=put(1) + mark("sent", 1) + mark("sent", 1) + mark("ack", 1))
    add("hold-then-release", "State", first=put(1) + mark("hold", 1) + mark("release", 1))
    add("all-acknowledged", "State", first=put(1) + put(2) + mark("ack", 2) + mark("ack", 1))
    add("ack-twice", "State", first=put(1) + mark("ack", 1) + mark("ack", 1))
    add("resigned", "State", first=put(1) + put(2, kid='"k2"') + mark("release", 1))
    add("requeued", "State", first=put(1) + mark("dead", 1) + put(2, **{"from": f'"{name(1)}"'}))


def holds(add: Any) -> None:
    add("held", "Held", first=put(1) + hold(1))
    add("held-one-of-two", "Held", first=put(1) + put(2) + hold(2))
    add("held-in-later-file", "Held", first=put(1) + put(2), second=hold(1) + put(3))
    add("held-before-put", "Held", first=hold(1) + put(1))
    add("held-unknown-id", "Held", first=put(1) + hold(9))
    add("held-then-ack", "Held", first=put(1) + hold(1) + mark("ack", 1))
    add("held-then-release", "Held", first=put(1) + hold(1) + mark("release", 1))
    add("held-then-dead", "Held", first=put(1) + hold(1) + mark("dead", 1))
    add("held-then-sent", "Held", first=put(1) + hold(1) + mark("sent", 1))
    add("held-twice", "Held", first=put(1) + hold(1) + hold(1, '"eu1/open/2/5"'))
    add("held-twice-back", "Held", first=put(1) + hold(1, '"eu1/open/2/5"') + hold(1))
    add("held-copied", "Held", first=put(1) + put(2) + hold(1), second=put(1) + put(3))
    add("held-copied-with-hold", "Held", first=put(1) + put(2) + hold(1), second=put(1) + hold(1, '"us1/open/3/9"') + put(3))
    add("held-after-ack", "Held", first=put(1) + hold(1) + mark("ack", 1) + put(1))
    add("held-and-dead-letter", "Held", first=put(1) + hold(1), dead=letter(1))
    add("held-torn", "Held", first=put(1) + hold(1)[:-1])
    add("held-corrupt", "Held", first=put(1) + flip(hold(1), 30) + put(2))
    add("held-more-members", "Held", first=put(1) + framed(f'{{"t":"hold","id":"{name(1)}","position":"eu1/open/1/5","level":"durable"}}'.encode()))
    add("held-zero", "Held", first=put(1) + hold(1, '"loc/open/0/0"'))
    add("held-large", "Held", first=put(1) + hold(1, '"us2/eu-only/4294967295/9007199254740991"'))
    for index, position in enumerate(('""', "5", "null", "true", '"eu1/open/1"', '"eu1/open/1/05"', '"EU1/open/1/5"', '"eu1/open/1/5 "', '["eu1/open/1/5"]')):
        add(f"held-nowhere-{index}", "Held", first=put(1) + hold(1, position) + put(2))
    add("held-then-nowhere", "Held", first=put(1) + hold(1) + hold(1, '"eu1/open/1"'))
    add("held-then-bare", "Held", first=put(1) + hold(1) + mark("hold", 1))


def torn(add: Any) -> None:
    whole = put(1) + put(2)
    for at in (1, 3, 4, 7, 8, 9, 20, len(put(2)) // 2, len(put(2)) - 1):
        add(f"torn-at-{at}", "Torn", first=put(1) + put(2)[:at])
        add(f"torn-second-at-{at}", "Torn", first=whole, second=put(3)[:at])
        add(f"torn-older-at-{at}", "Corrupt", first=put(1) + put(2)[:at], second=put(3))
    add("torn-first-frame", "Torn", first=put(1)[:30])
    add("torn-zeros", "Torn", first=put(1) + bytes(40))
    add("torn-ones", "Torn", first=put(1) + b"\xff" * 40)
    add("torn-ack", "Torn", first=put(1) + mark("ack", 1)[:-1])
    add("torn-crc-of-last", "Torn", first=put(1) + flip(put(2), 5))
    add("torn-body-of-last", "Torn", first=put(1) + flip(put(2), 60))
    add("torn-length-huge", "Torn", first=put(1) + (2**20 + 1).to_bytes(4, "big") + put(2)[4:])


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def corrupt(add: Any) -> None:
    three = (put(1), put(2), put(3))
    for at in (0, 3, 4, 7, 8, 20, 80):
        add(f"corrupt-first-at-{at}", "Corrupt", first=flip(three[0], at) + three[1] + three[2])
        add(f"corrupt-middle-at-{at}", "Corrupt", first=three[0] + flip(three[1], at) + three[2])
    add("corrupt-two-runs", "Corrupt", first=flip(three[0], 20) + three[1] + flip(three[2], 20) + put(4))
    add("corrupt-and-torn", "Corrupt", first=flip(three[0], 20) + three[1] + three[2][:30])
    add("corrupt-older-file", "Corrupt", first=flip(three[0], 20) + three[1], second=three[2])
    add("corrupt-both-files", "Corrupt", first=flip(three[0], 20) + three[1], second=flip(three[2], 20) + put(4))
    add("corrupt-ack-is-lost", "Corrupt", first=put(1) + flip(mark("ack", 1), 12) + put(2))
    add("corrupt-inserted-byte", "Corrupt", first=three[0] + b"x" + three[1])
    add("corrupt-removed-byte", "Corrupt", first=three[0] + three[1][:50] + three[1][51:] + three[2])
    add("corrupt-zeros-between", "Corrupt", first=three[0] + bytes(512) + three[1])
    add("corrupt-garbage-only-older", "Corrupt", first=b"garbage", second=three[2])
    draw = Stream("outbox/corrupt")
    for i in range(20):
        data = put(1) + mark("sent", 1) + put(2) + mark("ack", 1) + put(3)
        at = draw.below(len(data))
        add(f"corrupt-drawn-{i:02d}", "Corrupt", first=flip(data, at))
        add(f"cut-drawn-{i:02d}", "Torn", first=data[:at])


def frames(add: Any) -> None:
    def bad(case: str, text: bytes) -> None:
        add(f"frame-{case}", "Frame", first=put(1) + framed(text) + put(2))

    bad("unknown-type", b'{"t":"nack","id":"0000000000000001"}')
    bad("no-id", b'{"t":"ack"}')
    bad("id-number", b'{"t":"ack","id":1}')
    bad("id-upper", b'{"t":"ack","id":"000000000000000A"}')
    bad("id-short", b'{"t":"ack","id":"1"}')
    bad("array", b'["ack"]')
    bad("not-json", b'{"t":"ack","id":"0000000000000001"')
    bad("invalid-utf8", b'{"t":"ack","id":"0000000000000001","x":"\xff"}')
    bad("type-second", b'{"id":"0000000000000001","t":"ack"}')
    bad("space-before-type", b'{ "t":"ack","id":"0000000000000001"}')
    bad("name-twice", b'{"t":"ack","id":"0000000000000009","id":"0000000000000001"}')
    bad("name-twice-escaped", b'{"t":"ack","id":"0000000000000001","\\u0069d":"0000000000000001"}')
    bad("name-twice-inside", b'{"t":"ack","id":"0000000000000001","x":{"a":1,"a":2}}')
    bad("nan", b'{"t":"ack","id":"0000000000000001","x":NaN}')
    bad("infinity", b'{"t":"ack","id":"0000000000000001","x":-Infinity}')
    bad("too-deep", b'{"t":"ack","id":"0000000000000001","x":' + b"[" * 32 + b"]" * 32 + b"}")
    bad("lone-surrogate", b'{"t":"ack","id":"0000000000000001","x":"\\ud800"}')
    bad("put-body-lone-surrogate", put_text(5, body="\\udc00"))
    bad("put-name-twice", put_text(5, body='","body":"'))
    for case, at in {"2-53": str(2**53), "minus-2-53": str(-(2**53)), "huge": "9" * 30, "exponent": "1e3", "minus-zero": "-0"}.items():
        bad(f"put-at-{case}", put_text(5, at=at))
    for case, at in {"largest": str(2**53 - 1), "smallest": str(1 - 2**53), "zero": "0"}.items():
        add(f"frame-put-at-{case}", "Frame", first=put(1, at=at))
    for member in ("pcs_id", "key", "body", "at"):
        bad(f"put-without-{member.replace('_', '-')}", put_text(5, **{member: ""}))
    bad("put-body-object", put_text(5).replace(b'"body":"{\\"x\\":1}"', b'"body":{"x":1}'))
    bad("put-at-text", put_text(5, at='"1"'))
    bad("put-at-fraction", put_text(5, at="1.5"))
    bad("put-kid-number", put_text(5, kid="1"))
    bad("put-tenant-number", put_text(5, tenant="1"))
    for member in ("kid", "tenant", "from"):
        bad(f"put-{member}-null", put_text(5, **{member: "null"}))
    for case, more in {"without-kid": {"kid": ""}, "without-tenant": {"tenant": ""}, "more-members": {"note": '"x"'}, "from": {"from": f'"{name(1)}"'}}.items():
        add(f"frame-put-{case}", "Frame", first=put(1, **more))
    for case, body in {"utf8": "\u00e9\U0001f600", "escapes": '\\u00e9\\n\\"\\\\', "empty": "", "nul": "\\u0000", "looks-like-a-frame": '{\\"t\\":\\"put\\"}'}.items():
        add(f"frame-body-{case}", "Frame", first=framed(put_text(1, body=body)))
    add("frame-zero-length", "Frame", first=put(1) + bytes(8) + put(2))


def dead(add: Any) -> None:
    add("dead-one", "Dead", first=put(1) + put(2) + mark("dead", 1), dead=letter(1))
    add("dead-before-log", "Dead", first=put(1) + put(2), dead=letter(1))
    add("dead-released", "Dead", first=put(2), dead=letter(1) + mark("release", 1))
    add("dead-one-of-two-released", "Dead", first=put(1) + put(2), dead=letter(1) + letter(2) + mark("release", 1))
    add("dead-again", "Dead", first=put(2), dead=letter(1) + mark("release", 1) + letter(1))
    add("dead-without-status", "Dead", first=put(2), dead=letter(1, status="", code='"outbox_expired"'))
    add("dead-torn", "Torn", first=put(2), dead=letter(1) + letter(3)[:40])
    add("dead-corrupt", "Corrupt", first=put(2), dead=flip(letter(1), 40) + letter(3))
    add("dead-and-log-corrupt", "Corrupt", first=flip(put(1), 20) + put(2), dead=flip(letter(3), 40) + letter(4))
    add("dead-only", "Dead", dead=letter(1) + letter(2))
    add("dead-status-number", "Dead", first=put(2), dead=letter(1, status="409") + letter(3))
    add("dead-without-put", "Dead", first=put(2), dead=letter(1, put="") + letter(3))
    add("dead-put-at-2-53", "Dead", first=put(2), dead=letter(1, put=put_text(1, at=str(2**53)).decode()) + letter(3))
    add("dead-response-lone-surrogate", "Dead", first=put(2), dead=letter(1, response='"\\ud800"') + letter(3))
    add("dead-bad-put", "Dead", first=put(2), dead=letter(1, put='{"t":"put"}') + letter(3))
    add("dead-release-unknown", "Dead", first=put(2), dead=mark("release", 9))
    add("dead-ack-in-dead-log", "Dead", first=put(2), dead=letter(1) + mark("ack", 1))
