"""What a dedup shard keeps under a key, and what follows when two writers meet there.

This file owns the rule of a row (spec/dedup.md 1 and 2): who gets a claim, which of two entries
stands, when an entry has expired, and the bytes of a row. Engines that decide inside a database
compare those bytes as they are: of two rows of outcomes the smaller is the first write, so one
comparison of bytes is the whole rule, the same in each engine.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Coroutine, Iterable, Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from fractal_lba.ring import hash_point, ring_key

from .first_write import Key, Order, Origin, Stored, order_of
from .hlc import MAX_SKEW_MS

CLAIMED: Final = "claimed"
"""A writer was told that the key is new to it; its frame may be durable or not."""

DONE: Final = "done"
"""The frame is durable; its outcome stands here."""

GRACE_MS: Final = MAX_SKEW_MS
"""An entry outlives its expiry by the skew of clocks that is allowed, on every clock."""

NEVER_MS: Final = 2**63 - 1
"""An expiry that does not come, in the bytes of a row."""

STORED_BYTES_MAX: Final = 1 << 20
"""Longest encoded outcome of an entry: an outcome has about 400 bytes."""

ROW_VERSION: Final = 1
STORED_VERSION: Final = 1

ORDER: Final = struct.Struct(">QIIQ")
"""The order of a first write, as bytes that compare like the numbers: hlc, rank, region epoch,
number."""
_HEAD: Final = struct.Struct(">BB24sQ")
"""Version, state, order, expiry; then owner and content with a length byte each, and outcome."""
_STORED: Final = struct.Struct(">BHIQQ")

STATE_AT: Final = 1
EXPIRY_AT: Final = 26
OWNER_AT: Final = _HEAD.size
"""Offsets in a row, for engines that look at its bytes."""

_STATES: Final = (DONE, CLAIMED)  # an outcome compares as smaller than any claim
_NO_ORDER: Final = bytes(ORDER.size)

Rank = Callable[[str], int]


class ShardUnavailable(Exception):  # noqa: N818 - an answer of a dedup shard, not a defect
    """Say that a dedup shard cannot answer: that is neither "found" nor "not found"."""

    def __init__(self, dedup_shard: str, reason: str) -> None:
        super().__init__(f"dedup shard {dedup_shard} is unavailable: {reason}")
        self.dedup_shard = dedup_shard
        self.reason = reason


class StaleRingEpoch(Exception):  # noqa: N818 - an answer of a dedup shard, not a defect
    """Refuse a write under an older ring epoch than the fence, `current`."""

    def __init__(self, current: int) -> None:
        super().__init__(f"the ring epoch is stale: the dedup shard is fenced at {current}")
        self.current = current


class Claim(NamedTuple):
    """Ask for a key: `owner` wants to write a frame with this content under it."""

    key: Key
    content: str
    owner: str


class Entry(NamedTuple):
    """One row of a dedup shard."""

    key: Key
    state: str
    owner: str
    content: str
    order: Order | None
    """Of an outcome; None of a claim."""
    stored: bytes | None
    """The encoded outcome; None of a claim."""
    expires_at_ms: int | None
    """Unix ms, never counted anew; None for ever."""


class Claimed(NamedTuple):
    """The key is yours: nobody else gets it until you complete or release it."""

    key: Key


class Found(NamedTuple):
    """The key has a durable outcome."""

    entry: Entry


class Pending(NamedTuple):
    """Somebody else holds the key: it is not new, and has no outcome yet."""

    entry: Entry


Verdict = Claimed | Found | Pending
Ranges = Sequence[tuple[int, int]]
"""Inclusive ranges of ring points, ascending, without overlap."""


ResultT = TypeVar("ResultT")
Answered = Coroutine[Any, Any, ResultT]
"""What a method of an engine gives: its caller waits for it."""


class DedupShard(Protocol):
    """What every engine does; each method raises ShardUnavailable when it cannot.

    Methods with a ring epoch raise StaleRingEpoch, and change nothing, if it is below the fence.
    """

    name: str

    def start(self) -> Answered[None]:
        """Reach the engine; raises ConfigError if it is not fit to hold a dedup shard."""

    def claim(self, claims: Sequence[Claim], *, ring_epoch: int) -> Answered[list[Verdict]]:
        """Decide about each claim; of several owners one is `Claimed`, and it may ask again."""

    def complete(self, entries: Sequence[Entry], *, ring_epoch: int) -> Answered[None]:
        """Put outcomes where their claims were; what stands first stays."""

    def release(self, keys: Sequence[Key], owner: str, *, ring_epoch: int) -> Answered[None]:
        """Give back claims of this owner; whatever else stands there stays."""

    def lookup(self, keys: Sequence[Key]) -> Answered[list[Entry | None]]:
        """Give what stands under each key, also if it has expired."""

    def put_if_first(self, entries: Sequence[Entry], *, ring_epoch: int) -> Answered[list[Entry]]:
        """Put each entry that comes before what stands (`first_of`); give what stands now."""

    def scan(
        self, *, ranges: Ranges, after: tuple[int, Key] | None, limit: int
    ) -> Answered[list[Entry]]:
        """Give entries of these ranges behind `after`, in order of `place_of`."""

    def digest(self, ranges: Ranges) -> Answered[list[tuple[int, bytes]]]:
        """Give number and digest of the entries of each range (`range_digest`)."""

    def delete(self, keys: Sequence[Key], *, ring_epoch: int) -> Answered[int]:
        """Delete entries; give how many there were."""

    def count(self) -> Answered[int]:
        """Count the entries."""

    def fence(self) -> Answered[int]:
        """Give the smallest ring epoch under which writes are taken."""

    def set_fence(self, ring_epoch: int) -> Answered[None]:
        """Raise the fence; once this returns, no write of an older ring epoch is under way."""

    def close(self) -> Answered[None]:
        """Let go of connections and files."""


def claim_entry(claim: Claim) -> Entry:
    """Write the row of a claim. It never expires: whoever holds it may have written a frame."""
    return Entry(claim.key, CLAIMED, claim.owner, claim.content, None, None, None)


def done_entry(
    key: Key, stored: Stored, rank: Rank, *, owner: str, expires_at_ms: int | None = None
) -> Entry:
    """Write the row of a durable outcome."""
    order = order_of(stored, rank)
    return Entry(key, DONE, owner, stored.content, order, encode_stored(stored), expires_at_ms)


def has_expired(entry: Entry, now_ms: int, *, grace_ms: int = GRACE_MS) -> bool:
    """Say whether an entry is no longer there for a claim."""
    return entry.expires_at_ms is not None and entry.expires_at_ms + grace_ms <= now_ms


def claim_row(
    row: Entry | None, claim: Claim, now_ms: int, *, grace_ms: int = GRACE_MS
) -> tuple[Verdict, Entry | None]:
    """Decide about a claim: the answer, and the row that stands afterwards."""
    if row is None or has_expired(row, now_ms, grace_ms=grace_ms):
        return Claimed(claim.key), claim_entry(claim)
    if row.state == DONE:
        return Found(row), row
    if row.owner != claim.owner:
        return Pending(row), row
    return Claimed(claim.key), claim_entry(claim)


def first_of(row: Entry | None, entry: Entry, now_ms: int, *, grace_ms: int = GRACE_MS) -> Entry:
    """Say which of two entries of one key stands.

    What has not expired stands before what has, an outcome before a claim, the first write
    before a later one; of two claims the one that is there.
    """
    if row is None:
        return entry
    row_is_over = has_expired(row, now_ms, grace_ms=grace_ms)
    if row_is_over != has_expired(entry, now_ms, grace_ms=grace_ms):
        return entry if row_is_over else row
    if entry.state == CLAIMED or encode_row(row) <= encode_row(entry):
        return row
    return entry


def release_row(row: Entry | None, owner: str) -> Entry | None:
    """Take back a claim of this owner; whatever else is there stays."""
    return None if row is not None and row.state == CLAIMED and row.owner == owner else row


# --- places and bytes ------------------------------------------------------------------------


def point_of(key: Key) -> int:
    """Give the place of a key on the ring."""
    return hash_point(ring_key(*key))


def place_of(key: Key) -> tuple[int, bytes]:
    """Give the place of a key among the entries of a dedup shard: by point, then by bytes."""
    hashed = ring_key(*key)
    return hash_point(hashed), hashed


def key_of(hashed: bytes) -> Key:
    """Read the bytes of a key again."""
    tenant, _, pcs_id = hashed.decode().rpartition("|")
    return tenant, pcs_id


def expired_before_ms(now_ms: int, grace_ms: int = GRACE_MS) -> int:
    """Give the latest expiry that has come: what engines compare the bytes of a row with."""
    return max(now_ms - grace_ms, 0)


def expiry_bytes(expires_at_ms: int) -> bytes:
    """Write an expiry as it stands in a row."""
    return expires_at_ms.to_bytes(8, "big")


def owner_bytes(owner: str) -> bytes:
    """Write an owner as it stands in a row."""
    return _short(owner)


def encode_row(entry: Entry) -> bytes:
    """Write all of an entry but its key; raises ValueError for what is no entry."""
    if (entry.order is None) != (entry.state == CLAIMED) or (entry.stored is None) != (
        entry.order is None
    ):
        raise ValueError("an outcome has an order and bytes, a claim has neither")
    expires_ms = NEVER_MS if entry.expires_at_ms is None else entry.expires_at_ms
    order = _NO_ORDER if entry.order is None else ORDER.pack(*entry.order)
    stored = entry.stored or b""
    if len(stored) > STORED_BYTES_MAX:
        raise ValueError(f"at most {STORED_BYTES_MAX} bytes of an outcome, got {len(stored)}")
    head = _HEAD.pack(ROW_VERSION, _STATES.index(entry.state), order, expires_ms)
    return b"".join((head, _short(entry.owner), _short(entry.content), stored))


def decode_row(key: Key, row: bytes) -> Entry:
    """Read what `encode_row` wrote; raises ValueError for anything else."""
    try:
        version, state, order, expires_ms = _HEAD.unpack_from(row)
        owner, at = _take_short(row, OWNER_AT)
        content, at = _take_short(row, at)
        done = state == _STATES.index(DONE)
        entry = Entry(
            key, _STATES[state], owner, content, Order(*ORDER.unpack(order)) if done else None,
            row[at:] if done else None, None if expires_ms == NEVER_MS else expires_ms,
        )  # fmt: skip
        whole = version == ROW_VERSION and encode_row(entry) == row
    except (struct.error, IndexError):
        whole = False
    if not whole:
        raise ValueError(f"the row of {key[0]}/{key[1]:.80} is not of version {ROW_VERSION}")
    return entry


def encode_stored(stored: Stored) -> bytes:
    """Write an outcome with the place of its frame."""
    origin = stored.origin
    head = _STORED.pack(STORED_VERSION, stored.status, origin.region_epoch, stored.seq, stored.hlc)
    names = (origin.region, origin.placement, stored.content)
    return b"".join((head, *map(_short, names), stored.outcome))


def decode_stored(data: bytes) -> Stored:
    """Read what `encode_stored` wrote; raises ValueError for anything else."""
    try:
        version, status, region_epoch, seq, hlc = _STORED.unpack_from(data)
        region, at = _take_short(data, _STORED.size)
        placement, at = _take_short(data, at)
        content, at = _take_short(data, at)
    except (struct.error, IndexError):
        raise ValueError("not an encoded outcome") from None
    if version != STORED_VERSION:
        raise ValueError(f"an outcome of version {version}, expected {STORED_VERSION}")
    origin = Origin(region, placement, region_epoch)
    return Stored(seq, content, status, data[at:], origin, hlc)


def entry_digest(hashed: bytes, row: bytes) -> bytes:
    """Digest one entry: key and row, each with its length."""
    return sha256(b"%b%b%b%b" % (_long(hashed), hashed, _long(row), row)).digest()


def range_digest(digests: Iterable[bytes]) -> tuple[int, bytes]:
    """Digest the entries of a range, in order, from their digests."""
    count, whole = 0, sha256()
    for digest in digests:
        whole.update(digest)
        count += 1
    return count, whole.digest()


def _short(text: str) -> bytes:
    data = text.encode()
    if len(data) > 255:
        raise ValueError(f"at most 255 bytes, got {len(data)}")
    return bytes((len(data),)) + data


def _take_short(data: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + data[at]
    if end > len(data):
        raise IndexError(end)
    return data[at + 1 : end].decode(), end


def _long(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big")
