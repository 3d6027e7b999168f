"""Suite `id`: pcs_id and content digest."""

from __future__ import annotations

from typing import Any

from golden.oracle import canon, sign
from golden.oracle.base import BASE, FULL, LONG_KEY, TENANT, record
from golden.oracle.emit import Flag, Stream, Suite
from golden.oracle.scanner import parse

FLAGS = {
    "Content": Flag("What belongs to the content.", ("canonical 5.1",)),
    "Delivery": Flag("What does not: delivery and signature.", ("canonical 5.1", "canonical 5.2")),
    "Derived": Flag("The pcs_id is derived.", ("canonical 5.5",)),
    "Rounded": Flag("The four floats are rounded.", ("canonical 5.1",)),
}


def run(args: dict[str, Any]) -> dict[str, Any]:
    members = parse(bytes.fromhex(args["json"]))
    eight = canon.signed(members)
    return {"pcs_id": canon.derive_pcs_id(eight.merkle_root, eight.epoch, eight.shard_id),
            "content": canon.content_digest(members, eight.nanos)}


def suites() -> list[Suite]:
    s = Suite("id/id.json", "id.derive", "suites/id.py", FLAGS, run)
    same: set[str] = set()

    def add(name: str, flag: str, data: bytes, equal: bool = False) -> None:
        args = {"json": data.hex()}
        s.add(f"id/{name}", flag, args)
        if equal:
            same.add(s.cases[f"id/{name}"].expect["content"])

    add("base", "Derived", record(BASE))
    add("full", "Content", record(FULL), True)
    for epoch in (0, 1, 10, 255, 2**31, 2**32, 2**53 - 1):
        add(f"epoch-{epoch}", "Derived", record(FULL, epoch=str(epoch)))
    for name, text in {"pipe": "a|b", "pipe-first": "|", "digits": "7", "utf8": "\u00e9\u65e5\U0001f600", "nul": "a\\u0000b", "nfd": "e\u0301",
                       "nfc": "\u00e9", "escaped": "\\u0073hard-001", "quote": '\\"', "newline": "\\n", "long": "x" * 256, "upper": "SHARD-001",
                       "space": " shard-001 ", "bom": "\ufeffs", "equals": "1|shard"}.items():
        add(f"shard-{name}", "Derived", record(FULL, shard_id=f'"{text}"'))
    for text in ("0" * 64, "f" * 64, "0123456789abcdef" * 4):
        add(f"root-{text[:2]}", "Derived", record(FULL, merkle_root=f'"{text}"'))
    delivery: dict[str, dict[str, str | None]] = {
        "attempt": {"attempt": "9"}, "sent-at": {"sent_at": '"2027-02-03T04:05:06.7Z"'}, "sig": {"sig": '"AAAA"'}, "kid": {"kid": '"k1"'},
        "alg": {"alg": '"HMAC"'}, "sig-v": {"sig_v": "2"}, "tenant": {"tenant_id": '"t"'},
        "ft": {"ft": '{"outbox_seq":5,"degraded":true,"fallbacks":["x"],"clock_skew_ms":-1}'}, "no-ft": {"ft": None}, "no-attempt": {"attempt": None},
    }
    for name, members in delivery.items():
        add(f"delivery-{name}", "Delivery", record(FULL, **members), True)
    add("delivery-order", "Delivery", record(dict(reversed(list(FULL.items())))), True)
    add("delivery-spelling", "Delivery", record(FULL, D_hat="2.0", r="5e-1", v_star="[6e-1,0.80]"), True)
    for name, (alg, key, kid, sig_v) in {"v1": ("HMAC", LONG_KEY, None, 1), "v1-kid": ("HMAC", LONG_KEY, "k1", 1), "v2-kid-a": ("HMAC", LONG_KEY, "ka", 2),
                                         "v2-kid-b": ("HMAC", bytes(32), "kb", 2), "v2-ed25519": ("Ed25519", LONG_KEY, "kc", 2)}.items():
        _, sent = sign.sign(parse(record(FULL)), alg, key, kid, sig_v, TENANT if sig_v == 2 else None)
        add(f"signed-{name}", "Delivery", sent, True)
    tails = {"r-tail": {"r": "0.50000000001"}, "d-hat-tail": {"D_hat": "2.0000000004"}, "coh-tie": {"coh_star": "0.50000000049"}}
    for name, changed in tails.items():
        add(f"rounded-{name}", "Rounded", record(FULL, **changed), True)
    if len(same) != 1:
        raise AssertionError("re-signed and re-sent records must keep one content")
    changes = {"schema": '"x"', "version": '"0.2"', "seed": "1", "scales": "[2,4,8]", "n-j": '{"2":4}', "v-star": "[0.8,0.6]", "regime": '"sticky"',
               "r": "0.500000001", "d-hat": "2.000000001", "coh-star": "0.500000001", "budget": "0.350000001", "pcs-id": '"' + "0" * 64 + '"'}
    names = {"n-j": "N_j", "d-hat": "D_hat"}
    for slug, text in changes.items():
        add(f"content-{slug}", "Content", record(FULL, **{names.get(slug, slug.replace("-", "_")): text}))
    add("content-extra", "Content", record(FULL, x="1"))
    contents = [s.cases[i].expect["content"] for i in s.cases if i.startswith("id/content-")]
    if len(set(contents)) != len(contents) or same & set(contents):
        raise AssertionError("another content needs another digest")
    draw = Stream("id/drawn")
    for i in range(12):
        add(f"drawn-{i}", "Derived", record(FULL, epoch=str(draw.below(2**53)), shard_id=f'"s-{draw.below(10**6)}"', r=f"0.{draw.below(10**10):010d}"))
    return [s]
