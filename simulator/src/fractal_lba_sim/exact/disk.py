"""Own what a disk holds after a crash: what was synced, and of the rest a part or nothing.

A process that ends leaves what it wrote to the system, which keeps it; a machine that loses power
keeps what was synced. Full, slow, failing, torn, forgetful and stale disks are all here.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from ..waiting import Agenda, Lane

Done = Callable[..., object]

SYNC_MS: Final = (0.5, 3.0)
"""Shortest and longest sync, if the settings say nothing else."""


@dataclass(slots=True)
class File:
    """One file: its bytes, how many of them are durable, and whether it will not change."""

    data: bytearray = field(default_factory=bytearray)
    synced: int = 0
    sealed: bool = False


class Disk:
    """The disk of one region; it outlives the processes."""

    def __init__(
        self, agenda: Agenda, *, chance: Random, sync_s: Callable[[Random], float] | None = None,
        bytes_per_s: float | None = None,
    ) -> None:  # fmt: skip
        self.agenda = agenda
        self.files: dict[str, File] = {}
        self.kept: dict[str, Any] = {}
        """Small facts that are replaced as a whole and durable at once: roles, fences, marks."""
        self.counts: Counter[str] = Counter()
        self.full = False
        self.slow_ns = 0
        self.failing = False
        self._chance = chance
        self._sync_s = sync_s
        self._bytes_per_s = bytes_per_s
        self._lane = Lane(agenda)
        self._waiting: list[Callable[[], object]] = []
        self._stale: tuple[dict[str, File], dict[str, Any]] | None = None
        self.on_write: Callable[[], object] | None = None
        """Called once something was written, if somebody waits for that."""
        self.powers = 0
        """How often it lost power: what was asked of it before is answered no more."""

    def names(self, prefix: str) -> list[str]:
        """List files in order of their names."""
        return sorted(name for name in self.files if name.startswith(prefix))

    def write(self, name: str, offset: int, data: bytes) -> None:
        """Write bytes at a place, and cut what stood behind. Raises OSError if it is full."""
        if self.full:
            self.counts["refused_writes"] += 1
            raise OSError(errno.ENOSPC, "no space left on device")
        file = self.files.get(name)
        if file is None:
            file = self.files[name] = File()
        if offset != len(file.data):
            del file.data[offset:]
            file.synced = min(file.synced, offset)
        file.data += data
        if self.on_write is not None:
            self.on_write()

    def sync(self, name: str, done: Done, *args: Any) -> None:
        """Make a file durable as it is now; `done` hears, behind `args`, whether it is."""
        file = self.files[name]
        size = len(file.data)
        use_ns = self._use_ns(size - file.synced)
        self._lane.use(use_ns, self._synced, name, size, self.powers, done, args)

    def _use_ns(self, size: int) -> int:
        if self._sync_s is None:
            use_ns = int(self._chance.uniform(*SYNC_MS) * 1_000_000)
        else:
            use_ns = int(self._sync_s(self._chance) * 1_000_000_000)
        if self._bytes_per_s is not None:
            use_ns += int(size / self._bytes_per_s * 1_000_000_000)
        if self.slow_ns:
            self.counts["slow_syncs"] += 1
        return use_ns + self.slow_ns

    def _synced(self, name: str, size: int, powers: int, done: Done, args: tuple[Any, ...]) -> None:
        if powers != self.powers:
            return
        if self.failing:
            self.counts["failed_syncs"] += 1
            done(*args, False)
            return
        file = self.files.get(name)
        if file is not None:
            file.synced = max(file.synced, min(size, len(file.data)))
        done(*args, True)

    def remove(self, name: str) -> None:
        """Remove a file."""
        self.files.pop(name, None)

    # --- what goes wrong

    def when_space(self, call: Callable[[], object]) -> None:
        """Call once when there is space again."""
        self._waiting.append(call)

    def empty(self) -> None:
        """Give space back."""
        self.full = False
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            self.agenda.after(0, call)

    def lose_power(self, *, torn: bool) -> None:
        """Forget what was not synced; a torn write leaves a part of it."""
        self.powers += 1
        self._lane.clear()
        for name in sorted(self.files):
            file = self.files[name]
            lost = len(file.data) - file.synced
            if not lost:
                continue
            keep = self._chance.randrange(lost) if torn else 0
            self.counts["torn_bytes" if torn else "lost_bytes"] += lost - keep
            del file.data[file.synced + keep :]
            if not file.data:
                del self.files[name]

    def flip(self, prefixes: tuple[str, ...]) -> bool:
        """Change one bit somewhere in what is kept; tell whether there was anything."""
        names = [n for prefix in prefixes for n in self.names(prefix) if self.files[n].data]
        if not names:
            return False
        file = self.files[self._chance.choice(names)]
        at = self._chance.randrange(len(file.data))
        file.data[at] ^= 1 << self._chance.randrange(8)
        self.counts["flipped_bits"] += 1
        return True

    def lose(self) -> int:
        """Lose everything; give how many files there were."""
        count = len(self.files)
        self.powers += 1
        self.files.clear()
        self.kept.clear()
        self._lane.clear()
        return count

    def photograph(self) -> None:
        """Keep a copy of everything, for a disk that comes back stale."""
        files = {
            name: File(bytearray(f.data[: f.synced]), f.synced, f.sealed)
            for name, f in self.files.items()
            if f.synced
        }
        self._stale = (files, _copied(self.kept))

    def go_back(self) -> bool:
        """Be as the copy was; tell whether there was one."""
        if self._stale is None:
            return False
        self.lose()
        self.files, self.kept = self._stale
        self._stale = None
        return True


def _copied(kept: dict[str, Any]) -> dict[str, Any]:
    return {name: value.copy() if hasattr(value, "copy") else value for name, value in kept.items()}
