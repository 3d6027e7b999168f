"""Move keys between dedup shards while writes go on: what follows what, and what is refused.

This file owns the order of a live migration (spec/dedup.md 6 to 8):

    planned -> preparing -> dual -> copied -> verified -> cutting -> committed
            -> closing -> closed -> listed -> cleaned
    any of them up to committed -> reverting -> rolled_back -> listed -> cleaned

`command` and `resume` turn the kept state, the ring document and the facts of the moment into a
list of effects. Each list can end anywhere: what it changes is kept before anything depends on
it, and `resume` finds from state and document alone what is left to do. Effects are carried out
in order, by whoever holds the control store; two processes at once are told apart by its
compare-and-set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from fractal_lba.canonical import jcs, parse_value
from fractal_lba.errors import ConfigError, FractalLBAError

from .ring_document import COMMITTED, DUAL, STEADY, RingDocument, ShardInfo, read_shards

PLANNED: Final = "planned"
PREPARING: Final = "preparing"
COPYING: Final = "dual"
COPIED: Final = "copied"
VERIFIED: Final = "verified"
CUTTING: Final = "cutting"
OPEN: Final = "committed"
CLOSING: Final = "closing"
CLOSED: Final = "closed"
LISTED: Final = "listed"
CLEANED: Final = "cleaned"
REVERTING: Final = "reverting"
ROLLED_BACK: Final = "rolled_back"

STEPS: Final = (
    PLANNED, PREPARING, COPYING, COPIED, VERIFIED, CUTTING, OPEN, CLOSING, CLOSED, LISTED,
    CLEANED, REVERTING, ROLLED_BACK,
)  # fmt: skip

PAUSE_MS: Final = 50
"""Longest pause of writes at a cutover, unless the plan says otherwise."""

WINDOW_MS: Final = 24 * 3_600_000
"""How long a cutover can be rolled back, unless the plan says otherwise."""

STATE_BYTES_MAX: Final = 4 << 20
"""Longest kept state: two documents, and a line for each pair of dedup shards."""


class Refused(Exception):  # noqa: N818 - a refusal is an answer, with its reasons
    """Say why a command is not carried out; nothing was changed."""

    def __init__(self, *reasons: str) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


class Listed(NamedTuple):
    """What is to be deleted from one dedup shard: keys that another one owns now."""

    dedup_shard: str
    owner: str
    entries: int
    digest: str


@dataclass(frozen=True, slots=True)
class Migration:
    """The kept state of one migration."""

    id: str
    step: str
    base_ring_epoch: int
    old: tuple[ShardInfo, ...]
    new: tuple[ShardInfo, ...]
    keys_to_move: int = 0
    pause_ms: int = PAUSE_MS
    window_ms: int = WINDOW_MS
    reverse_tested: bool = False
    window_until_ms: int | None = None
    listed: tuple[Listed, ...] = ()
    note: str = ""
    """Why the step went back, for a person."""

    def to_bytes(self) -> bytes:
        """Write the state in RFC 8785 form."""
        members: dict[str, Any] = {name: getattr(self, name) for name in _PLAIN}
        return jcs({
            **members,
            "listed": [list(each) for each in self.listed],
            "new": [dedup_shard.member() for dedup_shard in self.new],
            "old": [dedup_shard.member() for dedup_shard in self.old],
        })  # fmt: skip

    @classmethod
    def from_bytes(cls, data: bytes) -> Migration:
        """Read what `to_bytes` wrote; raises ConfigError for anything else."""
        try:
            value = parse_value(data, max_bytes=STATE_BYTES_MAX)
            state = cls(
                **{name: value[name] for name in _PLAIN},
                old=read_shards(value["old"]),
                new=read_shards(value["new"]),
                listed=tuple(Listed(*each) for each in value["listed"]),
            )
            whole = state.step in STEPS and state.to_bytes() == data
        except (KeyError, TypeError, FractalLBAError):
            whole = False
        if not whole:
            raise ConfigError("config_invalid", "migration: not a state of this version")
        return state


_PLAIN: Final = (
    "id", "step", "base_ring_epoch", "keys_to_move", "pause_ms", "window_ms", "reverse_tested",
    "window_until_ms", "note",
)  # fmt: skip


class Seen(NamedTuple):
    """What is known at the moment of a decision."""

    document: RingDocument
    repairs: int  # entries that wait in the repair queue
    now_ms: int
    alarms: int = 0  # differences and lost canaries seen since the last whole verification


class Save(NamedTuple):
    """Keep the state; the next effect may depend on it."""

    state: Migration


class PutDocument(NamedTuple):
    """Replace the ring document that was seen, by compare-and-set."""

    document: RingDocument


class Fence(NamedTuple):
    """Let these dedup shards refuse every write under an older ring epoch."""

    shards: tuple[str, ...]
    ring_epoch: int


class Seal(NamedTuple):
    """Take no more repairs under this document; fails if one waits."""


class Drain(NamedTuple):
    """Carry out every repair that waits."""


class Verify(NamedTuple):
    """Compare every range that moves; fails if an entry still differs at the end."""


class ListLeftovers(NamedTuple):
    """Count and digest what the dedup shards hold of ranges that others own now."""


class DeleteLeftovers(NamedTuple):
    """Delete what was listed, each key only after its owner was seen to hold it."""


class Pause(NamedTuple):
    """Do `within` in that time, counted from the first fence; otherwise do `instead` and stop."""

    budget_ms: int
    within: tuple[Fence | PutDocument, ...]
    instead: tuple[PutDocument | Fence | Save, ...]


Effect = (
    Save | PutDocument | Fence | Seal | Drain | Verify | ListLeftovers | DeleteLeftovers | Pause
)
Effects = tuple[Effect, ...]


def command(name: str, state: Migration, seen: Seen) -> Effects:
    """Say what a command of the operator does now; raises Refused with every reason."""
    _same_migration(state, seen.document)
    return _COMMANDS[name](state, seen)


def _same_migration(state: Migration, document: RingDocument) -> None:
    if document.migration not in (None, state.id):
        raise Refused(f"the ring document belongs to migration {document.migration}")


def _dual_write(state: Migration, seen: Seen) -> Effects:
    """Begin to write to both rings, before the first key is copied (dedup 6.2)."""
    document = seen.document
    if state.step != PLANNED:
        raise Refused(f"dual writes began already: the migration is {state.step}")
    if (document.ring_epoch, document.shards) != (state.base_ring_epoch, state.old):
        raise Refused(
            f"the plan is for ring_epoch {state.base_ring_epoch}, the ring document is "
            f"{document.version_text}: plan again"
        )
    preparing = replace(state, step=PREPARING)
    return (Save(preparing), *_prepare(preparing, document))


def _prepare(state: Migration, document: RingDocument) -> Effects:
    """Publish the dual document, then fence: a writer that knows it not is refused (H06)."""
    put: Effects = ()
    if document.phase == STEADY:
        document = document.dual(state.new, state.id)
        put = (PutDocument(document),)
    return (*put, _fence_all(document), Save(replace(state, step=COPYING)))


def _cutover(state: Migration, seen: Seen) -> Effects:
    """Let the new ring decide (dedup 7)."""
    reasons = cutover_faults(state, seen)
    if reasons:
        raise Refused(*reasons)
    cutting = replace(state, step=CUTTING, note="")
    document = seen.document.commit()
    return (
        Save(cutting),
        Seal(),
        _switch(state, seen.document, document),
        _fence_all(document),
        Save(_opened(cutting, seen.now_ms)),
    )


def cutover_faults(state: Migration, seen: Seen) -> tuple[str, ...]:
    """Give every reason against a cutover now (dedup 7.1)."""
    if state.step not in (COPYING, COPIED, VERIFIED):
        return (f"the migration is {state.step}: nothing is to be cut over",)
    reasons = []
    if state.step == COPYING:
        reasons.append("the copy lags behind: it has not reached the end of every range")
    if state.step != VERIFIED:
        reasons.append("ranges that move are not verified")
    if seen.repairs:
        reasons.append(f"the repair queue holds {seen.repairs} entries")
    if not state.reverse_tested:
        reasons.append("the reverse path was not tested: `verify` does it")
    if seen.alarms:
        reasons.append(f"{seen.alarms} differences were seen since the last verification")
    return tuple(reasons)


def _rollback(state: Migration, seen: Seen) -> Effects:
    """Let the old ring decide again; nothing that was written since is lost (dedup 8)."""
    document = seen.document
    if state.step in (CLOSING, CLOSED, LISTED, CLEANED):
        raise Refused(f"the window is closed: reverse writes have ended, the step is {state.step}")
    if state.step == ROLLED_BACK:
        raise Refused("it is rolled back already")
    if document.phase == STEADY and state.step in (PLANNED, PREPARING):
        return (Save(replace(state, step=CLEANED, note="rolled back before anything was written")),)
    return (Save(replace(state, step=REVERTING)), *_revert(state, document))


def _revert(state: Migration, document: RingDocument) -> Effects:
    done = Save(replace(state, step=ROLLED_BACK))
    if document.phase == STEADY:
        return (_fence_all(document, state), done)
    back = document.abandon()
    if document.phase == DUAL:
        # The same ring decides before and after: no write has to wait.
        return (PutDocument(back), _fence_all(back, state), done)
    return (Drain(), Seal(), _switch(state, document, back), _fence_all(back, state), done)


def _switch(state: Migration, before: RingDocument, after: RingDocument) -> Pause:
    """Change who decides: first nobody, then the other ring (dedup 7.2)."""
    same = before.go_on()
    step = VERIFIED if before.phase == DUAL else OPEN
    note = f"the pause of writes was longer than {state.pause_ms} ms: the same ring goes on"
    return Pause(
        state.pause_ms,
        (Fence(_names(before.shards), after.ring_epoch), PutDocument(after)),
        (PutDocument(same), _fence_all(same), Save(replace(state, step=step, note=note))),
    )


def _cleanup(state: Migration, seen: Seen) -> Effects:
    """Delete what other dedup shards own now, after the window and a second look (dedup 8.4)."""
    if state.step == OPEN:
        return _close(state, seen)
    if state.step in (CLOSED, ROLLED_BACK):
        return (ListLeftovers(), DeleteLeftovers())
    if state.step == LISTED:
        return (DeleteLeftovers(),)
    raise Refused(f"there is nothing to clean up: the migration is {state.step}")


def _close(state: Migration, seen: Seen) -> Effects:
    """End the window; while it is open reverse writes make the second look worth something."""
    reasons = []
    left_ms = (state.window_until_ms or 0) - seen.now_ms
    if left_ms > 0:
        reasons.append(f"the window for a rollback is open for {left_ms // 1000} more seconds")
    if seen.repairs:
        reasons.append(f"the repair queue holds {seen.repairs} entries")
    if reasons:
        raise Refused(*reasons)
    closing = replace(state, step=CLOSING)
    return (Verify(), Save(closing), *_finish_closing(closing, seen.document))


def _finish_closing(state: Migration, document: RingDocument) -> Effects:
    put: Effects = ()
    if document.phase == COMMITTED:
        document = document.close()
        put = (PutDocument(document),)
    closed = Save(replace(state, step=CLOSED))
    return (*put, _fence_all(document, state), closed, ListLeftovers(), DeleteLeftovers())


def resume(state: Migration, seen: Seen) -> Effects:
    """Say what is left to do for a process that takes over; nothing, if nothing was begun."""
    _same_migration(state, seen.document)
    document = seen.document
    if state.step == PREPARING:
        return _prepare(state, document)
    if state.step == CUTTING:
        return _take_over_cutover(state, seen)
    if state.step == REVERTING:
        return _revert(state, document)
    if state.step == CLOSING:
        return _finish_closing(state, document)
    return ()


def _take_over_cutover(state: Migration, seen: Seen) -> Effects:
    """Never repeat a cutover: what is committed is finished, anything else is called off."""
    document = seen.document
    if document.phase == COMMITTED:
        return (_fence_all(document), Save(_opened(state, seen.now_ms)))
    same = document.go_on()
    note = "the process that cut over ended: the same ring goes on"
    verified = replace(state, step=VERIFIED, note=note)
    return (PutDocument(same), _fence_all(same), Save(verified))


def _opened(state: Migration, now_ms: int) -> Migration:
    return replace(state, step=OPEN, window_until_ms=now_ms + state.window_ms, note="")


def after_copy(state: Migration) -> Migration:
    """Take note that every range was copied to its end under dual writes (dedup 6.4)."""
    if state.step not in (COPYING, COPIED, VERIFIED):
        raise Refused(f"copy needs dual writes first: the migration is {state.step}")
    return replace(state, step=COPIED, reverse_tested=False)


def after_verify(state: Migration, *, clean: bool, reverse_tested: bool) -> Migration:
    """Take note of a whole verification: clean, and whether writes go back as well."""
    if state.step not in (COPIED, VERIFIED):
        raise Refused(f"verify needs the whole copy first: the migration is {state.step}")
    step = VERIFIED if clean else COPIED
    return replace(state, step=step, reverse_tested=reverse_tested)


def _fence_all(document: RingDocument, state: Migration | None = None) -> Fence:
    """Fence every dedup shard of the document, and those that the migration still knows."""
    known = document.everyone() if state is None else (*document.everyone(), *state.old, *state.new)
    return Fence(_names(known), document.ring_epoch)


def _names(shards: Sequence[ShardInfo]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(dedup_shard.name for dedup_shard in shards))


_COMMANDS: Mapping[str, Callable[[Migration, Seen], Effects]] = {
    "dual-write": _dual_write,
    "cutover": _cutover,
    "rollback": _rollback,
    "cleanup": _cleanup,
}
