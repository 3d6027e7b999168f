"""The bytes of a cold object: many payloads of one tenant, an index, a checksum.

This file owns the format (spec/tiers.md 7): how an object is written, how it is read as a whole
with every length and checksum compared, and how one entry of it is read alone. It opens nothing.

    object  "FLKCOLD1" . entry* . index . footer
    entry   raw_len u32 . zlib stream of raw, with the preset dictionary below
    raw     meta_len u32 . outcome_len u32 . meta (RFC 8785) . outcome . record
    index   tenant (UTF-8) . (pcs_id 32 . offset u32 . length u32 . sha256 32 of the entry)*
    footer  index_offset u32 . tenant_len u32 . count u32 . sha256 of all before it . "FLKCEND1"

All integers are big-endian. A record of 670 bytes packs to 29 % with the dictionary, to 56 %
without: an entry is read alone, so it cannot share what its neighbours say.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from fractal_lba.canonical import jcs

from . import hlc
from .first_write import Key, Origin, Stored

MAGIC: Final = b"FLKCOLD1"
END: Final = b"FLKCEND1"
SUFFIX: Final = ".cold"

RAW_BYTES_MAX: Final = 1_048_576
"""Longest entry when unpacked: a record has at most 65,536 bytes, its outcome about 1,000."""

OBJECT_BYTES_MAX: Final = 2**32 - 1
"""Longest object: the width of an offset; the mover stops long before."""

LEVEL: Final = 6
"""Of zlib; 9 saves another 1 % and takes twice the time."""

DICTIONARY: Final = (
    b'{"D_hat":1.584962501,"N_j":{"16":256,"2":4,"32":1024,"4":16,"64":4096,"8":64},'
    b'"alg":"Ed25519","alg":"HMAC","attempt":1,"budget":0.35,"coh_star":0.5,"epoch":1,'
    b'"ft":{"clock_skew_ms":0,"degraded":false,"fallbacks":[],"outbox_seq":0},"kid":"",'
    b'"merkle_root":"0123456789abcdef","pcs_id":"","r":0.5,"regime":"non_sticky","regime":"mixed",'
    b'"regime":"sticky","scales":[2,4,8,16,32,64],"schema":"fractal-lba-kakeya","seed":0,'
    b'"sent_at":"2026-01-01T00:00:00Z","shard_id":"","sig":"","sig_v":2,"tenant_id":"",'
    b'"v_star":[0.5773502691896258,-0.5773502691896258],"version":"0.1"}'
    b'{"content":"","hlc":"019","pcs_id":"","placement":"open","region":"","region_epoch":1,'
    b'"seq":1,"status":200,"tenant":""}{"accepted":false,"escalated":true,"first_seen":{"hlc":"019'
    b'","region":""},"pcs_id":"","policy_version":"","reason":"d_hat_out_of_tolerance",'
    b'"reason":"budget_deviation","reason":"regime_mismatch",'
    b'{"accepted":true,"escalated":false,"first_seen":{"hlc":"019","region":"eu1"},"pcs_id":"",'
    b'"policy_version":"","recomputed_D_hat":1.584962501,"recomputed_budget":0.35}'
)
"""What records, facts and outcomes have in common; fixed for FLKCOLD1 (spec/tiers.md 7.6)."""

_FOOTER: Final = struct.Struct(">III32s8s")
_INDEX: Final = struct.Struct(">32sII32s")
_U32: Final = struct.Struct(">I")
_LENGTHS: Final = struct.Struct(">II")


class ColdCorruptError(ValueError):
    """Says why bytes are no cold object, or no entry of one."""


class Entry(NamedTuple):
    """One payload: whose it is, the outcome, and the record's bytes where they are kept."""

    key: Key
    stored: Stored
    record: bytes


class Place(NamedTuple):
    """Where an entry stands in its object, and the SHA-256 of its bytes there."""

    offset: int
    length: int
    sha256: bytes


def write_entry(entry: Entry) -> bytes:
    """Write one entry; `read_entry` gives it back."""
    stored, origin = entry.stored, entry.stored.origin
    meta = jcs(
        {
            "content": stored.content,
            "hlc": hlc.text(stored.hlc),
            "pcs_id": entry.key[1],
            "placement": origin.placement,
            "region": origin.region,
            "region_epoch": origin.region_epoch,
            "seq": stored.seq,
            "status": stored.status,
            "tenant": entry.key[0],
        }
    )
    lengths = _LENGTHS.pack(len(meta), len(stored.outcome))
    raw = b"".join((lengths, meta, stored.outcome, entry.record))
    if len(raw) > RAW_BYTES_MAX:
        raise ValueError(f"an entry of {len(raw)} bytes; the longest is {RAW_BYTES_MAX}")
    packer = zlib.compressobj(LEVEL, zdict=DICTIONARY)
    return _U32.pack(len(raw)) + packer.compress(raw) + packer.flush()


def read_entry(data: bytes, sha256: bytes | None = None) -> Entry:
    """Read the bytes of one entry; `sha256` is what the reference says of them."""
    if sha256 is not None and hashlib.sha256(data).digest() != sha256:
        raise ColdCorruptError("the entry differs from its SHA-256")
    raw = _unpack(data)
    try:
        meta_len, outcome_len = _LENGTHS.unpack_from(raw)
        middle = _LENGTHS.size + meta_len
        end = middle + outcome_len
        meta = json.loads(raw[_LENGTHS.size : middle])
        if end > len(raw):
            raise ColdCorruptError("the entry is shorter than its lengths say")
        return Entry((meta["tenant"], meta["pcs_id"]), _stored(meta, raw[middle:end]), raw[end:])
    except (struct.error, KeyError, TypeError, ValueError) as error:
        raise ColdCorruptError(f"the entry holds no facts: {error}") from None


def _stored(meta: dict[str, Any], outcome: bytes) -> Stored:
    origin = Origin(meta["region"], meta["placement"], meta["region_epoch"])
    stamp = int(meta["hlc"], 16)
    return Stored(meta["seq"], meta["content"], meta["status"], outcome, origin, stamp)


def _unpack(data: bytes) -> bytes:
    if len(data) < _U32.size:
        raise ColdCorruptError("the entry is shorter than its length")
    (raw_len,) = _U32.unpack_from(data)
    if raw_len > RAW_BYTES_MAX:
        raise ColdCorruptError(f"the entry unpacks to {raw_len} bytes, above {RAW_BYTES_MAX}")
    unpacker = zlib.decompressobj(zdict=DICTIONARY)
    try:
        raw = unpacker.decompress(data[_U32.size :], raw_len + 1)
    except zlib.error as error:
        raise ColdCorruptError(f"the entry does not unpack: {error}") from None
    if len(raw) != raw_len or not unpacker.eof or unpacker.unused_data:
        raise ColdCorruptError(f"the entry does not unpack to the {raw_len} bytes that it names")
    return raw


def write_object(tenant: str, entries: Sequence[bytes], ids: Sequence[str]) -> bytes:
    """Write an object of entries that are written already, with the id of each."""
    body = b"".join((MAGIC, *entries))
    if not entries or len(body) > OBJECT_BYTES_MAX:
        raise ValueError(f"an object of {len(entries)} entries and {len(body)} bytes")
    name = tenant.encode()
    rows = [
        _INDEX.pack(bytes.fromhex(pcs_id), place.offset, place.length, place.sha256)
        for pcs_id, place in zip(ids, places(entries), strict=True)
    ]
    data = b"".join((body, name, *rows))
    digest = hashlib.sha256(data).digest()
    return data + _FOOTER.pack(len(body), len(name), len(entries), digest, END)


def places(entries: Sequence[bytes]) -> list[Place]:
    """Say where each entry of an object stands."""
    found, offset = [], len(MAGIC)
    for entry in entries:
        found.append(Place(offset, len(entry), hashlib.sha256(entry).digest()))
        offset += len(entry)
    return found


def read_object(data: bytes) -> list[tuple[Entry, Place]]:
    """Read a whole object and compare all that it says of itself; raises ColdCorruptError."""
    if len(data) < len(MAGIC) + _FOOTER.size or not data.startswith(MAGIC):
        raise ColdCorruptError("no cold object: too short, or another magic")
    foot = len(data) - _FOOTER.size
    index_offset, tenant_len, count, digest, end = _FOOTER.unpack_from(data, foot)
    if end != END or index_offset + tenant_len + count * _INDEX.size != foot:
        raise ColdCorruptError("the footer does not end the object")
    if hashlib.sha256(data[:foot]).digest() != digest:
        raise ColdCorruptError("the object differs from its SHA-256")
    rows = index_offset + tenant_len
    tenant = data[index_offset:rows].decode(errors="replace")
    found, at = [], len(MAGIC)
    for raw, offset, length, sha256 in _INDEX.iter_unpack(data[rows:foot]):
        entry = read_entry(data[offset : offset + length], sha256)
        if offset != at or entry.key != (tenant, raw.hex()):
            raise ColdCorruptError(f"the index and the entry at byte {offset} do not agree")
        found.append((entry, Place(offset, length, sha256)))
        at = offset + length
    if at != index_offset:
        raise ColdCorruptError("the index does not name every entry")
    return found


def object_name(placement: str, tenant: str, data: bytes) -> str:
    """Name an object after its bytes (spec/tiers.md 7.9)."""
    return f"{placement}/t-{tenant}/{hashlib.sha256(data).hexdigest()}{SUFFIX}"


def digest_of_name(name: str) -> str:
    """Give the SHA-256 that a name ends in, as hex; raises ValueError if it is no such name."""
    digest = name.rpartition("/")[2].removesuffix(SUFFIX)
    if len(digest) != 64 or not name.endswith(SUFFIX):
        raise ValueError(f"{name}: not the name of a cold object")
    return digest
