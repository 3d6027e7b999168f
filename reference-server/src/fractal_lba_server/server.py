"""Puts one region together and runs it: data directory, logs, index, machine, listeners.

The order of a start is the order of trust: lock the directory, read the log, bring the index up
to it, then listen. The order of a stop is the reverse: take nothing new, answer what was taken,
then let go.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import secrets
import signal
import ssl
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from fractal_lba.errors import ConfigError

from .admin_token import read_admin_token
from .between import Between
from .config import Address, Config, Tls
from .contract import schema
from .core.faults import DocumentError, Fault
from .core.first_write import Apply
from .core.ingest import Ingest, Settings
from .core.ingest_events import DirectoryChanged, Draining, PoliciesChanged
from .core.policy import PolicyBook
from .core.record import RecordShape
from .core.regions import Registry, alone, elsewhere, placement_faults
from .core.tenants import Directory
from .ingest import Driver
from .logs import Log, LogHandler
from .metrics import Metrics
from .net.admin import AdminApp
from .net.app import App, AppSettings
from .net.listener import Server, bind, listener
from .net.protocol import Application, Connection, WireLimits, bound_connection, sweep
from .net.region_admin import RegionAdmin
from .open_lookups import open_lookups
from .own_streams import OwnStreams, catch_up, catch_up_mirrors
from .policy_file import check_ttl, load_policies
from .region_metrics import RegionMetrics
from .regions_file import load_regions
from .store.data_dir import DataDir, StreamDir, write_durably
from .store.ring import RingLog
from .store.sqlite import Index, faults_named
from .store.states import States
from .store.view import View
from .tenants import TenantsFile, TenantsReader

EXIT_LOG_FAILED: Final = 74
"""Exit status after a failed sync (EX_IOERR): what was written before it may be lost."""

SIGNATURE_THREADS: Final = 2
"""Threads that check Ed25519 signatures; each check leaves the interpreter to others."""

TLS_POLL_S: Final = 1.0
"""How often the files of TLS are looked at for a new certificate."""

GC_THRESHOLD: Final = (50_000, 20, 100)
"""Requests make no cycles, and each look at young objects costs all of them."""


class Region:
    """One running region. `start`, then `stopped`, on one event loop."""

    def __init__(self, config: Config, log: Log) -> None:
        self._config = config
        self._log = log
        self._stop = asyncio.Event()
        self._exit_status = 0
        self._reading = threading.Lock()
        self._tasks: list[asyncio.Task[Any]] = []
        self._servers: list[tuple[Server, asyncio.Task[None]]] = []
        self._pool = ThreadPoolExecutor(SIGNATURE_THREADS, thread_name_prefix="signatures")
        self.data = DataDir.open(config.data, region=config.region)
        self.metrics = Metrics(region=self.data.region, salt=_salt(self.data.path))
        self.policies = load_policies(config.policy_file)
        self._keep_policies(self.policies)
        self.registry = self._registry()
        self._states = States()
        self.between: Between | None = None
        self.index = Index(self.data.index, on_applied=self._applied)
        self._open_driver()
        self._early: Directory | None = None
        self.between = self._open_between()
        if self.between is not None and config.tenants_file is not None:
            reader = TenantsReader(config.tenants_file, environ=os.environ)
            self._early = reader.read().directory
        self._open_streams()
        self.tenants = self._open_tenants()
        self._early = None
        self._start_machine()

    def _applied(self, rows: Sequence[Apply]) -> None:
        """Follow what the index has committed, in its thread."""
        if self.between is not None:
            self._states.applied(rows)
        self.driver.rows_replaced([row.key for row in rows if row.replaced is not None])

    def _registry(self) -> Registry:
        path, region = self._config.regions_file, self.data.region
        if path is None:
            return alone(region)
        return load_regions(path, data=self.data.path, region=region)

    def _open_tenants(self) -> TenantsFile:
        path = self._config.tenants_file
        if path is None:
            fault = Fault("/tenants_file", "missing", "name a tenants file; see tenants key new")
            raise DocumentError([fault])
        return TenantsFile(
            path,
            log=self._log,
            metrics=self.metrics,
            kids_in_use=self._kids_in_use,
            accept=self._accept,
        )

    def _accept(self, directory: Directory) -> None:
        """Refuse tenants that policies or placements do not allow."""
        check_ttl(directory, self.policies)
        faults = placement_faults(directory, self.registry)
        if faults:
            raise DocumentError(faults)

    def _directory_now(self) -> Directory:
        """Give the tenants, also before the logs are read that their file is held against."""
        return self._early or self.tenants.directory

    def _kids_in_use(self) -> frozenset[str]:
        """Name the keys of the log: those the index knows, and those of the last moments."""
        used = self.driver.core.kids_used.copy() if hasattr(self.driver, "core") else set()
        return self.index.kids | used

    def _open_driver(self) -> None:
        config = self._config
        inbox = rejects = None
        if config.wal.before_parse:
            inbox = RingLog(self.data.path / "inbox", max_bytes=config.wal.inbox_bytes)
        if config.wal.rejects_bytes:
            rejects = RingLog(self.data.path / "rejects", max_bytes=config.wal.rejects_bytes)
        self.driver = Driver(
            index=self.index,
            pool=self._pool,
            on_failure=self._fail,
            inbox=inbox,
            rejects=rejects,
        )

    def _open_between(self) -> Between | None:
        if self._config.peers.listen is None:
            return None
        return Between(
            self._config,
            data=self.data,
            registry=self.registry,
            index=self.index,
            driver=self.driver,
            log=self._log,
            policies=lambda: self.policies,
            directory=self._directory_now,
            fail=self._fail,
            states=self._states,
        )

    def _open_streams(self) -> None:
        config = self._config
        self.streams = OwnStreams(
            config,
            data=self.data,
            index=self.index,
            registry=self.registry,
            driver=self.driver,
            replication=None if self.between is None else self.between.replication,
            on_commit=self._count_commit,
            return_tail=_nothing if self.between is None else self.between.return_lost_tail,
        )
        mirrors = [one for one in self.data.streams() if one.region != self.data.region]
        with faults_named(self.data.index):
            applied = catch_up(self.index, self.streams.directories, rank=self.registry.rank)
            applied += catch_up_mirrors(self.index, mirrors, rank=self.registry.rank)
        self._log.event(
            "log_recovered",
            next_seq=self.streams.next_seq,
            cut_bytes=self.streams.cut_bytes,
            replayed=applied,
        )
        self.view = View(
            self.index,
            notify=self.driver.from_view,
            on_failure=self.driver.fail_from_thread,
            rows_max=config.store.apply_rows_max,
            interval_s=config.store.apply_interval_s,
        )

    def _start_machine(self) -> None:
        config = self._config
        core = Ingest(
            Settings(
                region=self.data.region,
                recent_max=config.store.recent_max,
                max_skew_ms=config.limits.clock_skew_ms_max,
                unauthenticated_per_s=config.limits.unauthenticated_per_s,
                replicated_wait_ms=config.peers.replicated_wait_ms,
                cut_off_ms=config.peers.cut_off_ms,
                claims=config.dedup.control is not None,
                elsewhere=elsewhere(self.registry, self.data.region),
            ),
            check=RecordShape(schema("pcs")).check,
            directory=self.tenants.directory,
            policies=self.policies,
            streams=self.streams.starts,
            last_hlc=max(self.streams.last_hlc, self.index.last_hlc),
            rank=self.registry.rank,
        )
        self.driver.bind(core, self.streams.wals, self.view)

    # --- running

    async def start(self) -> tuple[Address, Address | None]:
        """Listen; give the addresses, whose ports the system may have chosen."""
        config = self._config
        self.view.start()
        self._behind = await open_lookups(
            config, data=self.data, index=self.index, driver=self.driver, registry=self.registry,
            policies=self.policies,
        )  # fmt: skip
        if self.between is not None:
            self.between.start()
        self.streams.start()
        threading.Thread(target=self.index.fill_filter, name="filter", daemon=True).start()
        app = self._app()
        public = self._listen(config.listen, app)
        admin = None
        if config.admin_listen is not None:
            admin = self._listen(config.admin_listen, self._admin_app())
        if self.between is not None:
            self.between.address = self._listen(
                self.between.listen, self.between.app(), self.between.tls
            )
        for server, serving in self._servers:
            while not server.started:  # the HTTP server has no event for it
                if serving.done():
                    serving.result()  # raises what ended it
                await asyncio.sleep(0.001)
            state = server.server_state
            self._tasks.append(asyncio.create_task(sweep(state.connections)))
        connections = self._servers[0][0].server_state.connections
        self._follow(connections)
        if self.between is not None:
            between = self.between
            self.metrics.registry.register(
                RegionMetrics(self.data.region, between.replication, between.divergence)
            )
        self._tasks.append(asyncio.create_task(self.tenants.watch(self._directory_changed)))
        self._tasks.append(asyncio.create_task(self._watch_certificates()))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self.tenants.request_reload)
        # What exists now lives as long as the process; the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLD)
        self._log.event("listening", listen=str(public), admin=str(admin), region=self.data.region)
        return public, admin

    async def stopped(self) -> int:
        """Wait for a signal or a failure, stop in order, and give the exit status."""
        await self._stop.wait()
        self.driver.feed(Draining())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.driver.finished(), self._config.limits.drain_timeout_s)
        for task in self._tasks:
            task.cancel()
        if self.between is not None:
            self.between.cancel()
            await asyncio.to_thread(self.between.stop)
        for server, _ in self._servers:
            server.should_exit = True
        await asyncio.gather(*(task for _, task in self._servers))
        await self._behind.close()
        await asyncio.to_thread(self._close)
        self._log.event("stopped", status=self._exit_status)
        return self._exit_status

    def _close(self) -> None:
        if not self._exit_status:
            self.streams.stop()
        self.view.stop()  # what it was given is durable, also where the log has failed since
        self.index.close()
        self._pool.shutdown(wait=False)
        self.data.close()

    def _fail(self, reason: str) -> None:
        self._log.event("log_failed", level="error", reason=reason)
        self._exit_status = EXIT_LOG_FAILED
        self._stop.set()

    # --- listeners

    def _app(self) -> App:
        settings = AppSettings(
            region=self.data.region,
            has_peers=self.between is not None,
            allowed_origins=frozenset(self._config.cors.allowed_origins),
        )
        return App(
            self.driver,
            settings,
            directory=lambda: self.tenants.directory,
            policy_version=lambda tenant: self.policies.for_tenant(tenant).version,
            log=self._log,
            metrics=self.metrics,
        )

    def _admin_app(self) -> AdminApp:
        config = self._config
        token = config.admin_token_file
        region = RegionAdmin(
            region=self.data.region,
            registry=self.registry,
            keeper=None if self.between is None else self.between.keeper,
            describe=self._describe,
            drain=self._drain,
            token=None if token is None else read_admin_token(token),
            certified=config.tls.client_ca is not None,
        )
        return AdminApp(metrics=self.metrics, drain=self._drain, reload=self._reload, region=region)

    def _describe(self) -> dict[str, Any]:
        """Describe gate and streams, for the operator."""
        streams = [stream.status() for stream in self.driver.core.streams.values()]
        links = {"lags": [], "received": []} if self.between is None else self.between.status()
        return {"gate": self.driver.closed(), "streams": streams, **links}

    def _listen(self, address: Address, app: Application, tls: Tls | None = None) -> Address:
        sock = bind(address)
        limits = self._config.limits
        protocol: type[Connection] = bound_connection(
            app,
            WireLimits(
                head_bytes=limits.head_bytes,
                headers=limits.headers,
                head_timeout_s=limits.head_timeout_s,
                body_timeout_s=limits.body_timeout_s,
                connections=limits.connections,
                body_bytes_in_flight=limits.body_bytes_in_flight,
            ),
        )
        if not self._servers:
            self._public = protocol
        if tls is None:
            tls = self._config.tls
        server = listener(protocol, tls)
        self._servers.append((server, asyncio.create_task(server.serve([sock]))))
        host, port = sock.getsockname()[:2]
        return Address(host, port)

    async def _watch_certificates(self) -> None:
        """Load a renewed certificate; connections that are open keep the old one."""
        tls = self._config.tls
        if tls.cert is None or tls.key is None:
            return
        seen = _stamp(tls.cert, tls.key)
        while True:
            await asyncio.sleep(TLS_POLL_S)
            now = _stamp(tls.cert, tls.key)
            if now is None or now == seen:
                continue
            seen = now
            try:
                for server, _ in self._servers:
                    if server.config.ssl is not None:
                        server.config.ssl.load_cert_chain(tls.cert, tls.key)
            except (ssl.SSLError, OSError) as error:
                self._log.event("certificate_refused", level="error", error=str(error))
            else:
                self._log.event("certificate_loaded", file=str(tls.cert))

    # --- operations

    def _follow(self, connections: set[Any]) -> None:
        metrics, driver = self.metrics, self.driver
        for name, read in self._behind.gauges().items():
            metrics.follow(name, read, text=f"{name.replace('_', ' ').capitalize()}.")
        metrics.follow("gate_open", lambda: float(driver.closed() is None))
        metrics.follow("recent_outcomes", lambda: driver.core.recent)
        metrics.follow("unsynced_frames", lambda: driver.core.in_flight)
        metrics.follow("connections", lambda: len(connections))
        metrics.follow("body_bytes", lambda: self._public.bodies[0])
        metrics.follow("log_dropped_lines", lambda: self._log.dropped_lines)

    def _count_commit(self, frames: int, size_bytes: int, duration_ns: int) -> None:
        self.metrics.synced(frames=frames, size_bytes=size_bytes, duration_ns=duration_ns)

    def _drain(self) -> int:
        self.driver.feed(Draining())
        self._log.event("draining")
        return self.driver.core.in_flight

    def _directory_changed(self, directory: Directory) -> None:
        self.driver.feed(DirectoryChanged(directory))

    def _reload(self, done: Callable[[dict[str, Any] | ConfigError], None]) -> None:
        """Read both files again, off the event loop; call `done` on it."""
        loop = asyncio.get_running_loop()

        def run() -> None:
            try:
                result: dict[str, Any] | ConfigError = self._read_again()
            except (ConfigError, OSError) as error:
                text = error.message if isinstance(error, ConfigError) else str(error)
                result = ConfigError("config_invalid", text)
            loop.call_soon_threadsafe(self._reloaded, result, done)

        threading.Thread(target=run, name="reload", daemon=True).start()

    def _read_again(self) -> dict[str, Any]:
        with self._reading:  # a second reload must not use what this one has not kept yet
            policies = load_policies(self._config.policy_file)
            self._keep_policies(policies)
            before, self.policies = self.policies, policies
            try:
                self.tenants.read_now()  # holds the tenants against the policies that were read
            except (ConfigError, OSError):
                self.policies = before
                raise
            return {
                "tenants": len(self.tenants.directory.tenants),
                "policies": [policy.version for policy in policies.policies()],
            }

    def _reloaded(
        self,
        result: dict[str, Any] | ConfigError,
        done: Callable[[dict[str, Any] | ConfigError], None],
    ) -> None:
        if not isinstance(result, ConfigError):
            self.driver.feed(DirectoryChanged(self.tenants.directory))
            self.driver.feed(PoliciesChanged(self.policies))
        done(result)

    def _keep_policies(self, policies: PolicyBook) -> None:
        for policy in policies.policies():
            self.data.keep_policy(policy)


def _nothing(stream: StreamDir) -> None:
    """Fetch nothing."""


def _salt(path: Path) -> bytes:
    """Keep the salt of the tenants' pseudonyms, so that a restart keeps their series."""
    file = path / "metrics.salt"
    if not file.exists():
        write_durably(file, secrets.token_bytes(32))
    return file.read_bytes()


def _stamp(*paths: Path) -> tuple[int, ...] | None:
    try:
        return tuple(path.stat().st_mtime_ns for path in paths)
    except OSError:
        return None


async def _serve(config: Config, log: Log, ready: Callable[[Address, Address | None], None]) -> int:
    region = Region(config, log)
    ready(*await region.start())
    return await region.stopped()


def serve(config: Config, *, ready: Callable[[Address, Address | None], None]) -> int:
    """Run a region until it is told to stop; give the exit status."""
    with Log(sys.stderr.buffer) as log:
        handler = LogHandler(log)
        for name in ("uvicorn", "fractal_lba_server", "asyncio"):
            logging.getLogger(name).addHandler(handler)
            logging.getLogger(name).setLevel(logging.WARNING)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_serve(config, log, ready))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - it may be absent
    except ImportError:  # not available on Windows; slower there
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
