"""The ingest machine: what happens to a submitted record, and in which order.

This file owns three invariants. *Durable before acknowledged*: no answer of success leaves
before `FrameSynced` has named its frame. *Signature before dedup*: nothing is looked up under
a `pcs_id` before its signature holds. *First write wins*: the first durable outcome of a
`(tenant, pcs_id)` is the answer to every later submission of the same content, and a
submission of other content is refused.

The machine has no clock, no file and no thread. Events come in with a time, effects come out
as values; the server, a test and the simulator each carry them out in their own way. An
answer to one request is exactly one `Answer` or `Refuse` with its token.
"""

# tidy: long because the path of a record is read from top to bottom

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypedDict

from fractal_lba.canonical import Canonical, canonicalize, parse
from fractal_lba.errors import FractalLBAError, SignatureError, ValidationError
from fractal_lba.ids import derive_pcs_id
from fractal_lba.sign import check_signature

from . import hlc
from .facts import Facts, write_facts
from .first_write import SAME, Apply, Key, Rank, Stored, merge, position, resolve
from .governor import Governor
from .ingest_events import (
    Answer,
    Append,
    Ask,
    BatchEnded,
    BodyReceived,
    CheckSignature,
    DirectoryChanged,
    Draining,
    Effect,
    FramesLost,
    FrameSynced,
    LeaseChanged,
    OpenEpoch,
    PeerAcked,
    PeerFrames,
    PeerHeard,
    PeerMerged,
    PoliciesChanged,
    ReadRequested,
    Refuse,
    Release,
    Resumed,
    SetTimer,
    SignatureChecked,
    SpaceReturned,
    StoreAnswered,
    StoreFailed,
    StreamStopped,
    TimerFired,
    Token,
    ViewApplied,
)
from .policy import PolicyBook
from .quota import Buckets, address_name
from .record import check_fresh
from .segment import encode_frame
from .streams import Entry, Refusal, Stream, StreamStart, Waiter
from .tenants import OPEN_PLACEMENT, Directory, KeyRecord, Tenant
from .verify import outcome_bytes, verify

RECENT_MAX: Final = 262_144
"""Most outcomes that may wait for the index; beyond it the gate closes."""

GATE_RETRY_MS: Final = 1_000
"""What a client is told to wait while the gate is closed."""

REPLICATED_WAIT_MS: Final = 5_000
"""How long a request waits for the level it asked for."""

CUT_OFF_MS: Final = 3_000
"""Silence of all peers after which a tenant's `on_partition: refuse` applies."""

PEER_RETRY_MS: Final = 1_000
"""How often a peer's frames are tried again that the store could not compare."""

# --- the machine ---------------------------------------------------------------------------


class _Candidate(NamedTuple):
    """A record on its way: read, and perhaps authentic, but not yet decided."""

    token: Token
    request: BodyReceived
    record: Mapping[str, Any]
    canonical: Canonical
    key_record: KeyRecord
    key: Key


@dataclass(slots=True)
class _PeerBatch:
    """Frames of a peer, answered as soon as each of them has met what stands here."""

    token: Token
    unmet: int
    displaced: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _PeerItem:
    """A frame of a peer on its way to meet what stands here, and the batches that wait for it."""

    stream: _PeerStream
    facts: Facts
    batches: list[_PeerBatch]


@dataclass(slots=True)
class _PeerStream:
    """One stream of a peer. Its frames meet in any order; the store is given them in theirs."""

    next_seq: int
    """The first frame that the store was not given."""
    unmet: dict[int, _PeerItem] = field(default_factory=dict)
    met: dict[int, Facts] = field(default_factory=dict)
    """Frames that have met, behind one that has not."""


_Asker = _Candidate | ReadRequested | _PeerItem


class _Rate(TypedDict):
    rate_per_s: float
    burst: int


@dataclass(frozen=True, slots=True)
class Settings:
    """What does not change while the machine runs."""

    region: str
    recent_max: int = RECENT_MAX
    max_skew_ms: int = hlc.MAX_SKEW_MS
    unauthenticated_per_s: float = 200
    max_addresses: int = 65_536
    claims: bool = False
    """Whether other processes take records of the same ids, so that an id is claimed first."""
    replicated_wait_ms: int = REPLICATED_WAIT_MS
    cut_off_ms: int = CUT_OFF_MS
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    """Where records of placements go that this region does not hold."""


class Ingest:
    """Decide about submitted records. State is plain data; `on_event` is the only entry."""

    def __init__(
        self,
        settings: Settings,
        *,
        check: Callable[[Mapping[str, Any]], None],
        directory: Directory,
        policies: PolicyBook,
        streams: Sequence[StreamStart] = (StreamStart(),),
        last_hlc: int = 0,
        rank: Rank = lambda region: 0,
    ) -> None:
        self._settings = settings
        self._check = check
        self._directory = directory
        self._policies = policies
        self._rank = rank
        self._last_hlc = last_hlc
        self._streams = {one.placement: Stream(settings.region, one) for one in streams}
        self._recent: dict[Key, Entry] = {}
        self._unapplied: deque[Entry] = deque()
        self._rows_applied = 0
        self._asking: dict[Key, list[_Asker]] = {}
        self._peers: dict[tuple[str, str], _PeerStream] = {}
        self._meeting: dict[Key, list[_PeerItem]] = {}
        self._stuck: list[_PeerItem] = []
        self._paced: list[tuple[int, int, _Candidate]] = []
        self._numbers = itertools.count()
        self._timer_ns: int | None = None
        self._governors: dict[tuple[str, int], Governor] = {}
        self._checking: dict[Token, _Candidate] = {}
        self._batch_tenants: dict[Hashable, str] = {}
        self._quota = Buckets(max_buckets=settings.max_addresses)
        self._strangers = Buckets(max_buckets=settings.max_addresses)
        rate = settings.unauthenticated_per_s
        self._strangers_rate: _Rate = {"rate_per_s": rate, "burst": max(1, math.ceil(rate))}
        self.kids_used: set[str] = set()
        """Key ids of all that was decided since the start."""
        self._draining = False
        self._handlers: dict[type, Callable[[Any, int], list[Effect]]] = {
            BodyReceived: self._on_body,
            ReadRequested: self._on_read,
            SignatureChecked: self._on_signature,
            StoreAnswered: self._on_store_answer,
            StoreFailed: self._on_store_failure,
            FrameSynced: self._on_synced,
            FramesLost: self._on_lost,
            SpaceReturned: self._on_space,
            ViewApplied: self._on_applied,
            BatchEnded: self._on_batch_end,
            DirectoryChanged: self._on_directory,
            PoliciesChanged: self._on_policies,
            Draining: self._on_draining,
            Resumed: self._on_resumed,
            PeerFrames: self._on_peer_frames,
            PeerAcked: self._on_peer_acked,
            PeerHeard: self._on_peer_heard,
            StreamStopped: self._on_stream_stopped,
            LeaseChanged: self._on_lease,
            TimerFired: self._on_timer,
        }

    def on_event(self, event: object, now_ns: int) -> list[Effect]:
        """Take one event at Unix time `now_ns`; give what must be carried out, in order."""
        return self._handlers[type(event)](event, now_ns)

    def closed(self, now_ns: int) -> str | None:
        """Say why no record is taken now, or None if records of some placement are taken."""
        refusal = self.refusal(now_ns)
        return None if refusal is None else refusal.message

    def refusal(self, now_ns: int) -> Refusal | None:
        """Say with which code no record is taken now: a standby is no fault (spec/roles.md)."""
        reason = self._gate(now_ns)
        if reason is not None:
            return Refusal("unavailable", reason)
        refusals = [stream.refusal(now_ns) for stream in self._streams.values()]
        if None in refusals:
            return None
        return next((one for one in refusals if one), Refusal("unavailable", "no placement"))

    def _gate(self, now_ns: int) -> str | None:
        """Say why no record of any placement is taken."""
        if self._draining:
            return "the server is draining"
        settings = self._settings
        if len(self._recent) >= settings.recent_max:
            return "the index is too far behind the log"
        if hlc.ahead_ms(self._last_hlc, now_ns) > settings.max_skew_ms:
            return "the clock stands behind the log"
        return None

    @property
    def in_flight(self) -> int:
        """Count the frames that are not yet durable."""
        return sum(len(stream.unsynced) for stream in self._streams.values())

    @property
    def recent(self) -> int:
        """Count the outcomes that the store does not hold yet."""
        return len(self._recent)

    def unapplied(self) -> list[tuple[Key, Stored]]:
        """Give the durable outcomes that the store does not hold yet."""
        return [(key, entry.stored) for key, entry in self._recent.items() if entry.durable]

    @property
    def streams(self) -> Mapping[str, Stream]:
        """Give the state of our streams by placement, to look at."""
        return self._streams

    # --- a record comes in

    def _on_body(self, event: BodyReceived, now_ns: int) -> list[Effect]:
        reason = self._gate(now_ns)
        if reason is not None:
            return [_unavailable(event.token, reason)]
        if len(self._strangers):
            wait_ns = self._strangers.peek(
                address_name(event.address), **self._strangers_rate, cost=1, now_ns=now_ns
            )
            if wait_ns:
                return [_too_fast(event.token, "too many unauthenticated requests", wait_ns)]
        try:
            candidate = self._read(event, now_ns)
            if candidate.key_record.alg == "Ed25519":
                self._checking[event.token] = candidate
                return [_signature_job(candidate)]
            _check_now(candidate)
        except (ValidationError, SignatureError) as error:
            return [self._refuse_stranger(event, error, now_ns)]
        return self._on_authentic(candidate, now_ns)

    def _read(self, event: BodyReceived, now_ns: int) -> _Candidate:
        """Read a record and find its key: spec/formats.md, order of checks."""
        record = parse(event.body)
        self._check(record)
        canonical = canonicalize(record)
        pcs_id = record["pcs_id"]
        if derive_pcs_id(record["merkle_root"], record["epoch"], record["shard_id"]) != pcs_id:
            raise ValidationError(
                "pcs_id_mismatch",
                "pcs_id: expected SHA-256 of merkle_root|epoch|shard_id",
                pointer="/pcs_id",
            )
        key_record = self._directory.key_for(
            kid=record.get("kid"), tenant_header=event.tenant_header, now_ms=now_ns // 1_000_000
        )
        self._check_key(record, key_record)
        key = (key_record.tenant, pcs_id)
        return _Candidate(event.token, event, record, canonical, key_record, key)

    def _check_key(self, record: Mapping[str, Any], key_record: KeyRecord) -> None:
        """Refuse what the message says against its key's record (spec/canonical.md 3.10)."""
        least = self._directory.tenants[key_record.tenant].min_version
        if record.get("sig_v", 1) < least:
            text = f"sig_v: this tenant takes version {least} only"
            raise SignatureError("sig_version_unsupported", text, pointer="/sig_v")
        if record.get("alg", key_record.alg) != key_record.alg:
            text = f"alg: the key is registered for {key_record.alg}"
            raise SignatureError("alg_mismatch", text, pointer="/alg")

    def _refuse_stranger(self, event: BodyReceived, error: FractalLBAError, now_ns: int) -> Refuse:
        self._strangers.take(
            address_name(event.address), **self._strangers_rate, cost=1, now_ns=now_ns
        )
        return Refuse(event.token, error.code, error.message, error.pointer)

    def _on_signature(self, event: SignatureChecked, now_ns: int) -> list[Effect]:
        candidate = self._checking.pop(event.token)
        if event.error is not None:
            return [self._refuse_stranger(candidate.request, event.error, now_ns)]
        return self._on_authentic(candidate, now_ns)

    # --- its signature holds

    def _on_authentic(self, candidate: _Candidate, now_ns: int) -> list[Effect]:
        refusal = (
            self._mismatch(candidate)
            or self._misplaced(candidate, now_ns)
            or self._expired(candidate, now_ns)
            or self._over_quota(candidate, now_ns)
        )
        if refusal is not None:
            return [refusal]
        tenant = self._directory.tenants.get(candidate.key[0])
        if tenant is not None and tenant.rpo_ms is not None:
            return self._paced_by(tenant, candidate, now_ns)
        return self._look_up(candidate, now_ns)

    def _look_up(self, candidate: _Candidate, now_ns: int) -> list[Effect]:
        entry = self._recent.get(candidate.key)
        if entry is not None:
            return self._meet(entry, candidate, now_ns)
        return self._ask(candidate.key, candidate)

    def _misplaced(self, candidate: _Candidate, now_ns: int) -> Refuse | None:
        """Refuse a record whose placement is not here, is led elsewhere, or is cut off."""
        tenant = self._directory.tenants.get(candidate.key[0])
        placement = OPEN_PLACEMENT if tenant is None else tenant.placement
        stream = self._streams.get(placement)
        if stream is None:
            return self._elsewhere(candidate, placement)
        refusal = stream.refusal(now_ns)
        if refusal is not None:
            return _refuse_with(refusal, candidate)
        if tenant is None or tenant.on_partition == "accept":
            return None
        if not stream.levels.is_cut_off(now_ns, after_ms=self._settings.cut_off_ms):
            return None
        text = "no other region of the placement answers"
        return _refuse_with(Refusal("unavailable", text), candidate)

    def _elsewhere(self, candidate: _Candidate, placement: str) -> Refuse:
        """Refuse what belongs to other regions: its bytes must not stay here."""
        endpoint = self._settings.elsewhere.get(placement)
        extras = None
        if endpoint is not None:
            extras = {"leader_hint": {"endpoint": endpoint, "region_epoch": 0}}
        text = "the tenant's placement does not include this region"
        refusal = _refuse_with(Refusal("wrong_region", text, extras), candidate)
        return refusal._replace(key=None)  # not even the log names what must not be here

    def _paced_by(self, tenant: Tenant, candidate: _Candidate, now_ns: int) -> list[Effect]:
        """Slow, then refuse, the writes of a tenant whose records are not replicated in time."""
        assert tenant.rpo_ms is not None
        bound = (tenant.id, tenant.rpo_ms)
        governor = self._governors.get(bound)
        if governor is None:
            governor = self._governors[bound] = Governor(tenant.rpo_ms)
        lag_ms = self._streams[tenant.placement].levels.lag_ms(now_ns)
        pace = governor.decide(lag_ms, now_ns)
        if pace.refuse:
            text = f"replication is more than the tenant's {tenant.rpo_ms} ms behind"
            refusal = _refuse_with(Refusal("unavailable", text), candidate)
            # A lag of hours may be made up in a second, so nobody is sent away for hours.
            return [refusal._replace(retry_after_ms=min(pace.wait_ms, GATE_RETRY_MS))]
        if not pace.wait_ms:
            return self._look_up(candidate, now_ns)
        at_ns = now_ns + pace.wait_ms * 1_000_000
        heapq.heappush(self._paced, (at_ns, next(self._numbers), candidate))
        return self._timer(at_ns)

    def _mismatch(self, candidate: _Candidate) -> Refuse | None:
        """Refuse a record whose tenant is named differently by header, record or batch."""
        request, tenant = candidate.request, candidate.key_record.tenant
        header, signed = request.tenant_header, candidate.record.get("tenant_id", tenant)
        if signed != tenant or (header is not None and header != tenant):
            text = "X-Tenant-Id, tenant_id and the tenant of kid must be one"
            return Refuse(candidate.token, "tenant_mismatch", text, key=candidate.key)
        if request.batch is not None:
            first = self._batch_tenants.setdefault(request.batch, tenant)
            if first != tenant:
                text = "all lines of a batch must be of one tenant"
                return Refuse(candidate.token, "tenant_mismatch", text, key=candidate.key)
        return None

    def _expired(self, candidate: _Candidate, now_ns: int) -> Refuse | None:
        """Refuse a record whose id may have been forgotten, where ids are forgotten at all."""
        ttl_ms = self._policies.for_tenant(candidate.key_record.tenant).dedup_ttl_ms
        if ttl_ms is None:
            return None
        try:
            check_fresh(candidate.record, ttl_ms=ttl_ms, now_ms=now_ns // 1_000_000)
        except ValidationError as error:
            return Refuse(
                candidate.token, error.code, error.message, error.pointer, key=candidate.key
            )
        return None

    def _over_quota(self, candidate: _Candidate, now_ns: int) -> Refuse | None:
        tenant = self._directory.tenants.get(candidate.key_record.tenant)
        quota = None if tenant is None else tenant.quota  # it may have gone meanwhile
        if tenant is None or quota is None:
            return None
        wait_ns = self._quota.take(
            tenant.id, rate_per_s=quota.per_s, burst=quota.burst, cost=1, now_ns=now_ns
        )
        if wait_ns:
            return _too_fast(candidate.token, "the tenant's quota is used up", wait_ns)
        return None

    def _ask(self, key: Key, asker: _Asker) -> list[Effect]:
        askers = self._asking.get(key)
        if askers is not None:
            askers.append(asker)
            return []
        self._asking[key] = [asker]
        if self._settings.claims and isinstance(asker, _Candidate):
            return [Ask(key, asker.canonical.content)]
        return [Ask(key)]

    # --- the store has answered

    def _on_store_answer(self, event: StoreAnswered, now_ns: int) -> list[Effect]:
        effects: list[Effect] = []
        askers = self._asking.pop(event.key)
        is_claimed = not self._settings.claims or isinstance(askers[0], _Candidate)
        unclaimed: list[_Candidate] = []
        for asker in askers:
            entry = self._recent.get(event.key)
            if isinstance(asker, ReadRequested):
                effects.append(self._read_answer(asker, entry, event.stored))
            elif isinstance(asker, _PeerItem):
                effects += self._meet_peer(asker, now_ns, event)
            elif entry is not None:
                effects += self._meet(entry, asker, now_ns)
            elif event.stored is None and not is_claimed:
                unclaimed.append(asker)
            else:
                effects += self._meet_store(asker, event, now_ns)
        for asker in unclaimed:  # whoever asked first had nothing to claim the id for
            effects += self._look_up(asker, now_ns)
        return effects

    def _meet_store(self, candidate: _Candidate, event: StoreAnswered, now_ns: int) -> list[Effect]:
        """Answer from what the store holds, or decide, if that is still ours to do."""
        refusal = self._misplaced(candidate, now_ns)  # what changed while the store was asked
        if refusal is not None:
            is_claimed = self._settings.claims and event.stored is None
            return [Release(candidate.key), refusal] if is_claimed else [refusal]
        if event.stored is None:
            return self._decide(candidate, now_ns)
        waiter = self._waiter(candidate, replayed=True)
        return self._settle(waiter, event.key, event.stored, now_ns, overridden=event.overridden)

    def _on_store_failure(self, event: StoreFailed, now_ns: int) -> list[Effect]:
        effects: list[Effect] = []
        for asker in self._asking.pop(event.key):
            if isinstance(asker, _PeerItem):
                effects += self._hold(asker, now_ns)
            else:
                effects.append(_store_failed(asker.token, event))
        return effects

    def _decide(self, candidate: _Candidate, now_ns: int) -> list[Effect]:
        """Decide about a new id: verify, give it its place in the log, and wait."""
        stream = self._stream_of(candidate.key)
        policy = self._policies.for_tenant(candidate.key_record.tenant)
        self._last_hlc = stamp = hlc.tick(self._last_hlc, now_ns)
        seq, stream.next_seq = stream.next_seq, stream.next_seq + 1
        verdict = verify(candidate.record, candidate.canonical.nanos, policy)
        outcome = outcome_bytes(
            verdict,
            pcs_id=candidate.key[1],
            policy_version=policy.version,
            region=self._settings.region,
            hlc=hlc.text(stamp),
        )
        content = candidate.canonical.content
        stored = Stored(seq, content, verdict.status, outcome, stream.origin, stamp)
        kid = candidate.key_record.kid
        self.kids_used.add(kid)
        entry = Entry(candidate.key, stored, kid)
        entry.waiters.append(self._waiter(candidate, replayed=False))
        self._recent[candidate.key] = entry
        stream.unsynced.append(entry)
        meta = write_facts(
            content=content,
            kid=kid,
            outcome=outcome,
            policy_version=policy.version,
            sig_v=candidate.record.get("sig_v", 1),
            status=stored.status,
            tenant=candidate.key[0],
        )
        frame = encode_frame(seq, stamp, meta, candidate.request.body)
        return [Append(seq, frame, stream.placement)]

    def _stream_of(self, key: Key) -> Stream:
        tenant = self._directory.tenants.get(key[0])
        return self._streams[OPEN_PLACEMENT if tenant is None else tenant.placement]

    def _meet(self, entry: Entry, candidate: _Candidate, now_ns: int) -> list[Effect]:
        """Answer from an outcome that the store does not hold yet, once it is durable."""
        waiter = self._waiter(candidate, replayed=True)
        if entry.durable:
            overridden = tuple(entry.overridden)
            return self._settle(waiter, entry.key, entry.stored, now_ns, overridden=overridden)
        entry.waiters.append(waiter)
        return []

    def _waiter(self, candidate: _Candidate, *, replayed: bool) -> Waiter:
        level = candidate.request.level
        if level is None:
            tenant = self._directory.tenants.get(candidate.key[0])
            level = "durable" if tenant is None else tenant.ack_level
        return Waiter(candidate.token, replayed, candidate.canonical.content, level)

    # --- the log has answered

    def _on_synced(self, event: FrameSynced, now_ns: int) -> list[Effect]:
        effects: list[Effect] = []
        stream = self._streams[event.placement]
        stream.durable_seq = event.seq
        stream.levels.synced(event.seq, now_ns)
        unsynced, may_write = stream.unsynced, stream.may_write(now_ns)
        while unsynced and unsynced[0].stored.seq <= event.seq:
            entry = unsynced.popleft()
            entry.durable = True
            effects.append(self._applied_later(entry, Apply(entry.key, entry.stored, entry.kid)))
            for waiter in entry.waiters:
                # A lease that was held anew meanwhile says nothing of who wrote in between.
                if may_write and entry.stored.origin == stream.origin:
                    effects += self._settle(waiter, entry.key, entry.stored, now_ns)
                else:
                    text = "recorded, but the lease of this region ended meanwhile"
                    effects.append(_recorded_only(waiter.token, text, entry.key, entry.stored))
            entry.waiters.clear()
            effects += self._meet_waiting(entry.key, now_ns)
        return effects

    def _settle(
        self,
        waiter: Waiter,
        key: Key,
        stored: Stored,
        now_ns: int,
        *,
        overridden: tuple[Stored, ...] = (),
    ) -> list[Effect]:
        """Answer one submission of an id whose first outcome is durable."""
        if waiter.content != stored.content:
            return [_conflict(waiter, key, stored, overridden)]
        level = self._level_of(stored)
        if waiter.level in ("durable", level):
            return [Answer(waiter.token, stored, waiter.replayed, key, level)]
        stream = self._streams.get(stored.origin.placement)
        if stream is None or not self._is_ours(stored) or waiter.level != "replicated":
            return [_not_reached(waiter, key, stored)]
        if not stream.levels.is_reachable:
            return [_not_reached(waiter, key, stored)]
        if stream.levels.is_displaced(stored.seq):
            return [_displaced_elsewhere(waiter, key, stored)]
        deadline_ns = now_ns + self._settings.replicated_wait_ms * 1_000_000
        stream.levels.park(stored.seq, deadline_ns, (waiter, key, stored))
        return self._timer(deadline_ns)

    def _level_of(self, stored: Stored) -> str:
        """Say how safe an outcome is; a peer's is durable there and, mirrored, here."""
        stream = self._streams.get(stored.origin.placement)
        if stream is None or not stream.levels.is_reachable:
            return "durable"
        if not self._is_ours(stored):
            return "replicated" if stream.levels.two_suffice else "durable"
        return "replicated" if stream.levels.is_replicated(stored.seq) else "durable"

    def _is_ours(self, stored: Stored) -> bool:
        return stored.origin.region == self._settings.region

    def _applied_later(self, entry: Entry, row: Apply) -> Apply:
        entry.rows += 1
        entry.kept = row.stored
        self._unapplied.append(entry)
        return row

    def _on_lost(self, event: FramesLost, now_ns: int) -> list[Effect]:
        stream = self._streams[event.placement]
        stream.lose_from(event.seq)
        effects: list[Effect] = []
        while stream.unsynced and stream.unsynced[-1].stored.seq >= event.seq:
            entry = stream.unsynced.pop()
            del self._recent[entry.key]
            effects += [
                _unavailable(waiter.token, "the write-ahead log has no space")
                for waiter in entry.waiters
            ]
            if self._settings.claims:
                effects.append(Release(entry.key))
            effects += self._meet_waiting(entry.key, now_ns)
        return effects

    def _on_space(self, event: SpaceReturned, now_ns: int) -> list[Effect]:
        self._streams[event.placement].has_space = True
        return []

    def _on_applied(self, event: ViewApplied, now_ns: int) -> list[Effect]:
        """Forget what the store holds.

        No answer on its way can say "new" about such an id: an id is asked about only while it
        has no entry, and gets one only from the answer.
        """
        while self._rows_applied < event.rows:
            self._rows_applied += 1
            self._let_go(self._unapplied.popleft())
        return []

    def _let_go(self, entry: Entry) -> None:
        entry.rows -= 1
        if not entry.rows:
            del self._recent[entry.key]

    # --- frames of other regions

    def _on_peer_frames(self, event: PeerFrames, now_ns: int) -> list[Effect]:
        if not event.frames:
            return [PeerMerged(event.token, ())]
        self._last_hlc = max(self._last_hlc, *(facts.stored.hlc for facts in event.frames))
        first = event.frames[0].stored
        stream = self._peers.get(first.origin[:2])
        if stream is None:
            stream = self._peers[first.origin[:2]] = _PeerStream(first.seq)
        batch = _PeerBatch(event.token, len(event.frames))
        effects: list[Effect] = []
        for facts in event.frames:
            seq = facts.stored.seq
            item = stream.unmet.get(seq)
            if item is not None:  # it was sent again while it waits
                item.batches.append(batch)
                continue
            item = stream.unmet[seq] = _PeerItem(stream, facts, [batch])
            effects += self._meet_or_ask(item, now_ns)
        return _asks_last(effects)

    def _meet_or_ask(self, item: _PeerItem, now_ns: int) -> list[Effect]:
        key = item.facts.key
        if key in self._recent:
            return self._meet_peer(item, now_ns, None)
        is_full = len(self._recent) >= self._settings.recent_max
        if is_full and item.facts.stored.seq > item.stream.next_seq:  # the next one makes room
            return self._hold(item, now_ns)
        return self._ask(key, item)

    def _hold(self, item: _PeerItem, now_ns: int) -> list[Effect]:
        self._stuck.append(item)
        return self._timer(now_ns + PEER_RETRY_MS * 1_000_000)

    def _meet_waiting(self, key: Key, now_ns: int) -> list[Effect]:
        """Let frames of peers meet an own one that is durable now, or lost; then nothing stands."""
        effects: list[Effect] = []
        for item in self._meeting.pop(key, ()):
            effects += self._meet_peer(item, now_ns, StoreAnswered(key, None))
        return effects

    def _meet_peer(self, item: _PeerItem, now_ns: int, known: StoreAnswered | None) -> list[Effect]:
        """Let a frame of a peer meet what stands; `known` is what the store says."""
        stream, facts = item.stream, item.facts
        seq, entry = facts.stored.seq, self._recent.get(facts.key)
        if entry is not None and not entry.durable:
            # It may yet be lost, and the peer's frame would stand.
            self._meeting.setdefault(facts.key, []).append(item)
            return []
        if entry is None:
            assert known is not None
            if seq < stream.next_seq:  # it was merged before, and is asked about once more
                return _met(item, known.stored)
            entry = self._recent[facts.key] = _entry_of(facts, known)
        effects: list[Effect] = []
        if seq >= stream.next_seq:
            entry.rows += 1
            stream.met[seq] = facts
            effects += self._merge(entry, facts.stored, now_ns)
            effects += self._give(stream)
        return effects + _met(item, entry.stored)

    def _merge(self, entry: Entry, frame: Stored, now_ns: int) -> list[Effect]:
        """Let the first of two outcomes stand; answer those who waited for the other's level."""
        if entry.stored is frame:  # the first of its id
            return []
        met = merge(frame, entry.stored, self._rank)
        if met.kind == SAME:
            return []
        entry.stored = met.winner
        if met.other not in entry.overridden:
            entry.overridden.append(met.other)
        stream = self._streams.get(met.other.origin.placement)
        if stream is None or met.winner is not frame or not self._is_ours(met.other):
            return []
        effects: list[Effect] = []
        overridden = tuple(entry.overridden)
        for parked in stream.levels.overridden(met.other.seq):
            waiter, key, _ = parked.waiter
            effects += self._settle(waiter, key, entry.stored, now_ns, overridden=overridden)
        return effects

    def _give(self, stream: _PeerStream) -> list[Effect]:
        """Give the store what is next of a stream.

        What a row says is held against what the store holds after the rows before it. That may
        differ from what stands already: a frame that has met waits for those before it.
        """
        effects: list[Effect] = []
        while (facts := stream.met.pop(stream.next_seq, None)) is not None:
            stream.next_seq += 1
            entry = self._recent[facts.key]
            row = resolve(facts.key, facts.stored, facts.kid, entry.kept, self._rank)
            if row is None:
                self._let_go(entry)
                continue
            if row.wins:
                entry.kept = row.stored
            self._unapplied.append(entry)
            self.kids_used.add(facts.kid)
            effects.append(row)
        return effects

    def _on_peer_acked(self, event: PeerAcked, now_ns: int) -> list[Effect]:
        levels = self._streams[event.placement].levels
        effects: list[Effect] = [
            _displaced_elsewhere(*parked.waiter) for parked in levels.displace(event.displaced)
        ]
        for parked in levels.acked(event.peer, event.seq, now_ns):
            waiter, key, stored = parked.waiter
            effects.append(Answer(waiter.token, stored, waiter.replayed, key, "replicated"))
        return effects

    def _on_stream_stopped(self, event: StreamStopped, now_ns: int) -> list[Effect]:
        self._streams[event.placement].stopped = event.reason
        return []

    def _on_peer_heard(self, event: PeerHeard, now_ns: int) -> list[Effect]:
        self._streams[event.placement].levels.heard(event.at_ns)
        return []

    def _on_lease(self, event: LeaseChanged, now_ns: int) -> list[Effect]:
        stream = self._streams[event.placement]
        stream.lease(
            event.until_ns, event.region_epoch, event.leader, taking_over=event.taking_over
        )
        if not event.until_ns or event.region_epoch <= stream.origin.region_epoch:
            return []
        stream.open_epoch(event.region_epoch)
        return [OpenEpoch(event.placement, event.region_epoch)]

    # --- time

    def _timer(self, at_ns: int) -> list[Effect]:
        if self._timer_ns is not None and self._timer_ns <= at_ns:
            return []
        self._timer_ns = at_ns
        return [SetTimer(at_ns)]

    def _on_timer(self, event: TimerFired, now_ns: int) -> list[Effect]:
        self._timer_ns = None
        effects: list[Effect] = []
        later = [self._timer_of(stream, now_ns, effects) for stream in self._streams.values()]
        while self._paced and self._paced[0][0] <= now_ns:
            candidate = heapq.heappop(self._paced)[2]
            refusal = self._misplaced(candidate, now_ns)  # what changed while it was held back
            effects += [refusal] if refusal is not None else self._look_up(candidate, now_ns)
        stuck, self._stuck = self._stuck, []
        for item in stuck:
            effects += self._meet_or_ask(item, now_ns)
        if self._paced:
            later.append(self._paced[0][0])
        due = [at_ns for at_ns in later if at_ns is not None]
        return _asks_last(effects + (self._timer(min(due)) if due else []))

    def _timer_of(self, stream: Stream, now_ns: int, effects: list[Effect]) -> int | None:
        for parked in stream.levels.expired(now_ns):
            waiter, key, stored = parked.waiter
            effects.append(_not_reached(waiter, key, stored))
        return stream.levels.next_deadline_ns()

    # --- the rest

    def _on_read(self, event: ReadRequested, now_ns: int) -> list[Effect]:
        key = (event.tenant, event.pcs_id)
        entry = self._recent.get(key)
        if entry is not None:
            return [self._read_answer(event, entry, None)]
        return self._ask(key, event)

    def _read_answer(
        self, event: ReadRequested, entry: Entry | None, stored: Stored | None
    ) -> Effect:
        if entry is not None and entry.durable:
            stored = entry.stored
        if stored is None:
            text = "this tenant has no outcome under this pcs_id"
            return Refuse(event.token, "not_found", text)
        key = (event.tenant, event.pcs_id)
        return Answer(event.token, stored, True, key, self._level_of(stored))

    def _on_batch_end(self, event: BatchEnded, now_ns: int) -> list[Effect]:
        self._batch_tenants.pop(event.batch, None)
        return []

    def _on_directory(self, event: DirectoryChanged, now_ns: int) -> list[Effect]:
        self._directory = event.directory
        return []

    def _on_policies(self, event: PoliciesChanged, now_ns: int) -> list[Effect]:
        self._policies = event.policies
        return []

    def _on_draining(self, event: Draining, now_ns: int) -> list[Effect]:
        self._draining = True
        return []

    def _on_resumed(self, event: Resumed, now_ns: int) -> list[Effect]:
        self._draining = False
        return []


# --- values from values --------------------------------------------------------------------


def _unavailable(token: Token, reason: str) -> Refuse:
    return Refuse(token, "unavailable", reason, retry_after_ms=GATE_RETRY_MS)


def _store_failed(token: Token, event: StoreFailed) -> Refuse:
    retry_after_ms = event.retry_after_ms or GATE_RETRY_MS
    return Refuse(token, event.code, "the store cannot answer", retry_after_ms=retry_after_ms)


def _too_fast(token: Token, reason: str, wait_ns: int) -> Refuse:
    return Refuse(token, "rate_limited", reason, retry_after_ms=-(-wait_ns // 1_000_000))


def _signature_job(candidate: _Candidate) -> CheckSignature:
    record = candidate.key_record
    return CheckSignature(
        candidate.token, record.alg, record.key, candidate.canonical.digest, _sig(candidate)
    )


def _check_now(candidate: _Candidate) -> None:
    record = candidate.key_record
    check_signature(record.alg, record.key, candidate.canonical.digest, _sig(candidate))


def _sig(candidate: _Candidate) -> str:
    sig: str = candidate.record["sig"]
    return sig


def _refuse_with(refusal: Refusal, candidate: _Candidate) -> Refuse:
    retry_ms = GATE_RETRY_MS if refusal.code in ("unavailable", "not_primary") else None
    return Refuse(
        candidate.token,
        refusal.code,
        refusal.message,
        retry_after_ms=retry_ms,
        key=candidate.key,
        extras=refusal.extras,
    )


def _conflict(waiter: Waiter, key: Key, stored: Stored, overridden: tuple[Stored, ...]) -> Refuse:
    """Refuse other content; to whom was acknowledged first and displaced, say so."""
    text = "this pcs_id was recorded with other content; the first outcome stands"
    mine = [other for other in overridden if other.content == waiter.content]
    extras = None
    if mine:
        extras = {
            "displaced": True,
            "first_acked": position(mine[0]),
            "winner": parse(stored.outcome),
        }
    return Refuse(waiter.token, "pcs_id_conflict", text, pointer="/pcs_id", key=key, extras=extras)


def _displaced_elsewhere(waiter: Waiter, key: Key, stored: Stored) -> Refuse:
    """Refuse content that lost in another region, whose winner is not known here yet."""
    text = "another region took other content under this pcs_id first"
    extras = {"displaced": True, "first_acked": position(stored)}
    return Refuse(waiter.token, "pcs_id_conflict", text, "/pcs_id", key=key, extras=extras)


def _entry_of(facts: Facts, known: StoreAnswered) -> Entry:
    """Make the entry of an id that a frame of a peer meets in the store, or is the first of."""
    return Entry(
        facts.key,
        known.stored or facts.stored,
        facts.kid,
        durable=True,
        kept=known.stored,
        overridden=list(known.overridden),
    )


def _asks_last(effects: list[Effect]) -> list[Effect]:
    """Put look-ups behind all else: an answer that comes at once has effects of its own.

    They would be carried out before what stands behind the look-up, although they follow it.
    """
    if len(effects) < 2:
        return effects
    asks: list[Effect] = [one for one in effects if isinstance(one, Ask)]
    return [one for one in effects if not isinstance(one, Ask)] + asks


def _met(item: _PeerItem, standing: Stored | None) -> list[Effect]:
    """Count a frame that has met, in each batch that waits for it."""
    frame = item.facts.stored
    del item.stream.unmet[frame.seq]
    effects: list[Effect] = []
    for batch in item.batches:
        batch.unmet -= 1
        if standing is not None and standing.content != frame.content:
            batch.displaced.append(frame.seq)
        if not batch.unmet:
            effects.append(PeerMerged(batch.token, tuple(sorted(batch.displaced))))
    return effects


def _not_reached(waiter: Waiter, key: Key, stored: Stored) -> Refuse:
    return _recorded_only(waiter.token, f"recorded, but not yet {waiter.level}", key, stored)


def _recorded_only(token: Token, text: str, key: Key, stored: Stored) -> Refuse:
    return Refuse(token, "unavailable", text, retry_after_ms=GATE_RETRY_MS, key=key, stored=stored)


__all__ = ["Ingest", "Settings"]
