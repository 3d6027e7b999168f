"""Offer load in batches that were signed before: for rates that one client cannot sign in time.

A batch is due at a fixed moment, as a call of `load.py` is; it is sent once, to the first
endpoint of its client, without an outbox.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from fractal_lba.errors import FractalLBAError
from fractal_lba.hooks import FailoverEvent
from fractal_lba.http import Request
from fractal_lba.sign import sign

from .fleet import Fleet
from .records import record, signer_of
from .trace import NS_PER_S
from .wiretap import RECORDED, Wiretap

BATCH_RECORDS: Final = 100
WORKERS: Final = 16
TIMEOUT_S: Final = 10.0


class BatchPopulation:
    """One sender of batches."""

    def __init__(self, fleet: Fleet, row: Mapping[str, Any]) -> None:
        load = fleet.scenario.part("load")
        self.name: str = row["name"]
        self.tenant: str = row.get("tenant", fleet.tenants[0]["id"])
        self.home_url = fleet.endpoints(row["endpoints"])[0][1]
        self.on_failover: Callable[[FailoverEvent], object] = lambda event: None
        self._fleet = fleet
        self._size = int(load.get("batch_records", BATCH_RECORDS))
        self._period_ns = self._size / (row["share"] * load["rate_per_s"]) * NS_PER_S
        seconds = load["duration_s"] + load.get("warmup_s", 0)
        count = int(seconds * NS_PER_S / self._period_ns) + 1
        region_of = {port: node.partition(".")[0] for node, port in fleet.client_ports.items()}
        self.wiretap = Wiretap(fleet.trace, self.name, self.tenant, region_of, frozenset())
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix=f"drill-{self.name}")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"drill-{self.name}")
        self._keys: list[str] = []
        self._bodies = [self._sign(number) for number in range(count)]

    def _sign(self, number: int) -> bytes:
        signer = signer_of(self.tenant, self._fleet.seed)
        lines = []
        for place in range(self._size):
            unsigned = record(f"{self.name}-{number}-{place}")
            lines.append(sign(unsigned, signer, sig_version=2, tenant=self.tenant).body)
            if not place:
                self._keys.append(f"{self.tenant}/{unsigned['pcs_id']}")
        return b"\n".join(lines) + b"\n"

    def start(self, begin_ns: int) -> None:
        """Begin the schedule at a moment of the trace."""
        self._begin_ns = begin_ns
        self._thread.start()

    def stop(self) -> None:
        """Offer nothing more; batches under way go on."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def close(self) -> None:
        """Wait for the batches, and close."""
        self.stop()
        self._pool.shutdown()
        self.wiretap.close()

    def flush(self, timeout_s: float) -> int:
        """Keep nothing back."""
        return 0

    def _run(self) -> None:
        for number, body in enumerate(self._bodies):
            due_ns = self._begin_ns + int(number * self._period_ns)
            wait_s = (due_ns - self._fleet.trace.now_ns()) / 1e9
            if self._stop.wait(max(0.0, wait_s)):
                return
            self._pool.submit(self._send, number, body, due_ns)

    def _send(self, number: int, body: bytes, due_ns: int) -> None:
        trace = self._fleet.trace
        called_ns, result, code = trace.now_ns(), "recorded", None
        headers = (("Content-Type", "application/x-ndjson"), ("X-Tenant-Id", self.tenant))
        request = Request("POST", f"{self.home_url}/v1/pcs/batch", headers, body)
        try:
            answer = self.wiretap.send(
                request, connect_timeout_s=TIMEOUT_S, attempt_timeout_s=TIMEOUT_S, cancel=None
            )
            if answer.status not in RECORDED:
                result, code = "failed", str(answer.status)
        except FractalLBAError as error:
            result, code = "failed", error.code
        trace.write(
            "call", client=self.name, key=self._keys[number], scheduled_ns=due_ns,
            call_ns=called_ns, result=result, code=code, records=self._size,
        )  # fmt: skip
