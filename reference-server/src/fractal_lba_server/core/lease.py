"""Own who may write to a placement that has one writer at a time (spec/roles.md 3).

The invariant of this file: between the moment at which a holder trusts a lease for the last time
and the first lease of another region epoch, the arbiter has waited long enough for the slowest
clock within `max_drift_ms`. Neither side reads wall time or the other's clock: a holder counts
from the moment at which it sent its request, the arbiter from the moment at which it granted.

The arbiter's row is a value. What changes it is persisted before the answer leaves (`persist`),
and a row that was read from the store after a restart is as busy as if a lease had just been
granted: renewals are not persisted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from .faults import DocumentError, Fault
from .health import NS_PER_MS

TTL_MS: Final = 5_000
"""How long a lease lasts."""

RENEW_MS: Final = 1_000
"""How often its holder asks for the next one."""

MAX_DRIFT_MS: Final = 250
"""How far two clocks may part while a lease lasts: 5 % of it, a hundred times a bad quartz."""

FIRST_EPOCH: Final = 1
"""The region epoch of a placement before any promotion."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The numbers that an arbiter and its regions agree on; DocumentError for useless ones."""

    ttl_ms: int = TTL_MS
    renew_ms: int = RENEW_MS
    max_drift_ms: int = MAX_DRIFT_MS

    def __post_init__(self) -> None:
        if not 0 <= self.max_drift_ms or self.ttl_ms <= self.max_drift_ms + 2 * self.renew_ms:
            text = "expected more than max_drift_ms and two renewals: one may be lost"
            raise DocumentError([Fault("/ttl_ms", text, "make it longer")])

    @property
    def ttl_ns(self) -> int:
        return self.ttl_ms * NS_PER_MS

    @property
    def drift_ns(self) -> int:
        return self.max_drift_ms * NS_PER_MS


# --- the arbiter ---------------------------------------------------------------------------


class Lease(NamedTuple):
    """What the arbiter keeps of a placement."""

    placement: str
    region_epoch: int
    holder: str | None
    """Who may be granted leases of this epoch; None after a fence without a promotion."""
    granted: bool
    """Whether a lease of this epoch was ever granted."""
    previous: str | None = None
    """Who held the epoch before."""


class Mark(NamedTuple):
    """Orders what one holder sends: its process, and the number of the message in it."""

    process: str
    number: int


class Row(NamedTuple):
    """A lease, and until when somebody may trust one that was granted before."""

    lease: Lease
    busy_until_ns: int
    last: Mark | None = None
    """The newest request that was granted since the arbiter's start."""


class Granted(NamedTuple):
    """The asker may write at `region_epoch` for `ttl_ms` from the sending of its request."""

    region_epoch: int
    ttl_ms: int


class Promoted(NamedTuple):
    """The asker was promoted: it asks again at `region_epoch`, once it is ready."""

    region_epoch: int


class NotYet(NamedTuple):
    """The asker comes next, but an older lease may still be trusted for so long."""

    region_epoch: int
    wait_ms: int


class NotLeader(NamedTuple):
    """Another region may write, or none: where one was promoted that has no lease yet, too."""

    region_epoch: int
    leader: str | None


class Behind(NamedTuple):
    """The asker knows a later epoch than the arbiter, whose state is therefore an old copy."""

    region_epoch: int


class Fenced(NamedTuple):
    """Nobody may write from now on, before a region is promoted."""

    region_epoch: int


class Moved(NamedTuple):
    """Nothing was changed: the epoch is another one than whoever decided had seen."""

    region_epoch: int


Answer = Granted | Promoted | NotYet | NotLeader | Behind | Fenced | Moved


class Decision(NamedTuple):
    """The row from now on; with `persist` its lease is made durable before `answer` leaves."""

    row: Row
    answer: Answer
    persist: bool = False


def restarted(lease: Lease, now_ns: int, terms: Terms) -> Row:
    """Make the row of a lease that was read from the store."""
    return Row(lease, now_ns + terms.ttl_ns + terms.drift_ns)


def founded(placement: str, primary: str, now_ns: int, terms: Terms) -> Row:
    """Make the row of a placement that no arbiter of this store has served before.

    Another store may have, and have been lost: the primary counts as if it had a lease.
    """
    return restarted(Lease(placement, FIRST_EPOCH, primary, granted=True), now_ns, terms)


def ask(
    row: Row, region: str, region_epoch: int, mark: Mark, now_ns: int, terms: Terms
) -> Decision:
    """Answer a region that wants to write, or to know who does."""
    lease = row.lease
    if region_epoch > lease.region_epoch:
        return Decision(row, Behind(lease.region_epoch))
    if region != lease.holder:
        return Decision(row, _elsewhere(lease))
    if region_epoch < lease.region_epoch:
        return Decision(row, Promoted(lease.region_epoch))
    if not lease.granted and now_ns < row.busy_until_ns:
        wait_ms = -(-(row.busy_until_ns - now_ns) // NS_PER_MS)
        return Decision(row, NotYet(lease.region_epoch, wait_ms))
    busy_until_ns = now_ns + terms.ttl_ns + terms.drift_ns
    granted = Row(lease._replace(granted=True), busy_until_ns, _newest(row.last, mark))
    return Decision(granted, Granted(lease.region_epoch, terms.ttl_ms), persist=not lease.granted)


def promote(
    row: Row, candidate: str | None, seen_epoch: int, now_ns: int, terms: Terms
) -> Decision:
    """Give the next region epoch to a candidate, or with None to nobody (a fence).

    `seen_epoch` is the one that whoever decided had seen: of two who decide at once, one is
    refused. The same decision twice is one. Whoever has seen a later epoch than ours knows that
    our state is an old copy: the next epoch is above theirs, and whoever holds it is waited for.
    """
    lease = row.lease
    kind = Fenced if candidate is None else Promoted
    if seen_epoch < lease.region_epoch:
        is_repeated = seen_epoch + 1 == lease.region_epoch and candidate == lease.holder
        return Decision(row, (kind if is_repeated else Moved)(lease.region_epoch))
    busy_until_ns = row.busy_until_ns
    if seen_epoch > lease.region_epoch:
        busy_until_ns = max(busy_until_ns, now_ns + terms.ttl_ns + terms.drift_ns)
    following = Lease(
        lease.placement, seen_epoch + 1, candidate, granted=False,
        previous=lease.holder if lease.holder is not None else lease.previous,
    )  # fmt: skip
    answer = kind(following.region_epoch)
    return Decision(Row(following, busy_until_ns), answer, persist=True)


def release(row: Row, region: str, region_epoch: int, mark: Mark, now_ns: int) -> Row:
    """Take the word of a holder that it trusts no lease for which it asked before `mark`.

    A word that was overtaken by a later request, or that is from before the arbiter's start,
    counts for nothing: the lease then runs out by itself.
    """
    lease, last = row.lease, row.last
    if (region, region_epoch) != (lease.holder, lease.region_epoch) or last is None:
        return row
    if mark.process != last.process or mark.number <= last.number:
        return row
    return row._replace(busy_until_ns=min(row.busy_until_ns, now_ns))


def _elsewhere(lease: Lease) -> NotLeader:
    return NotLeader(lease.region_epoch, lease.holder if lease.granted else None)


def _newest(last: Mark | None, mark: Mark) -> Mark:
    return last if last is not None and last.process == mark.process and last > mark else mark


# --- the holder ----------------------------------------------------------------------------


class Holder:
    """One region's trust in its lease of one placement. Plain state; time is an argument.

    `now_ns` is of a clock that is never set: not wall time.
    """

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._sent: dict[int, int] = {}
        self._number = 0
        self.region_epoch = 0
        self.until_ns = 0

    def send(self, now_ns: int) -> int:
        """Note that a request is about to be sent; give its number."""
        self._number += 1
        oldest_ns = now_ns - self._terms.ttl_ns
        self._sent = {n: at_ns for n, at_ns in self._sent.items() if at_ns > oldest_ns}
        self._sent[self._number] = now_ns
        return self._number

    def granted(self, number: int, answer: Granted, region_epoch: int) -> bool:
        """Take a grant; tell whether the lease is longer than before.

        A grant of another epoch than ours, of a request before `stop`, or one that is older than
        a lease counts for nothing.
        """
        sent_ns = self._sent.pop(number, None)
        if sent_ns is None or answer.region_epoch != region_epoch:
            return False
        trusted_ms = min(answer.ttl_ms, self._terms.ttl_ms) - self._terms.max_drift_ms
        until_ns = sent_ns + trusted_ms * NS_PER_MS
        if region_epoch != self.region_epoch:
            self.region_epoch, self.until_ns = region_epoch, 0
        longer = until_ns > self.until_ns
        self.until_ns = max(self.until_ns, until_ns)
        return longer

    def stop(self) -> None:
        """Trust no lease any more, and no answer that is under way."""
        self._sent.clear()
        self.until_ns = 0

    def left_ns(self, now_ns: int) -> int:
        """Give how long the lease lasts yet; 0 without one."""
        return max(self.until_ns - now_ns, 0)
