"""Follows the log: puts durable outcomes into the index, in batches, on a thread of its own.

No answer waits for it. A batch is what has come within a second, sorted by the index; while
the index fails, outcomes stay in memory and the batch is tried again (the ingest machine
closes the gate when too many wait).
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from typing import Final

from ..core.first_write import Apply
from ..core.ingest_events import ViewApplied
from .sqlite import Index

APPLY_ROWS_MAX: Final = 65_536
"""Most rows in one transaction of the index."""

APPLY_INTERVAL_S: Final = 0.25
"""An outcome waits at most this long for others to share its transaction."""

RETRY_S: Final = 1.0
"""How often a failed batch is tried again."""

log = logging.getLogger("fractal_lba_server.view")


class View:
    """Feeds one index. `put` comes from one thread; `notify` is called in another."""

    def __init__(
        self,
        index: Index,
        *,
        notify: Callable[[ViewApplied], None],
        rows_max: int = APPLY_ROWS_MAX,
        interval_s: float = APPLY_INTERVAL_S,
        on_failure: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self._index = index
        self._notify = notify
        self._rows_max = rows_max
        self._interval_s = interval_s
        self._on_failure = on_failure
        self._rows = 0
        self._queue: queue.SimpleQueue[Apply | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="view", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, row: Apply) -> None:
        """Hand over a durable outcome, in order of the log."""
        self._queue.put(row)

    def stop(self) -> None:
        """Apply what was handed over, then end."""
        self._stopping.set()
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while True:
            first = self._queue.get()
            if first is None:
                return
            self._stopping.wait(self._interval_s)
            batch = [first]
            last = False
            while len(batch) < self._rows_max and not self._queue.empty() and not last:
                row = self._queue.get()
                if row is None:
                    last = True
                else:
                    batch.append(row)
            if not self._apply(batch) or last:
                return

    def _apply(self, batch: list[Apply]) -> bool:
        while True:
            try:
                self._rows += self._index.apply(batch)
            except sqlite3.Error as error:
                log.error("the index cannot follow the log: %s", error)
                if self._stopping.wait(RETRY_S):
                    return False
                continue
            except ValueError as error:  # a row that leaves a gap: a defect, which must not hide
                self._on_failure(f"the index does not follow the log: {error}")
                return False
            self._notify(ViewApplied(self._rows))
            return True
