"""What stays in which tier, for how long, and what a read of the slowest may cost.

This file owns the tier policy (spec/tiers.md 8): its defaults, whose word wins, which policies
contradict the dedup horizon or the retention, and every decision that follows from one: when an
entry expires, what is due to move, whether to promote, who may read cold now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from .faults import Fault
from .hlc import COUNTER_BITS
from .quota import NEVER_NS, Buckets

HOT: Final = "hot"
WARM: Final = "warm"
COLD: Final = "cold"

SECOND_MS: Final = 1_000
DAY_S: Final = 86_400

TENANT_BUCKETS_MAX: Final = 65_536
"""Tenants whose cold reads are counted at a time; the one that read longest ago is forgotten."""

FAST_CLASSES: Final = frozenset(
    {"STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR"}
)
"""Storage classes of S3 whose reads answer in milliseconds; the others take minutes to hours."""


@dataclass(frozen=True, slots=True)
class TierPolicy:
    """How one tenant's payloads are kept; lengths of time are seconds, and 0 is for ever."""

    fastest: str = HOT
    hot_ttl_s: int = 3_600
    warm_ttl_s: int = 604_800
    cold_ttl_s: int = 0
    promote_on: str = "true"
    cold_reads_per_s: float = 50
    cold_reads_burst: int = 200
    keep_s: int = 0
    erase_s: int = 0

    @classmethod
    def from_parameters(cls, chosen: Mapping[str, Any]) -> TierPolicy:
        """Build a policy of parameters that passed `spec/schemas/tiers.json`."""
        return cls(**{_FIELDS[name]: value for name, value in chosen.items()})


_FIELDS: Final = {
    "class": "fastest",
    "hot_ttl": "hot_ttl_s",
    "warm_ttl": "warm_ttl_s",
    "cold_ttl": "cold_ttl_s",
    **{
        name: name
        for name in ("promote_on", "cold_reads_per_s", "cold_reads_burst", "keep_s", "erase_s")
    },
}


@dataclass(frozen=True, slots=True)
class TierBook:
    """The policy of every tenant; those without an entry of their own share the default."""

    default: TierPolicy = TierPolicy()
    tenants: Mapping[str, TierPolicy] = field(default_factory=dict)
    overall_per_s: float = 200
    overall_burst: int = 1_000
    keeps_records: bool = False

    def for_tenant(self, tenant: str) -> TierPolicy:
        """Give the policy of a tenant."""
        return self.tenants.get(tenant, self.default)

    @classmethod
    def from_document(
        cls, document: Mapping[str, Any], environment: Mapping[str, int] | None = None
    ) -> TierBook:
        """Build the book of a file that passed the schema; the environment wins over its default.

        `environment` holds what TIER_HOT_TTL and TIER_WARM_TTL say, as `hot_ttl` and `warm_ttl`.
        """
        base = {**document.get("default", {}), **(environment or {})}
        overall = document.get("overall", {})
        own = document.get("tenants", {})
        return cls(
            TierPolicy.from_parameters(base),
            {name: TierPolicy.from_parameters({**base, **over}) for name, over in own.items()},
            overall.get("cold_reads_per_s", 200),
            overall.get("cold_reads_burst", 1_000),
            document.get("records", False),
        )


DedupTtl = Callable[[str | None], int | None]
"""Gives the dedup horizon of a tenant, or of those without an entry (None), in seconds."""


def policy_faults(
    book: TierBook,
    *,
    dedup_ttl_s: DedupTtl,
    condition_problem: Callable[[str], str | None],
    has_cold: bool,
) -> list[Fault]:
    """Say what in a book contradicts itself, the dedup horizon or the retention."""
    faults: list[Fault] = []
    for tenant, policy in ((None, book.default), *sorted(book.tenants.items())):
        at = "/default" if tenant is None else f"/tenants/{tenant}"
        faults += _life_faults(at, policy, dedup_ttl_s(tenant))
        faults += _retention_faults(at, policy)
        # What a tenant inherits is said once, of the default.
        is_own = tenant is None or not book.default.warm_ttl_s
        if policy.warm_ttl_s and not has_cold and is_own:
            problem = "payloads leave warm, and there is no cold store"
            faults.append(Fault(f"{at}/warm_ttl", problem, "name tiers.cold, or set warm_ttl: 0"))
        if tenant is None or policy.promote_on != book.default.promote_on:
            faults += _condition_faults(at, condition_problem(policy.promote_on))
    return faults


def _condition_faults(at: str, problem: str | None) -> Iterator[Fault]:
    if problem is not None:
        fix = "use access_count, age_s, size_bytes and tier; the result is true or false"
        yield Fault(f"{at}/promote_on", problem, fix)


def _life_faults(at: str, policy: TierPolicy, dedup_ttl_s: int | None) -> Iterator[Fault]:
    cold_ttl_s = policy.cold_ttl_s
    if not cold_ttl_s:
        return
    if dedup_ttl_s is None:
        problem = "payloads end, but their ids stay taken for ever: a duplicate has no answer"
        yield Fault(f"{at}/cold_ttl", problem, "set cold_ttl: 0, or give the tenant a dedup_ttl")
    elif cold_ttl_s < dedup_ttl_s:
        problem = f"payloads end before the dedup horizon of {dedup_ttl_s} s"
        yield Fault(f"{at}/cold_ttl", problem, f"at least {dedup_ttl_s}, or 0 for ever")
    if not policy.warm_ttl_s or cold_ttl_s <= policy.warm_ttl_s:
        problem = "payloads end before they reach cold"
        yield Fault(f"{at}/cold_ttl", problem, "make it longer than warm_ttl, which is not 0")


def _retention_faults(at: str, policy: TierPolicy) -> Iterator[Fault]:
    cold_ttl_s, keep_s, erase_s = policy.cold_ttl_s, policy.keep_s, policy.erase_s
    if 0 < cold_ttl_s < keep_s:
        problem = f"payloads end before the retention of {keep_s} s"
        yield Fault(f"{at}/cold_ttl", problem, f"at least {keep_s}, or 0 for ever")
    if erase_s and not 0 < cold_ttl_s <= erase_s:
        problem = f"payloads outlive erase_s, {erase_s} s"
        yield Fault(f"{at}/cold_ttl", problem, f"1 to {erase_s}")
    if 0 < erase_s < keep_s:
        problem = f"to be gone after {erase_s} s and to be kept for {keep_s} s"
        yield Fault(f"{at}/keep_s", problem, "at most erase_s")


# --- expiry


def written_ms(stamp: int) -> int:
    """Give the Unix time of a hybrid clock's value."""
    return stamp >> COUNTER_BITS


def ends_ms(policy: TierPolicy, written_at_ms: int) -> int | None:
    """Say when a payload ends (spec/tiers.md 5.4), or None."""
    return written_at_ms + policy.cold_ttl_s * SECOND_MS if policy.cold_ttl_s else None


def hot_until_ms(policy: TierPolicy, written_at_ms: int, now_ms: int) -> int | None:
    """Say until when a payload may be hot from now on; None: not at all."""
    end_ms = ends_ms(policy, written_at_ms)
    until_ms = now_ms + policy.hot_ttl_s * SECOND_MS
    until_ms = until_ms if end_ms is None else min(until_ms, end_ms)
    return until_ms if policy.fastest == HOT and until_ms > now_ms else None


def warm_until_ms(policy: TierPolicy, written_at_ms: int, now_ms: int) -> int | None:
    """Say until when a payload that was promoted may stay warm; None: not promoted."""
    end_ms = ends_ms(policy, written_at_ms)
    until_ms = now_ms + policy.warm_ttl_s * SECOND_MS
    until_ms = until_ms if end_ms is None else min(until_ms, end_ms)
    return until_ms if policy.fastest != COLD and until_ms > now_ms else None


# --- what moves when


class Scanned(NamedTuple):
    """One row of warm, as the mover looks at it; `number` is its place in warm, ascending."""

    number: int
    tenant: str
    placement: str
    written_ms: int
    size: int  # bytes of the payload in warm; 0 if it is elsewhere
    object: str | None  # the cold object that holds it


class Due(NamedTuple):
    """What of a scan has to move, and up to which number the scan said all there is to say."""

    rows: tuple[Scanned, ...]
    examined: int


def classes(book: TierBook, tenants: Iterable[str]) -> dict[int, frozenset[str]]:
    """Group tenants by the age in seconds at which their payloads leave warm.

    Each group is scanned with a place of its own, so that one tenant that keeps payloads warm
    for a year does not hold up the others.
    """
    groups: dict[int, set[str]] = {}
    for tenant in tenants:
        policy = book.for_tenant(tenant)
        if policy.warm_ttl_s:
            age_s = 0 if policy.fastest == COLD else policy.warm_ttl_s
            groups.setdefault(age_s, set()).add(tenant)
    return {age_s: frozenset(group) for age_s, group in sorted(groups.items())}


def endings(book: TierBook, tenants: Iterable[str]) -> dict[int, frozenset[str]]:
    """Group tenants by the age in seconds at which their payloads end."""
    groups: dict[int, set[str]] = {}
    for tenant in tenants:
        if ttl_s := book.for_tenant(tenant).cold_ttl_s:
            groups.setdefault(ttl_s, set()).add(tenant)
    return {ttl_s: frozenset(group) for ttl_s, group in sorted(groups.items())}


def due(
    rows: Iterable[Scanned], *, tenants: frozenset[str], age_s: int, now_ms: int, after: int
) -> Due:
    """Choose from rows in order of number the payloads of `tenants` that are `age_s` old or more.

    A payload that was promoted is no such row: cold has it, and it goes by its own time. The
    scan ends at the first row of these tenants that is too young: what follows it is looked at
    again.
    """
    chosen, examined = [], after
    for row in rows:
        if row.tenant in tenants:
            if row.written_ms + age_s * SECOND_MS > now_ms:
                break
            if row.size and row.object is None:
                chosen.append(row)
        examined = row.number
    return Due(tuple(chosen), examined)


def batches(
    rows: Iterable[Scanned], *, entries_max: int, bytes_max: int
) -> list[tuple[Scanned, ...]]:
    """Cut rows into objects: one placement and one tenant each, bounded in count and bytes."""
    groups: dict[tuple[str, str], list[list[Scanned]]] = {}
    sizes: dict[tuple[str, str], int] = {}
    for row in rows:
        name = (row.placement, row.tenant)
        lists = groups.setdefault(name, [[]])
        full = len(lists[-1]) >= entries_max or sizes.get(name, 0) + row.size > bytes_max
        if full and lists[-1]:
            lists.append([])
            sizes[name] = 0
        lists[-1].append(row)
        sizes[name] = sizes.get(name, 0) + row.size
    return [tuple(rows) for lists in groups.values() for rows in lists]


# --- promotion


class Access(NamedTuple):
    """What a condition of promotion may look at."""

    access_count: int
    age_s: int
    size_bytes: int
    tier: str


class Accesses:
    """Count accesses per key, for the newest keys; what is forgotten counts from 0 again."""

    def __init__(self, *, keys_max: int) -> None:
        self._keys_max = keys_max
        self._counts: dict[tuple[str, str], int] = {}

    def count(self, key: tuple[str, str]) -> int:
        """Count one access, and give how many there were."""
        counts = self._counts
        seen = counts.pop(key, 0) + 1  # it goes behind the others: those forgotten are old
        if len(counts) >= self._keys_max:
            for old in list(counts)[: max(1, self._keys_max // 2)]:
                del counts[old]
        counts[key] = seen
        return seen


# --- the budget of cold reads


class Refused(NamedTuple):
    """A cold read that must wait: whose budget is used up, and for how long."""

    code: str  # "rate_limited": the tenant's own; "unavailable": that of all
    wait_ms: int


class Budget:
    """Say who may read cold now: a bucket per tenant, and one for all (spec/tiers.md 3.4)."""

    def __init__(self, book: TierBook) -> None:
        self._book = book
        self._tenants = Buckets(max_buckets=TENANT_BUCKETS_MAX)
        self._overall = Buckets(max_buckets=1)

    def take(self, tenant: str, now_ns: int) -> Refused | None:
        """Take a token of both, or of neither."""
        policy, book = self._book.for_tenant(tenant), self._book
        own: dict[str, Any] = {
            "rate_per_s": policy.cold_reads_per_s, "burst": policy.cold_reads_burst,
            "cost": 1, "now_ns": now_ns,
        }  # fmt: skip
        wait_ns = self._tenants.peek(tenant, **own)
        if wait_ns:
            return Refused("rate_limited", _wait_ms(wait_ns))
        wait_ns = self._overall.take(
            "", rate_per_s=book.overall_per_s, burst=book.overall_burst, cost=1, now_ns=now_ns
        )
        if wait_ns:
            return Refused("unavailable", _wait_ms(wait_ns))
        self._tenants.take(tenant, **own)
        return None


def _wait_ms(wait_ns: int) -> int:
    return -(-min(wait_ns, NEVER_NS) // 1_000_000)


# --- the lifecycle of a bucket


class LifecycleRule(NamedTuple):
    """One rule: after so many days objects under a prefix are removed, or change their class."""

    prefix: str
    expire_days: int | None
    move_days: int | None = None
    storage_class: str | None = None


def lifecycle(
    book: TierBook, placements: Iterable[str], *, move_days: int | None, storage_class: str
) -> list[LifecycleRule]:
    """Give the rules that follow from a book: a second line behind the mover's own removal.

    An object holds payloads that are `warm_ttl` old or older, so a rule that counts `cold_ttl`
    from its making never comes before spec/tiers.md 5.4. One day more is for the clocks.
    """
    rules = []
    for placement in placements:
        for tenant, policy in sorted(book.tenants.items()):
            if policy.cold_ttl_s:
                days = -(-policy.cold_ttl_s // DAY_S) + 1
                rules.append(LifecycleRule(f"{placement}/t-{tenant}/", days))
        if move_days is not None:
            rules.append(LifecycleRule(f"{placement}/", None, move_days, storage_class))
    return rules


def lifecycle_faults(book: TierBook, *, expire_days: int | None, storage_class: str) -> list[Fault]:
    """Refuse rules that a person asks for and that the policy contradicts (spec/tiers.md 8.7)."""
    faults = []
    if storage_class not in FAST_CLASSES:
        problem = f"reads of {storage_class} take minutes to hours"
        faults.append(Fault("/storage_class", problem, f"one of {', '.join(sorted(FAST_CLASSES))}"))
    if expire_days is None:
        return faults
    for tenant, policy in ((None, book.default), *sorted(book.tenants.items())):
        at = "/default" if tenant is None else f"/tenants/{tenant}"
        if tenant is not None and policy.cold_ttl_s == book.default.cold_ttl_s:
            continue  # what is inherited was said of the default
        kept_s = max(policy.cold_ttl_s, policy.keep_s)
        if policy.cold_ttl_s == 0:
            problem = f"kept for ever, and the bucket would remove it after {expire_days} days"
            faults.append(Fault(f"{at}/cold_ttl", problem, "no --expire-days, or a cold_ttl"))
        elif expire_days * DAY_S < kept_s:
            problem = f"kept for {kept_s} s, and the bucket would remove it before"
            faults.append(Fault(f"{at}/cold_ttl", problem, f"at least {-(-kept_s // DAY_S)} days"))
    return faults


def lifecycle_document(rules: Iterable[LifecycleRule]) -> dict[str, Any]:
    """Write rules as S3 takes them (PutBucketLifecycleConfiguration)."""
    written = []
    for number, rule in enumerate(rules, 1):
        entry: dict[str, Any] = {
            "ID": f"flk-{number}",
            "Status": "Enabled",
            "Filter": {"Prefix": rule.prefix},
        }
        if rule.expire_days is not None:
            entry["Expiration"] = {"Days": rule.expire_days}
        if rule.move_days is not None:
            entry["Transitions"] = [{"Days": rule.move_days, "StorageClass": rule.storage_class}]
        written.append(entry)
    return {"Rules": written}
