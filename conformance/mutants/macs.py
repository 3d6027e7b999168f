"""Family C: other ways from a payload to the text of its signature (spec/canonical.md 3.6)."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from fractal_lba import canonical, keys
from fractal_lba.keys import signature_text
from fractal_lba.sign import HmacSigner

from .patching import Patch, mutation

Mac = Callable[[bytes, "Digest"], bytes]


class Digest(bytes):
    """A digest that remembers what it was made from."""

    payload: bytes


class Keyed:
    """A prepared MAC with the face that the SDK asks of one."""

    def __init__(self, key: bytes, mac: Mac) -> None:
        self._key, self._mac, self._digest = key, mac, Digest()

    def copy(self) -> Keyed:
        return Keyed(self._key, self._mac)

    def update(self, digest: Digest) -> None:
        self._digest = digest

    def digest(self) -> bytes:
        return self._mac(self._key, self._digest)


def macs(id: str, mac: Mac) -> None:
    """Register a mutant that signs, and so verifies, with another MAC."""

    @mutation(id)
    def change(patch: Patch) -> None:
        right = canonical.Canonical.__init__

        def built(self: canonical.Canonical, record: Any, sig_v: int) -> None:
            right(self, record, sig_v)
            digest = Digest(self.digest)
            digest.payload = self.payload
            self.digest = digest

        patch.set(canonical.Canonical, "__init__", built)
        patch.set(HmacSigner, "sign", lambda self, digest: mac(self._key.reveal(), digest))
        patch.swap(keys._keyed, lambda key: Keyed(key, mac))


def texts(id: str, text: Callable[[bytes], str]) -> None:
    """Register a mutant that writes signatures in another way."""

    @mutation(id)
    def change(patch: Patch) -> None:
        patch.swap(signature_text, text)


def mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def unhashed(key: bytes, digest: Digest) -> bytes:
    """Write HMAC by hand and cut a long key instead of hashing it."""
    block = key[:64].ljust(64, b"\0")
    inner = sha256(bytes(byte ^ 0x36 for byte in block) + digest).digest()
    return sha256(bytes(byte ^ 0x5C for byte in block) + inner).digest()


macs("C01", lambda key, digest: mac(key, digest.payload))
macs("C02", lambda key, digest: mac(key, digest.hex().encode()))
macs("C03", lambda key, digest: mac(key, base64.b64encode(digest)))
texts("C04", lambda raw: base64.urlsafe_b64encode(raw).decode())
texts("C05", lambda raw: base64.b64encode(raw).decode().rstrip("="))
texts("C06", lambda raw: base64.encodebytes(raw).decode())
texts("C07", bytes.hex)
macs("C08", lambda key, digest: mac(key, sha256(digest).digest()))
macs("C09", lambda key, digest: hmac.digest(key, digest, "sha512")[:32])
macs("C10", lambda key, digest: mac(key.strip(), digest))
macs("C11", lambda key, digest: mac(key[:64], digest))
macs("C12", unhashed)
macs("C13", lambda key, digest: mac(key.decode("utf-8", "replace").encode(), digest))
macs("C14", lambda key, digest: mac(key.partition(b"\0")[0], digest))
macs("C15", lambda key, digest: mac(digest, key))
macs("C16", lambda key, digest: sha256(key + digest).digest())
