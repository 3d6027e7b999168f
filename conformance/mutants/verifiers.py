"""Family W: other readings of a signature (spec/canonical.md 3.8(3))."""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Callable
from typing import Final

from fractal_lba import keys
from fractal_lba.errors import SignatureError
from fractal_lba.keys import ED25519_ORDER, SIGNATURE_BYTES
from fractal_lba.secret import Secret, reveal

from .patching import Patch, mutation

_FOREIGN: Final = re.compile("[^A-Za-z0-9+/]")


def reads(id: str, decode: Callable[[str], bytes], *, reduce: bool = False) -> None:
    """Register a mutant that decodes signatures in another way, and then compares bytes."""

    def decoded(alg: str, sig_text: str) -> bytes:
        try:
            raw = decode(sig_text)
        except ValueError:
            raw = b""
        if len(raw) != SIGNATURE_BYTES[alg]:
            raise SignatureError("signature_malformed", "refused by a mutant", pointer="/sig")
        return below_order(raw) if reduce and alg == "Ed25519" else raw

    def check(alg: str, key: bytes | Secret, digest: bytes, sig_text: str) -> None:
        raw = decoded(alg, sig_text)
        if alg == "HMAC":
            good = hmac.compare_digest(hmac.digest(reveal(key), digest, "sha256"), raw)
        else:
            good = keys._is_of_ed25519(reveal(key), digest, raw)
        if not good:
            raise SignatureError("signature_invalid", "refused by a mutant", pointer="/sig")

    @mutation(id)
    def change(patch: Patch) -> None:
        patch.swap(keys.check_signature, check)


def below_order(raw: bytes) -> bytes:
    """Take S modulo L, as a verifier does that never compares the two."""
    s = int.from_bytes(raw[32:], "little") % ED25519_ORDER
    return raw[:32] + s.to_bytes(32, "little")


def strict(text: str) -> bytes:
    raw = base64.b64decode(text, validate=True)
    if base64.b64encode(raw).decode() != text:
        raise ValueError(text)
    return raw


def of_node(text: str) -> bytes:
    """Decode as `Buffer.from(text, "base64")`: any alphabet, any padding, garbage skipped."""
    kept = text.partition("=")[0].replace("-", "+").replace("_", "/")
    kept = _FOREIGN.sub("", kept)
    if len(kept) % 4 == 1:
        kept = kept[:-1]
    return base64.b64decode(kept + "=" * (-len(kept) % 4))


reads("W01", base64.b64decode)
reads("W02", lambda text: base64.b64decode(text, validate=True))
reads("W03", lambda text: base64.b64decode(re.sub("[\r\n]", "", text), validate=True))
reads("W04", of_node)
reads("W05", strict, reduce=True)
