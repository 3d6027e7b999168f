"""Own the copy of one stream of another region: written, synced, and only then said to be held."""

from __future__ import annotations

from collections.abc import Callable

from fractal_lba_server.core.receiver import AppendMirror

from ..waiting import Life
from .segments import Segments


class Mirror:
    """The copy of one stream in one process."""

    def __init__(self, segments: Segments, life: Life) -> None:
        self.segments = segments
        self._life = life

    def append(self, effect: AppendMirror, done: Callable[[str | None], None]) -> None:
        """Make bytes durable; `done` hears None, or why they are not."""
        name = self.segments.name(effect.first_seq)
        try:
            self.segments.disk.write(name, effect.offset, effect.data)
        except OSError as error:
            done(str(error))
            return
        self.sync(name, effect, done)

    def sync(self, name: str, effect: AppendMirror, done: Callable[[str | None], None]) -> None:
        """Have the disk make the bytes durable, and only then say so."""
        self.segments.disk.sync(name, self._synced, name, effect.seal, done)

    def _synced(self, name: str, seal: bool, done: Callable[[str | None], None], ok: bool) -> None:
        if ok:
            self.segments.disk.files[name].sealed = seal
        self._life.run(done, None if ok else "the mirror cannot be made durable")
