"""Choose the endpoint of the next attempt (spec/retry.md 27 to 43).

This file owns which endpoint is up, when a client moves to another, and when it returns. It is
a state machine over values: each event gives a new `Fleet`, the clock and the random number are
arguments, nothing is sent from here.

    up       = neither of
    suspect  = the last attempt failed
    down     = `down_after` failures in a row; probed until `up_after` probes in a row are good

A refused result moves at once. An ambiguous one (bytes may have arrived) stays until the
endpoint is down: two regions that both say "new" are a conflict.

    >>> fleet = Fleet.of(["https://a.example", "https://b.example"])
    >>> refused = Result(code="connect_failed")
    >>> fleet.attempted(0, refused, now_ms=0, u=0.5).current
    1
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Never
from urllib.parse import SplitResult, urlsplit

from .errors import ConfigError
from .retry import Result

__all__ = ["Endpoint", "EndpointState", "FailoverPolicy", "Fleet"]

FAILING_CODES: Final = frozenset(
    {"connect_failed", "tls_failed", "connection_lost", "attempt_timeout"}
)
"""No answer: a failure of the endpoint (retry 29). So is every status from 500."""

UNSENT_CODES: Final = frozenset({"connection_lost", "attempt_timeout"})
"""Refused if no byte of the request was sent, ambiguous otherwise (retry 30, 31)."""

BINDING_STATUSES: Final = frozenset({429, 503})
"""Answers whose Retry-After keeps others from moving to the endpoint (retry 33)."""

_LOOPBACK = re.compile(r"localhost|127(\.[0-9]{1,3}){3}|::1")
_REGION = re.compile(r"[a-z0-9-]{1,64}")
_URL_CHARACTERS = re.compile(r"[!-~]+")
_DEFAULT_PORTS = {"https": 443, "http": 80}


def _refuse(message: str) -> Never:
    raise ConfigError("config_invalid", message)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Name one place to send to: https, or http on loopback; no user-info, query or fragment.

    `region` is needed only where `allowed_regions` is set.
    """

    url: str
    region: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", normal_url(self.url))
        if self.region is not None and not _REGION.fullmatch(self.region):
            _refuse(f"endpoint region: expected {_REGION.pattern}, got {self.region!r}")


def normal_url(url: str) -> str:
    """Check an endpoint's URL and write it in one form, without a slash at the end."""
    if not isinstance(url, str) or not _URL_CHARACTERS.fullmatch(url) or "\\" in url:
        _refuse("endpoint: expected a URL of printable ASCII")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        _refuse("endpoint: expected a URL with a valid host and port")
    if "@" in parts.netloc:
        _refuse("endpoint: expected no user-info in the URL")
    if "?" in url or "#" in url:
        _refuse("endpoint: expected no query and no fragment in the URL")
    host = parts.hostname
    if not host or parts.scheme not in _DEFAULT_PORTS:
        _refuse(f"endpoint: expected https://host, got {url!r}")
    if parts.scheme == "http" and not _LOOPBACK.fullmatch(host):
        _refuse(f"endpoint: expected https (http is for loopback only), got {url!r}")
    return _written(parts, host, port)


def _written(parts: SplitResult, host: str, port: int | None) -> str:
    shown_host = f"[{host}]" if ":" in host else host
    shown_port = "" if port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{port}"
    return f"{parts.scheme}://{shown_host}{shown_port}{parts.path.rstrip('/')}"


@dataclass(frozen=True, slots=True)
class FailoverPolicy:
    """Say when to leave an endpoint and when to return.

    `failback_after_ms=None` never returns. With `allowed_regions` an endpoint of another region,
    or of none, is never used, whatever fails.
    """

    down_after: int = 3
    up_after: int = 2
    probe_interval_ms: int = 10_000
    probe_timeout_ms: int = 2_000
    failback_after_ms: int | None = 600_000
    allowed_regions: frozenset[str] | None = None
    redirect_hops: int = 3

    def __post_init__(self) -> None:
        for name, low in (
            ("down_after", 1), ("up_after", 1), ("probe_interval_ms", 1), ("probe_timeout_ms", 1),
            ("failback_after_ms", 0), ("redirect_hops", 0),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is None and name == "failback_after_ms":
                continue
            if type(value) is not int or value < low:
                _refuse(f"{name}: expected an integer >= {low}, got {value!r}")
        if self.allowed_regions is not None:
            object.__setattr__(self, "allowed_regions", frozenset(self.allowed_regions))


@dataclass(frozen=True, slots=True)
class EndpointState:
    """Hold what is known about one endpoint. Times are Unix milliseconds."""

    failures: int = 0
    good_probes: int = 0
    down: bool = False
    failed_at_ms: int = 0
    bound_until_ms: int = 0
    probe_at_ms: int | None = None

    @property
    def name(self) -> str:
        """Name the state: "up", "suspect" or "down"."""
        if self.down:
            return "down"
        return "suspect" if self.failures else "up"


def _refused(result: Result) -> bool:
    """Say whether the endpoint took nothing, so that another may have it (retry 30)."""
    if result.status is not None:
        return result.status == 503
    return result.code == "connect_failed" or (result.code in UNSENT_CODES and not result.sent)


def _ambiguous(result: Result) -> bool:
    """Say whether the request may have been recorded (retry 31)."""
    if result.status is not None:
        return result.status >= 500 and result.status != 503
    return result.code in UNSENT_CODES and result.sent


@dataclass(frozen=True, slots=True)
class Fleet:
    """Hold all endpoints of a client; `current` is the index that the next call starts with."""

    endpoints: tuple[Endpoint, ...]
    policy: FailoverPolicy
    states: tuple[EndpointState, ...]
    eligible: tuple[int, ...]
    current: int
    failback_at_ms: int | None = None
    hint_epoch: int = 0

    @classmethod
    def of(
        cls,
        endpoints: str | Endpoint | Iterable[str | Endpoint],
        policy: FailoverPolicy | None = None,
    ) -> Fleet:
        """Start with every endpoint up, at the first eligible one (retry 27, 28)."""
        policy = policy or FailoverPolicy()
        given = [endpoints] if isinstance(endpoints, str | Endpoint) else list(endpoints)
        named = tuple(Endpoint(item) if isinstance(item, str) else item for item in given)
        if not named:
            _refuse("endpoints: expected at least one")
        if len({endpoint.url for endpoint in named}) != len(named):
            _refuse("endpoints: expected each URL once")
        regions = policy.allowed_regions
        eligible = tuple(
            index
            for index, endpoint in enumerate(named)
            if regions is None or endpoint.region in regions
        )
        if not eligible:
            _refuse("allowed_regions: expected at least one endpoint in them")
        return cls(named, policy, (EndpointState(),) * len(named), eligible, eligible[0])

    @property
    def home(self) -> int:
        """Give the first eligible endpoint, to which the client returns."""
        return self.eligible[0]

    # --- events -----------------------------------------------------------------------------

    def begun(self, *, now_ms: int, u: float) -> Fleet:
        """Begin a call: return home if that is due, leave an endpoint that is down."""
        home = self.states[self.home]
        due = self.failback_at_ms is not None and now_ms >= self.failback_at_ms
        if due and home.name == "up" and home.good_probes >= self.policy.up_after:
            return self._move(self.home, now_ms, u)
        if self.states[self.current].down:
            return self._move(self._other(self.current, now_ms), now_ms, u)
        return self

    def attempted(self, sender: int, result: Result, *, now_ms: int, u: float) -> Fleet:
        """Take in what one attempt at `sender` came to. `u` in [0, 1) spreads the timers."""
        fleet = self
        if result.retry_after_ms is not None and result.status in BINDING_STATUSES:
            bound = replace(self.states[sender], bound_until_ms=now_ms + result.retry_after_ms)
            fleet = fleet._with(sender, bound)
        if result.code in FAILING_CODES or (result.status or 0) >= 500:
            fleet = fleet._failed(sender, now_ms)
        elif result.status is not None:
            alive = replace(fleet.states[sender], failures=0, down=False)
            fleet = fleet._with(sender, alive)
        if fleet._leaves(sender, result) and sender == fleet.current:
            fleet = fleet._move(fleet._other(sender, now_ms), now_ms, u)
        return fleet._scheduled(sender, now_ms, u)

    def hinted(
        self, url: str, region_epoch: int, *, hops: int, now_ms: int, u: float
    ) -> Fleet | None:
        """Follow the redirect hint of a 421 or 423, or give None if it is to be ignored.

        `hops` counts the hints that this call has followed already (retry 41).
        """
        target = self._index_of(url)
        if target is None or hops >= self.policy.redirect_hops or region_epoch < self.hint_epoch:
            return None
        return replace(self._move(target, now_ms, u), hint_epoch=region_epoch)

    def probed(self, index: int, good: bool, *, now_ms: int, u: float) -> Fleet:
        """Take in a probe (retry 39)."""
        state = self.states[index]
        if good:
            good_probes = state.good_probes + 1
            enough = not state.down or good_probes >= self.policy.up_after
            failures = 0 if enough else state.failures
            state = replace(state, good_probes=good_probes, failures=failures, down=not enough)
            fleet = self._with(index, state)
        elif state.down:
            fleet = self._with(index, replace(state, good_probes=0))
        else:
            fleet = self._failed(index, now_ms)
        unplanned = fleet._with(index, replace(fleet.states[index], probe_at_ms=None))
        return unplanned._scheduled(index, now_ms, u)

    # --- questions --------------------------------------------------------------------------

    def next_for(self, sender: int, result: Result) -> int:
        """Name the endpoint of a call's next attempt, after `attempted` took in the last one.

        Other calls may have moved `current` meanwhile; an ambiguous result must not follow them.
        """
        return self.current if self._leaves(sender, result) else sender

    def probes_due(self, now_ms: int) -> tuple[int, ...]:
        """Name the endpoints to ask `GET /health` now."""
        return tuple(
            index
            for index, state in enumerate(self.states)
            if state.probe_at_ms is not None and state.probe_at_ms <= now_ms
        )

    @property
    def next_probe_ms(self) -> int | None:
        """Say when the next probe is due, or None if none is."""
        return min((s.probe_at_ms for s in self.states if s.probe_at_ms is not None), default=None)

    # --- inside -----------------------------------------------------------------------------

    def _with(self, index: int, state: EndpointState) -> Fleet:
        return replace(self, states=(*self.states[:index], state, *self.states[index + 1 :]))

    def _index_of(self, url: str) -> int | None:
        try:
            wanted = normal_url(url)
        except ConfigError:
            return None
        return next((i for i in self.eligible if self.endpoints[i].url == wanted), None)

    def _leaves(self, sender: int, result: Result) -> bool:
        return _refused(result) or (_ambiguous(result) and self.states[sender].down)

    def _failed(self, index: int, now_ms: int) -> Fleet:
        state = self.states[index]
        failures = state.failures + 1
        failed = replace(
            state,
            failures=failures,
            good_probes=0,
            down=state.down or failures >= self.policy.down_after,
            failed_at_ms=now_ms,
        )
        return self._with(index, failed)

    def _other(self, sender: int, now_ms: int) -> int:
        """Choose where to go from `sender` (retry 34, 35); the answer may be `sender`."""
        alive = [i for i in self.eligible if i != sender and not self.states[i].down]
        free = [i for i in alive if self.states[i].bound_until_ms <= now_ms]
        up = [i for i in free if not self.states[i].failures]
        if up:
            return up[0]
        if free:
            return min(free, key=lambda i: self.states[i].failed_at_ms)
        if not self.states[sender].down:
            return sender
        if alive:
            return min(alive, key=lambda i: self.states[i].bound_until_ms)
        return min(self.eligible, key=lambda i: self.states[i].failed_at_ms)

    def _move(self, target: int, now_ms: int, u: float) -> Fleet:
        """Make `target` current; leaving home notes when to return (retry 40)."""
        if target == self.current:
            return self
        moved = replace(self, current=target)
        if target == self.home:
            moved = replace(moved, failback_at_ms=None)
        elif self.current == self.home:
            home = self.states[self.home]
            if not home.down:
                # Probes from before do not count towards the return. A down home has begun its row,
                # which hints that lead to it and away again must not end.
                moved = moved._with(self.home, replace(home, good_probes=0))
            after_ms = self.policy.failback_after_ms
            if after_ms is not None:
                moved = replace(moved, failback_at_ms=now_ms + int(after_ms * (0.5 + u)))
        return moved._scheduled(self.home, now_ms, u)

    def _scheduled(self, index: int, now_ms: int, u: float) -> Fleet:
        """Plan the next probe of an endpoint that is down, or of home while away (retry 38)."""
        state = self.states[index]
        probe_at_ms = state.probe_at_ms
        if not state.down and (index != self.home or self.current == self.home):
            probe_at_ms = None
        elif probe_at_ms is None:
            probe_at_ms = now_ms + int(self.policy.probe_interval_ms * (0.8 + 0.4 * u))
        return self._with(index, replace(state, probe_at_ms=probe_at_ms))
