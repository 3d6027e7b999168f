"""Tell the outside what happens: frozen events, the caller's hooks, and the log.

A log line holds header values by allow-list (`http.LOGGED_HEADERS`), URLs without user-info and
query, codes and counts; never a body, a key, a token, a signature or a server's free text.
A hook is foreign code: if it raises, that is logged once and the call goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Protocol

from .errors import FractalLBAError

log: Final = logging.getLogger("fractal_lba")
log.addHandler(logging.NullHandler())


class Logger(Protocol):
    """The part of a standard logger that is used."""

    def debug(self, msg: str, /, *args: Any) -> None: ...
    def warning(self, msg: str, /, *args: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class AttemptEvent:
    """One request and what came of it. `status` is None if no answer came, `code` on failure.

    Headers are those that may be logged, with lower-case names.
    """

    call: str
    method: str
    url: str
    attempt: int
    elapsed_ms: int
    status: int | None
    code: str | None
    request_id: str | None
    request_headers: Mapping[str, str] = field(default_factory=dict)
    response_headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RetryEvent:
    """The decision to try again: `attempt` failed with `code`, the next one waits."""

    call: str
    attempt: int
    wait_ms: int
    code: str


@dataclass(frozen=True, slots=True)
class FailoverEvent:
    """The client goes to another endpoint: from a failed one, by a hint, or back home."""

    from_url: str
    to_url: str


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """What became of an outbox entry, or of the outbox itself if there is no `id`.

    `kind` is one of queued, acknowledged, outbox_held, postponed, dead, requeued, purged,
    outbox_blocked, outbox_corrupt.
    """

    kind: str
    id: str | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class StopEvent:
    """The end of a call without a result. It is logged; there is no hook for it."""

    call: str
    error: FractalLBAError


Event = AttemptEvent | RetryEvent | FailoverEvent | OutboxEvent | StopEvent


@dataclass(frozen=True, slots=True)
class Hooks:
    """Functions that are called with each event, in the thread or task of the call."""

    on_attempt: Callable[[AttemptEvent], object] | None = None
    on_retry: Callable[[RetryEvent], object] | None = None
    on_failover: Callable[[FailoverEvent], object] | None = None
    on_outbox: Callable[[OutboxEvent], object] | None = None

    def of(self, event: Event) -> Callable[[Any], object] | None:
        """Find the hook for an event."""
        match event:
            case AttemptEvent():
                return self.on_attempt
            case RetryEvent():
                return self.on_retry
            case FailoverEvent():
                return self.on_failover
            case OutboxEvent():
                return self.on_outbox
        return None


class _Contained:
    """Swallow and report what a hook raises; interrupts and exits pass."""

    def __init__(self, reporter: Reporter, hook: object) -> None:
        self._reporter = reporter
        self._hook = hook

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self._reporter.hook_failed(self._hook, error)
        return True


class Reporter:
    """Log events and hand them to the hooks."""

    def __init__(self, *, logger: Logger | None = None, hooks: Hooks | None = None) -> None:
        self._log: Logger = log if logger is None else logger
        self._hooks = Hooks() if hooks is None else hooks
        self._failed: set[int] = set()

    def tell(self, event: Event) -> None:
        """Report one event."""
        self._write(event)
        hook = self._hooks.of(event)
        if hook is not None:
            with _Contained(self, hook):
                hook(event)

    def hook_failed(self, hook: object, error: Exception) -> None:
        """Log the first failure of a hook, by its type alone: its text is not ours."""
        if id(hook) not in self._failed:
            self._failed.add(id(hook))
            self._log.warning("a hook raised %s; later ones are not logged", type(error).__name__)

    def _write(self, event: Event) -> None:
        match event:
            case AttemptEvent():
                self._log.debug(
                    "%s attempt %d %s %s -> %s in %d ms, sent %s, got %s",
                    event.call, event.attempt, event.method, event.url,
                    event.status or event.code, event.elapsed_ms,
                    dict(event.request_headers), dict(event.response_headers),
                )  # fmt: skip
            case RetryEvent():
                self._log.debug(
                    "%s attempt %d failed with %s, waiting %d ms",
                    event.call, event.attempt, event.code, event.wait_ms,
                )  # fmt: skip
            case FailoverEvent():
                self._log.debug("failover from %s to %s", event.from_url, event.to_url)
            case OutboxEvent() if event.kind in _LOUD:
                self._log.warning("outbox %s: entry %s, %s", event.kind, event.id, event.code)
            case OutboxEvent():
                self._log.debug("outbox %s: entry %s, %s", event.kind, event.id, event.code)
            case _:
                error = event.error
                self._log.warning(
                    "%s stopped: %s after %d attempts (%s), status %s, request %s",
                    event.call, error.code, error.attempts, error.stop, error.status,
                    error.request_id,
                )  # fmt: skip


_LOUD: Final = frozenset({"dead", "outbox_blocked", "outbox_corrupt"})
