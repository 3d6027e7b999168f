"""Count what the server does, for Prometheus; the admin listener serves the text.

The invariant of this file: the number of series is bounded by the configuration, never by
traffic. Labels are routes, statuses, codes of the closed list and tenants of the tenants file;
a tenant appears under a pseudonym that only the holder of `salt` can compute, and a tenant that
is locked to regions not at all. Children are looked up once and kept.
"""

from __future__ import annotations

import hashlib
import hmac
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from .core.tenants import OPEN_PLACEMENT, Directory

CONTENT_TYPE = CONTENT_TYPE_LATEST

PSEUDONYM_DIGITS = 12
"""Hex digits of a pseudonym: two of 10,000 tenants meet once in five million files."""

LOCKED_LABEL = "locked"
"""Stands for every tenant that is locked to regions."""

OTHER_LABEL = "other"
"""Stands for a tenant that a reload has removed while its request was under way."""

REQUEST_BUCKETS_S = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
SYNC_BUCKETS_S = (
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0,
)  # fmt: skip

GAUGES: Mapping[str, str] = {
    "gate_open": "1 while this region takes writes.",
    "recent_outcomes": "Outcomes that wait for the index; at store.recent_max the gate closes.",
    "unsynced_frames": "Frames that wait for a sync.",
    "connections": "Open connections of the public listener.",
    "body_bytes": "Bytes of request bodies in memory.",
    "log_dropped_lines": "Log lines that could not be written.",
}
"""Gauges that are read when they are scraped; `Metrics.follow` says from where."""


def _release() -> str:
    try:
        return version("fractal-lba-server")
    except PackageNotFoundError:
        return "checkout"  # run from the sources, not installed


def tenant_label(tenant: str, *, salt: bytes) -> str:
    """Give the pseudonym of a tenant: stable while the salt is, and no guess without it."""
    digest = hmac.digest(salt, tenant.encode(), hashlib.sha256)
    return f"t-{digest.hex()[:PSEUDONYM_DIGITS]}"


class _Tally:
    """Counts durations by bucket; the library's histogram takes a lock for each of three sums."""

    __slots__ = ("counts", "sum_ns")

    def __init__(self) -> None:
        self.counts = [0] * (len(REQUEST_BUCKETS_S) + 1)
        self.sum_ns = 0

    def buckets(self) -> list[tuple[str, float]]:
        bounds = [*map(str, REQUEST_BUCKETS_S), "+Inf"]
        return list(zip(bounds, accumulate(self.counts), strict=True))


class _PerRecord(Collector):
    """Hands over what is counted on the path of every record, where locks would show."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return self._metrics.request_families()


class Metrics:
    """Hold the series of one region in a registry of their own."""

    def __init__(self, *, region: str, salt: bytes) -> None:
        # The time at which a series began doubles every series and says nothing here.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # has no types
        self._region = region
        self._salt = salt
        self._labels: dict[str, str] = {}
        self._requests: dict[tuple[str, int], _Tally] = {}
        self._outcomes: dict[tuple[str, int, bool], int] = {}
        self._refusal_children: dict[tuple[str, str], Counter] = {}
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._add_request_series()
        self._add_log_series()
        self._add_tenant_series()
        self._gauge("build_info", "Always 1.", "version").labels(region, _release()).set(1)

    def _add_request_series(self) -> None:
        self.registry.register(_PerRecord(self))
        self._refusals = self._counter(
            "refusals", "Refused records and requests.", "code", "tenant"
        )

    def _add_log_series(self) -> None:
        region = self._region
        self._frames = self._counter("wal_frames", "Frames made durable.").labels(region)
        self._frame_bytes = self._counter("wal_bytes", "Bytes made durable.").labels(region)
        self._syncs = self._histogram(
            "wal_sync_duration_seconds", "Time of one group commit.", SYNC_BUCKETS_S
        ).labels(region)

    def _add_tenant_series(self) -> None:
        region = self._region
        reloads = self._counter("tenants_reloads", "Reads of a changed tenants file.", "result")
        self._reloads_ok = reloads.labels(region, "ok")
        self._reloads_refused = reloads.labels(region, "refused")
        self._tenants_broken = self._gauge(
            "tenants_file_broken", "1 while the tenants file is refused and the last good one used."
        ).labels(region)
        self._tenants = self._gauge("tenants", "Tenants in use.").labels(region)

    def request(self, route: str, status: int, duration_ns: int) -> None:
        """Count an answered request; `route` is the pattern of a path, never the path."""
        tally = self._requests.get((route, status))
        if tally is None:
            tally = self._requests[route, status] = _Tally()
        tally.counts[bisect_left(REQUEST_BUCKETS_S, duration_ns / 1e9)] += 1
        tally.sum_ns += duration_ns

    def outcome(self, tenant: str, status: int, *, replayed: bool) -> None:
        """Count an outcome that was answered, first or again."""
        key = (self._labels.get(tenant, OTHER_LABEL), status, replayed)
        self._outcomes[key] = self._outcomes.get(key, 0) + 1

    def request_families(self) -> Iterator[Metric]:
        """Give what was counted per request and record, for a scrape."""
        durations = HistogramMetricFamily(
            "flk_request_duration_seconds",
            "Time from the head of a request to the last byte of its answer.",
            labels=("region", "route", "status"),
        )
        for (route, status), tally in list(self._requests.items()):
            labels = (self._region, route, str(status))
            durations.add_metric(labels, tally.buckets(), tally.sum_ns / 1e9)
        yield durations
        outcomes = CounterMetricFamily(
            "flk_outcomes",
            "Outcomes that were answered.",
            labels=("region", "tenant", "status", "replayed"),
        )
        for (label, status, replayed), count in list(self._outcomes.items()):
            series = (self._region, label, str(status), str(replayed).lower())
            outcomes.add_metric(series, count)
        yield outcomes

    def refused(self, code: str, tenant: str | None = None) -> None:
        """Count a refusal by its code, and by its tenant if a signature or a token named one."""
        key = (code, "" if tenant is None else self._labels.get(tenant, OTHER_LABEL))
        child = self._refusal_children.get(key)
        if child is None:
            child = self._refusals.labels(self._region, *key)
            self._refusal_children[key] = child
        child.inc()

    def synced(self, *, frames: int, size_bytes: int, duration_ns: int) -> None:
        """Count one group commit."""
        self._frames.inc(frames)
        self._frame_bytes.inc(size_bytes)
        self._syncs.observe(duration_ns / 1e9)

    def tenants_loaded(self, directory: Directory) -> None:
        """Take over the tenants of a file that was read, and their labels."""
        self._labels = {
            name: tenant_label(name, salt=self._salt)
            if tenant.placement == OPEN_PLACEMENT
            else LOCKED_LABEL
            for name, tenant in directory.tenants.items()
        }
        self._tenants.set(len(directory.tenants))
        self._tenants_broken.set(0)
        self._reloads_ok.inc()

    def tenants_refused(self) -> None:
        """Note that a changed tenants file is broken and the last good one stays."""
        self._tenants_broken.set(1)
        self._reloads_refused.inc()

    def follow(self, name: str, read: Callable[[], float], *, text: str = "") -> None:
        """Read a gauge from here whenever it is scraped; without `text` it is one of GAUGES."""
        self._gauge(name, text or GAUGES[name]).labels(self._region).set_function(read)

    def render(self) -> bytes:
        """Write every series in the text format of CONTENT_TYPE."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"flk_{name}", text, ("region", *labels), registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"flk_{name}", text, ("region", *labels), registry=self.registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(
            f"flk_{name}", text, ("region", *labels), buckets=buckets, registry=self.registry
        )
