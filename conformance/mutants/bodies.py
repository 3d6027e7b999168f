"""Family E: other rules for version 2 (spec/canonical.md 4).

Their ids are those that the vectors `sig2/verify-rule-...` name: each forged record there was
signed by one of these rules.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Final

from fractal_lba import canonical
from fractal_lba.canonical import NOT_CONTENT, Canonical, jcs

from .patching import Patch, mutation
from .structure import NAMES, repayload, texts_of, written

Members = dict[str, Any]

SIGNED: Final = frozenset(NAMES) - {"body", "sig_v"}


def payloads(id: str, change: Callable[[bytes], bytes]) -> None:
    """Register a mutant that signs another payload in version 2."""

    @mutation(id)
    def apply(patch: Patch) -> None:
        repayload(patch, lambda payload, sig_v: change(payload) if sig_v == 2 else payload)


def bodies(id: str, body: Callable[[Canonical], str]) -> None:
    """Register a mutant that derives the member `body` in another way."""

    @mutation(id)
    def apply(patch: Patch) -> None:
        patch.set(Canonical, "body", property(body))


def hashed(members: Members) -> str:
    return sha256(jcs(members)).hexdigest()


def without(id: str, name: str) -> None:
    """Register a mutant that leaves a member out of the body."""
    bodies(id, lambda seen: hashed({n: v for n, v in seen._members.items() if n != name}))


def changed_body(change: Callable[[str], str]) -> Callable[[bytes], bytes]:
    def apply(payload: bytes) -> bytes:
        texts = texts_of(payload)
        return written({**texts, "body": change(texts["body"])}, NAMES)

    return apply


def leaving(name: str) -> Callable[[bytes], bytes]:
    def apply(payload: bytes) -> bytes:
        texts = texts_of(payload)
        del texts[name]
        return written(texts, NAMES)

    return apply


def in_base64(body: str) -> str:
    return f'"{base64.b64encode(bytes.fromhex(body.strip(chr(34)))).decode()}"'


def version_1(payload: bytes) -> bytes:
    texts = texts_of(payload)
    return written(texts, [name for name in NAMES if name not in ("body", "sig_v")])


payloads("E01", version_1)
payloads("E02", changed_body(str.upper))
payloads("E03", leaving("body"))
payloads("E04", leaving("sig_v"))
payloads("E05", lambda payload: written(texts_of(payload), ["sig_v", *NAMES[:-1]]))
payloads("E06", lambda payload: b"PCS-SIG-2\0" + payload)
payloads("E07", changed_body(in_base64))


def unsorted(seen: Canonical) -> str:
    """Write the members as they came."""
    items = seen._members.items()
    inner = ",".join(f"{canonical._string_text(name)}:{canonical._text(v)}" for name, v in items)
    return sha256(f"{{{inner}}}".encode()).hexdigest()


def scaled(seen: Canonical) -> str:
    return hashed({**seen._members, **seen.nanos})


def double(seen: Canonical) -> str:
    return sha256(sha256(jcs(seen._members)).digest()).hexdigest()


def spaced(seen: Canonical) -> str:
    return sha256(jcs(seen._members).replace(b",", b", ")).hexdigest()


def content(seen: Canonical) -> str:
    return hashed({name: v for name, v in seen._members.items() if name not in NOT_CONTENT})


bodies("E08", lambda seen: hashed({**seen._members, "sig": ""}))
bodies("E09", content)
bodies("E10", double)
bodies("E11", spaced)
bodies("E12", unsorted)
bodies("E13", lambda seen: hashed({n: v for n, v in seen._members.items() if n in SIGNED}))
bodies("E14", scaled)
without("E15", "kid")
without("E16", "alg")
without("E17", "tenant_id")
without("E18", "sig_v")
without("E19", "ft")
without("E20", "sent_at")
without("E21", "attempt")
without("E22", "scales")
without("E23", "seed")


class Given(Canonical):
    """A record that hashes its members as they came, not as they are sent."""

    __slots__ = ("_given",)

    def __init__(self, record: Mapping[str, Any], sig_v: int) -> None:
        self._given = {name: value for name, value in record.items() if name != "sig"}
        super().__init__(record, sig_v)

    @property
    def body(self) -> str:
        return hashed(self._given)


@mutation("E24")
def unrounded(patch: Patch) -> None:
    patch.swap(Canonical, Given)
