"""Family K: other ways to put the payload together (spec/canonical.md 3.3, 3.5)."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from typing import Any, Final

from fractal_lba import canonical

from .patching import Patch, mutation

Texts = dict[str, str]

NAMES: Final = (
    "D_hat", "body", "budget", "coh_star", "epoch", "merkle_root", "pcs_id", "r", "shard_id",
    "sig_v",
)  # fmt: skip
AS_TYPED: Final = (
    "pcs_id", "merkle_root", "epoch", "shard_id", "D_hat", "coh_star", "r", "budget", "body",
    "sig_v",
)  # fmt: skip
_PAYLOAD: Final = re.compile(
    r'\{"D_hat":(.*?),(?:"body":(.*?),)?"budget":(.*?),"coh_star":(.*?),"epoch":(.*?),'
    r'"merkle_root":(.*?),"pcs_id":(.*?),"r":(.*?),"shard_id":(".*?")(?:,"sig_v":(2))?\}\Z',
    re.DOTALL,
)


def texts_of(payload: bytes) -> Texts:
    """Take a payload apart into the JSON texts of its members."""
    found = _PAYLOAD.match(payload.decode())
    assert found is not None
    pairs = zip(NAMES, found.groups(), strict=True)
    return {name: text for name, text in pairs if text is not None}


def written(
    texts: Mapping[str, str], names: Iterable[str], comma: str = ",", colon: str = ":"
) -> bytes:
    inner = comma.join(f'"{name}"{colon}{texts[name]}' for name in names if name in texts)
    return f"{{{inner}}}".encode()


def builds(id: str, change: Callable[[bytes], bytes]) -> None:
    """Register a mutant that signs a changed payload."""

    @mutation(id)
    def apply(patch: Patch) -> None:
        repayload(patch, lambda payload, sig_v: change(payload))


def repayload(patch: Patch, change: Callable[[bytes, int], bytes]) -> None:
    """Change every payload after it was built."""
    right = canonical.Canonical.__init__

    def built(self: canonical.Canonical, record: Any, sig_v: int) -> None:
        right(self, record, sig_v)
        self.payload = change(self.payload, sig_v)
        self.digest = sha256(self.payload).digest()

    patch.set(canonical.Canonical, "__init__", built)


def any_case(payload: bytes) -> bytes:
    texts = texts_of(payload)
    return written(texts, sorted(texts, key=str.lower))


def spaced(payload: bytes) -> bytes:
    return written(texts_of(payload), NAMES, ", ", ": ")


builds("K01", any_case)
builds("K02", lambda payload: written(texts_of(payload), AS_TYPED))
builds("K03", spaced)
builds("K04", lambda payload: payload + b"\n")
builds("K05", lambda payload: b"\xef\xbb\xbf" + payload)
builds("K12", lambda payload: payload[:-1] + b',"version":1}')


def epochs(id: str, text: Callable[[int], str]) -> None:
    """Register a mutant that writes the epoch by another rule."""

    @mutation(id)
    def change(patch: Patch) -> None:
        right = canonical._epoch
        patch.swap(right, lambda record: text(right(record)))


def percent_v(epoch: int) -> str:
    """Write a float64 as `%v` of Go does: an exponent from 1e+06 on."""
    digits = f"{epoch:d}"
    exponent = len(digits) - 1
    if exponent < 6:
        return digits
    digits = digits.rstrip("0")
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{tail}e+{exponent:02d}"


def single(epoch: int) -> str:
    value: float = struct.unpack(">f", struct.pack(">f", epoch))[0]
    return f"{value:.0f}"


epochs("K07", lambda epoch: f"{epoch}.0")
epochs("K08", percent_v)
epochs("K09", lambda epoch: str((epoch + 2**31) % 2**32 - 2**31))
epochs("K10", lambda epoch: str(epoch % 2**32))
epochs("K11", single)
