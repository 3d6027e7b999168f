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

# tidy: long because the machine and the values it speaks in are read together

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypedDict

from fractal_lba.canonical import Canonical, canonicalize, parse
from fractal_lba.errors import FractalLBAError, SignatureError, ValidationError
from fractal_lba.ids import derive_pcs_id
from fractal_lba.sign import check_signature

from . import hlc
from .facts import Key, Stored, write_facts
from .policy import PolicyBook
from .quota import Buckets, address_name
from .record import check_fresh
from .segment import encode_frame
from .tenants import Directory, KeyRecord
from .verify import outcome_bytes, verify

RECENT_MAX: Final = 262_144
"""Most outcomes that may wait for the index; beyond it the gate closes."""

GATE_RETRY_MS: Final = 1_000
"""What a client is told to wait while the gate is closed."""

Token = Hashable


# --- events --------------------------------------------------------------------------------


class BodyReceived(NamedTuple):
    """A record has arrived. `batch` names the batch it is a line of."""

    token: Token
    body: bytes
    tenant_header: str | None = None
    address: str = ""
    level: str = "durable"
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


class StoreFailed(NamedTuple):
    """The store cannot answer `Ask`: that is not the same as "new"."""

    key: Key


class FrameSynced(NamedTuple):
    """Every frame up to and including `seq` is durable."""

    seq: int


class FramesLost(NamedTuple):
    """No frame from `seq` on was written, and none will be: the log has no space."""

    seq: int


class SpaceReturned(NamedTuple):
    """The log can write again."""


class ViewApplied(NamedTuple):
    """The store holds every outcome up to and including `seq`."""

    seq: int


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


# --- effects -------------------------------------------------------------------------------


class Append(NamedTuple):
    """Make this frame durable, in order, then say `FrameSynced`."""

    seq: int
    frame: bytes


class Ask(NamedTuple):
    """Look this id up in the store."""

    key: Key


class CheckSignature(NamedTuple):
    """Check this signature off the main path, then say `SignatureChecked`."""

    token: Token
    alg: str
    key: bytes
    digest: bytes
    sig: str


class Apply(NamedTuple):
    """Put this durable outcome into the store, in order of `seq`, at leisure."""

    key: Key
    stored: Stored
    kid: str


class Answer(NamedTuple):
    """The stored outcome, to this request."""

    token: Token
    stored: Stored
    replayed: bool
    key: Key


class Refuse(NamedTuple):
    """A refusal, to this request. `seq` is set if the record was recorded all the same."""

    token: Token
    code: str
    message: str
    pointer: str | None = None
    retry_after_ms: int | None = None
    key: Key | None = None
    seq: int | None = None


Effect = Append | Ask | CheckSignature | Apply | Answer | Refuse


# --- the machine ---------------------------------------------------------------------------


class _Candidate(NamedTuple):
    """A record on its way: read, and perhaps authentic, but not yet decided."""

    token: Token
    request: BodyReceived
    record: Mapping[str, Any]
    canonical: Canonical
    key_record: KeyRecord
    key: Key


class _Waiter(NamedTuple):
    token: Token
    replayed: bool
    content: str
    level: str


@dataclass(slots=True)
class _Entry:
    """An outcome that the store does not hold yet."""

    key: Key
    stored: Stored
    kid: str
    durable: bool = False
    waiters: list[_Waiter] = field(default_factory=list)


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


class Ingest:
    """Decide about submitted records. State is plain data; `on_event` is the only entry."""

    def __init__(
        self,
        settings: Settings,
        *,
        check: Callable[[Mapping[str, Any]], None],
        directory: Directory,
        policies: PolicyBook,
        next_seq: int = 1,
        last_hlc: int = 0,
    ) -> None:
        self._settings = settings
        self._check = check
        self._directory = directory
        self._policies = policies
        self._next_seq = next_seq
        self._last_hlc = last_hlc
        self._recent: dict[Key, _Entry] = {}
        self._unsynced: deque[_Entry] = deque()
        self._unapplied: deque[_Entry] = deque()
        self._asking: dict[Key, list[_Candidate | ReadRequested]] = {}
        self._checking: dict[Token, _Candidate] = {}
        self._batch_tenants: dict[Hashable, str] = {}
        self._quota = Buckets(max_buckets=settings.max_addresses)
        self._strangers = Buckets(max_buckets=settings.max_addresses)
        rate = settings.unauthenticated_per_s
        self._strangers_rate: _Rate = {"rate_per_s": rate, "burst": max(1, math.ceil(rate))}
        self.kids_used: set[str] = set()
        """Key ids of all that was decided since the start."""
        self._draining = False
        self._has_space = True
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
        }

    def on_event(self, event: object, now_ns: int) -> list[Effect]:
        """Take one event at Unix time `now_ns`; give what must be carried out, in order."""
        return self._handlers[type(event)](event, now_ns)

    def closed(self, now_ns: int) -> str | None:
        """Say why no record is taken now, or None if records are taken."""
        if self._draining:
            return "the server is draining"
        if not self._has_space:
            return "the write-ahead log has no space"
        settings = self._settings
        if len(self._recent) >= settings.recent_max:
            return "the index is too far behind the log"
        if hlc.ahead_ms(self._last_hlc, now_ns) > settings.max_skew_ms:
            return "the clock stands behind the log"
        return None

    @property
    def in_flight(self) -> int:
        """Count the frames that are not yet durable."""
        return len(self._unsynced)

    @property
    def recent(self) -> int:
        """Count the outcomes that the store does not hold yet."""
        return len(self._recent)

    # --- a record comes in

    def _on_body(self, event: BodyReceived, now_ns: int) -> list[Effect]:
        reason = self.closed(now_ns)
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
            or self._expired(candidate, now_ns)
            or self._over_quota(candidate, now_ns)
        )
        if refusal is not None:
            return [refusal]
        entry = self._recent.get(candidate.key)
        if entry is not None:
            return self._meet(entry, candidate)
        return self._ask(candidate.key, candidate)

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

    def _ask(self, key: Key, asker: _Candidate | ReadRequested) -> list[Effect]:
        askers = self._asking.get(key)
        if askers is not None:
            askers.append(asker)
            return []
        self._asking[key] = [asker]
        return [Ask(key)]

    # --- the store has answered

    def _on_store_answer(self, event: StoreAnswered, now_ns: int) -> list[Effect]:
        effects: list[Effect] = []
        for asker in self._asking.pop(event.key):
            entry = self._recent.get(event.key)
            if isinstance(asker, ReadRequested):
                effects.append(_read_answer(asker, entry, event.stored))
            elif entry is not None:
                effects += self._meet(entry, asker)
            elif event.stored is not None:
                effects.append(_compare(asker, event.stored))
            else:
                effects += self._decide(asker, now_ns)
        return effects

    def _on_store_failure(self, event: StoreFailed, now_ns: int) -> list[Effect]:
        askers = self._asking.pop(event.key)
        return [_unavailable(asker.token, "the store cannot answer") for asker in askers]

    def _decide(self, candidate: _Candidate, now_ns: int) -> list[Effect]:
        """Decide about a new id: verify, give it its place in the log, and wait."""
        if not self._has_space:  # lost while the store was asked
            return [_unavailable(candidate.token, "the write-ahead log has no space")]
        policy = self._policies.for_tenant(candidate.key_record.tenant)
        self._last_hlc = stamp = hlc.tick(self._last_hlc, now_ns)
        seq, self._next_seq = self._next_seq, self._next_seq + 1
        verdict = verify(candidate.record, candidate.canonical.nanos, policy)
        outcome = outcome_bytes(
            verdict,
            pcs_id=candidate.key[1],
            policy_version=policy.version,
            region=self._settings.region,
            hlc=hlc.text(stamp),
        )
        stored = Stored(seq, candidate.canonical.content, verdict.status, outcome)
        kid = candidate.key_record.kid
        self.kids_used.add(kid)
        entry = _Entry(candidate.key, stored, kid, False, [_waiter(candidate, replayed=False)])
        self._recent[candidate.key] = entry
        self._unsynced.append(entry)
        meta = write_facts(
            content=stored.content,
            kid=kid,
            outcome=outcome,
            policy_version=policy.version,
            sig_v=candidate.record.get("sig_v", 1),
            status=stored.status,
            tenant=candidate.key[0],
        )
        return [Append(seq, encode_frame(seq, stamp, meta, candidate.request.body))]

    def _meet(self, entry: _Entry, candidate: _Candidate) -> list[Effect]:
        """Answer from an outcome that the store does not hold yet, once it is durable."""
        if entry.durable:
            return [_compare(candidate, entry.stored)]
        entry.waiters.append(_waiter(candidate, replayed=True))
        return []

    # --- the log has answered

    def _on_synced(self, event: FrameSynced, now_ns: int) -> list[Effect]:
        effects: list[Effect] = []
        unsynced = self._unsynced
        while unsynced and unsynced[0].stored.seq <= event.seq:
            entry = unsynced.popleft()
            entry.durable = True
            self._unapplied.append(entry)
            effects.append(Apply(entry.key, entry.stored, entry.kid))
            effects += [_settle(waiter, entry.key, entry.stored) for waiter in entry.waiters]
            entry.waiters.clear()
        return effects

    def _on_lost(self, event: FramesLost, now_ns: int) -> list[Effect]:
        self._has_space = False
        self._next_seq = event.seq
        effects: list[Effect] = []
        while self._unsynced and self._unsynced[-1].stored.seq >= event.seq:
            entry = self._unsynced.pop()
            del self._recent[entry.key]
            effects += [
                _unavailable(waiter.token, "the write-ahead log has no space")
                for waiter in entry.waiters
            ]
        return effects

    def _on_space(self, event: SpaceReturned, now_ns: int) -> list[Effect]:
        self._has_space = True
        return []

    def _on_applied(self, event: ViewApplied, now_ns: int) -> list[Effect]:
        """Forget what the store holds.

        No answer on its way can say "new" about such an id: an id is asked about only while it
        has no entry, and gets one only from the answer.
        """
        while self._unapplied and self._unapplied[0].stored.seq <= event.seq:
            del self._recent[self._unapplied.popleft().key]
        return []

    # --- the rest

    def _on_read(self, event: ReadRequested, now_ns: int) -> list[Effect]:
        key = (event.tenant, event.pcs_id)
        entry = self._recent.get(key)
        if entry is not None:
            return [_read_answer(event, entry, None)]
        return self._ask(key, event)

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


# --- values from values --------------------------------------------------------------------


def _unavailable(token: Token, reason: str) -> Refuse:
    return Refuse(token, "unavailable", reason, retry_after_ms=GATE_RETRY_MS)


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


def _waiter(candidate: _Candidate, *, replayed: bool) -> _Waiter:
    return _Waiter(candidate.token, replayed, candidate.canonical.content, candidate.request.level)


def _settle(waiter: _Waiter, key: Key, stored: Stored) -> Effect:
    """Answer one submission of an id whose first outcome is durable."""
    if waiter.content != stored.content:
        return _conflict(waiter.token, key)
    if waiter.level != "durable":
        return _not_reached(waiter, key, stored)
    return Answer(waiter.token, stored, waiter.replayed, key)


def _compare(candidate: _Candidate, stored: Stored) -> Effect:
    return _settle(_waiter(candidate, replayed=True), candidate.key, stored)


def _conflict(token: Token, key: Key) -> Refuse:
    text = "this pcs_id was recorded with other content; the first outcome stands"
    return Refuse(token, "pcs_id_conflict", text, pointer="/pcs_id", key=key)


def _not_reached(waiter: _Waiter, key: Key, stored: Stored) -> Refuse:
    text = f"recorded, but not yet {waiter.level}"
    return Refuse(
        waiter.token, "unavailable", text, retry_after_ms=GATE_RETRY_MS, key=key, seq=stored.seq
    )


def _read_answer(event: ReadRequested, entry: _Entry | None, stored: Stored | None) -> Effect:
    if entry is not None and entry.durable:
        stored = entry.stored
    if stored is None:
        return Refuse(event.token, "not_found", "this tenant has no outcome under this pcs_id")
    return Answer(event.token, stored, True, (event.tenant, event.pcs_id))
