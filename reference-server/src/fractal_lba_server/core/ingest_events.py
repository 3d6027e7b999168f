"""The values that the ingest machine takes and gives (core/ingest.py)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

from fractal_lba.errors import SignatureError

from .facts import Facts
from .first_write import Apply, Key, Stored
from .policy import PolicyBook
from .tenants import OPEN_PLACEMENT, Directory

Token = Hashable


# --- events --------------------------------------------------------------------------------


class BodyReceived(NamedTuple):
    """A record has arrived. `batch` names the batch it is a line of."""

    token: Token
    body: bytes
    tenant_header: str | None = None
    address: str = ""
    level: str | None = None
    """The level asked for; None is the tenant's."""
    batch: Hashable = None


class ReadRequested(NamedTuple):
    """Somebody who may read for this tenant asks for an outcome."""

    token: Token
    tenant: str
    pcs_id: str


class SignatureChecked(NamedTuple):
    """The answer to `CheckSignature`; `error` is None if the signature holds."""

    token: Token
    error: SignatureError | None


class StoreAnswered(NamedTuple):
    """The answer to `Ask`; `stored` is None if the store knows the id is new."""

    key: Key
    stored: Stored | None
    overridden: tuple[Stored, ...] = ()
    """Outcomes of this id that do not stand (core/first_write.py)."""


class StoreFailed(NamedTuple):
    """The store cannot answer `Ask`: that is not the same as "new"."""

    key: Key
    code: str = "unavailable"
    """Or `rate_limited`, where look-ups of this kind are bounded."""
    retry_after_ms: int | None = None


class FrameSynced(NamedTuple):
    """Every frame of our stream up to and including `seq` is durable."""

    seq: int
    placement: str = OPEN_PLACEMENT


class FramesLost(NamedTuple):
    """No frame from `seq` on was written, and none will be: the log has no space."""

    seq: int
    placement: str = OPEN_PLACEMENT


class SpaceReturned(NamedTuple):
    """The log can write again."""

    placement: str = OPEN_PLACEMENT


class ViewApplied(NamedTuple):
    """The store has carried out this many `Apply` since the start."""

    rows: int


class BatchEnded(NamedTuple):
    """No more lines of this batch will come."""

    batch: Hashable


class DirectoryChanged(NamedTuple):
    """Tenants or keys were reloaded."""

    directory: Directory


class PoliciesChanged(NamedTuple):
    """Policies were reloaded; those in `policies` are kept for replay already."""

    policies: PolicyBook


class Draining(NamedTuple):
    """Take no new record; finish what is under way."""


class Resumed(NamedTuple):
    """Take records again."""


class PeerFrames(NamedTuple):
    """Frames of another region's stream, durable and verified here, in order, without a gap.

    The answer is one `PeerMerged` with this token.
    """

    token: Token
    frames: tuple[Facts, ...]


class PeerAcked(NamedTuple):
    """A peer holds our stream up to `seq`; it has overridden the frames `displaced`."""

    placement: str
    peer: str
    seq: int
    displaced: tuple[int, ...] = ()


class PeerHeard(NamedTuple):
    """Some peer of a placement was last heard of at this time."""

    placement: str
    at_ns: int


class StreamStopped(NamedTuple):
    """Our stream must not grow: a peer holds numbers of it that are not here."""

    placement: str
    reason: str


class LeaseChanged(NamedTuple):
    """Who may write to a placement: we, until `until_ns`; `leader`; or we soon (`taking_over`)."""

    placement: str
    until_ns: int
    region_epoch: int
    leader: str | None = None
    taking_over: bool = False


class TimerFired(NamedTuple):
    """The time of the last `SetTimer` has come."""


# --- effects -------------------------------------------------------------------------------


class Append(NamedTuple):
    """Make this frame durable, in order of its stream, then say `FrameSynced`."""

    seq: int
    frame: bytes
    placement: str = OPEN_PLACEMENT


class OpenEpoch(NamedTuple):
    """Begin a segment of this region epoch; frames that were appended before precede it."""

    placement: str
    region_epoch: int


class Ask(NamedTuple):
    """Look this id up in the store; with `content`, claim it for us if it is new.

    The answer may be given while the effects are carried out: these stand behind all others.
    """

    key: Key
    content: str | None = None


class Release(NamedTuple):
    """Give back a claim: no frame will follow."""

    key: Key


class CheckSignature(NamedTuple):
    """Check this signature off the main path, then say `SignatureChecked`."""

    token: Token
    alg: str
    key: bytes
    digest: bytes
    sig: str


class Answer(NamedTuple):
    """The stored outcome, to this request."""

    token: Token
    stored: Stored
    replayed: bool
    key: Key
    level: str = "durable"


class Refuse(NamedTuple):
    """A refusal, to this request. `stored` is set if the record was recorded all the same."""

    token: Token
    code: str
    message: str
    pointer: str | None = None
    retry_after_ms: int | None = None
    key: Key | None = None
    stored: Stored | None = None
    extras: Mapping[str, Any] | None = None
    """Further members of the problem (spec/schemas/problem.json)."""


class PeerMerged(NamedTuple):
    """Frames of a peer have met what stands here; `displaced` are those whose content lost."""

    token: Token
    displaced: tuple[int, ...]


class SetTimer(NamedTuple):
    """Say `TimerFired` at this time or later; a new one replaces the last."""

    at_ns: int


Effect = (
    Append | OpenEpoch | Ask | Release | CheckSignature | Apply | Answer | Refuse | PeerMerged
    | SetTimer
)  # fmt: skip
