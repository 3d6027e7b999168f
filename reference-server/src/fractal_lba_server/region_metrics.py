"""The series of what runs between regions; there are none where a region stands alone.

Labels are placements and regions of the regions file. The age of a peer's last word is measured
here, by who should have heard it, so it grows while the peer is silent.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .core.reconcile import severity
from .divergence import Divergence
from .replication import Replication

_SEVERITIES = {None: 0, "P3": 1, "P2": 2, "P1": 3, "P0": 4}


class RegionMetrics(Collector):
    """Reads what is shipped, received and compared when it is scraped."""

    def __init__(self, region: str, replication: Replication, divergence: Divergence) -> None:
        self._region = region
        self._replication = replication
        self._divergence = divergence

    def collect(self) -> Iterator[Metric]:
        """Give the families."""
        yield from self._shipped()
        yield from self._received()
        yield from self._compared()

    def _shipped(self) -> Iterator[Metric]:
        labels = ["region", "placement", "peer"]
        age = _gauge("ship_lag_seconds", "Age of the oldest record that a peer lacks.", labels)
        records = _gauge("ship_lag_records", "Durable records that a peer lacks.", labels)
        size = _gauge("ship_lag_bytes", "Durable bytes of log that a peer lacks.", labels)
        stopped = _gauge("ship_stopped", "1 while a stream has stopped with a fault.", labels)
        for lag in self._replication.lags():
            at = [self._region, lag.placement, lag.peer]
            age.add_metric(at, lag.age_ms / 1000)
            records.add_metric(at, lag.records)
            size.add_metric(at, lag.bytes)
            stopped.add_metric(at, float(lag.state == "stopped"))
        return iter((age, records, size, stopped))

    def _received(self) -> Iterator[Metric]:
        labels = ["region", "origin", "placement"]
        heard = _gauge("peer_silence_seconds", "Time since a region was last heard of.", labels)
        behind = _gauge("mirror_lag_records", "Records that a region says we lack.", labels)
        for one in self._replication.received():
            at = [self._region, one.region, one.placement]
            heard.add_metric(at, one.heard_age_ms / 1000)
            behind.add_metric(at, max(one.claimed_seq - one.seq, 0))
        return iter((heard, behind))

    def _compared(self) -> Iterator[Metric]:
        labels = ["region", "placement", "peer"]
        missing = _gauge("state_missing_records", "Records that one of two regions lacks.", labels)
        conflicts = _gauge(
            "state_conflicting_records", "Records that two regions hold differently.", labels
        )
        grave = _gauge("state_severity", "0: the same; 1 to 4: P3 to P0.", labels)
        for (placement, peer), found in self._divergence.found.items():
            at = [self._region, placement, peer]
            missing.add_metric(at, found.missing)
            conflicts.add_metric(at, found.conflicting)
            grave.add_metric(at, _SEVERITIES[severity(found)])
        return iter((missing, conflicts, grave))


def _gauge(name: str, text: str, labels: list[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"flk_{name}", text, labels=labels)
