"""Puts one region together and runs it: data directory, log, index, machine, two listeners.

The order of a start is the order of trust: lock the directory, read the log, bring the index up
to it, then listen. The order of a stop is the reverse: take nothing new, answer what was taken,
then let go.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import secrets
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import uvicorn

from fractal_lba.errors import ConfigError

from .config import Address, Config
from .contract import schema
from .core.facts import read_facts
from .core.faults import DocumentError, Fault
from .core.ingest import Apply, DirectoryChanged, Draining, Ingest, PoliciesChanged, Settings
from .core.policy import PolicyBook, ttl_faults
from .core.record import RecordShape
from .core.tenants import Directory
from .ingest import Driver
from .logs import Log, LogHandler
from .metrics import Metrics
from .net.admin import AdminApp
from .net.app import App, AppSettings
from .net.protocol import Application, Connection, WireLimits, bound_connection, sweep
from .schema_faults import schema_faults
from .store.data_dir import DataDir, write_durably
from .store.ring import RingLog
from .store.sqlite import Index
from .store.view import View
from .store.wal import Wal, read_frames
from .tenants import TenantsFile
from .yaml_document import read_document

EXIT_LOG_FAILED: Final = 74
"""Exit status after a failed sync (EX_IOERR): what was written before it may be lost."""

REPLAY_ROWS: Final = 65_536
"""Rows of one transaction while the index catches up with the log."""

BACKLOG: Final = 2_048
"""Connections that the system holds until they are accepted."""

SIGNATURE_THREADS: Final = 2
"""Threads that check Ed25519 signatures; each check leaves the interpreter to others."""

TLS_POLL_S: Final = 1.0
"""How often the files of TLS are looked at for a new certificate."""

GC_THRESHOLD: Final = (50_000, 20, 100)
"""Requests make no cycles worth finding, and each look at young objects costs all of them."""


def catch_up(index: Index, wal: Path, *, report: Callable[[int], None] = lambda seq: None) -> int:
    """Bring the index up to the log; give the number of outcomes applied.

    Raises WalCorruptError, or ValueError for a frame without facts.
    """
    batch: list[Apply] = []
    applied = 0
    try:
        for _, frame in read_frames(wal, index.applied_seq + 1):
            facts = read_facts(frame)
            batch.append(Apply(facts.key, facts.stored, facts.kid))
            if len(batch) == REPLAY_ROWS:
                report(index.apply(batch))
                applied += len(batch)
                batch = []
    finally:
        # Also what stands before damage: the index then says how much of the log there was.
        index.apply(batch)
    return applied + len(batch)


def load_policies(path: Path | None) -> PolicyBook:
    """Read the policy file; without one, every tenant has the default policy."""
    if path is None:
        return PolicyBook()
    document = read_document(path)
    faults = schema_faults("policy", document.value)
    if faults:
        raise document.error(faults)
    return PolicyBook.from_document(document.value)


def check_ttl(directory: Directory, policies: PolicyBook) -> None:
    """Refuse to forget ids of a tenant whose `sent_at` may be unsigned."""
    versions = {tenant.id: tenant.min_version for tenant in directory.tenants.values()}
    faults = ttl_faults(policies, versions)
    if faults:
        raise DocumentError(faults)


class Server(uvicorn.Server):
    """A listener whose signals are somebody else's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


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
        self.index = Index(self.data.index)
        self._open_log()
        self.tenants = self._open_tenants()
        self._start_machine()

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
            accept=lambda directory: check_ttl(directory, self.policies),
        )

    def _kids_in_use(self) -> frozenset[str]:
        """Name the keys of the log: those the index knows, and those of the last moments."""
        used = self.driver.core.kids_used.copy() if hasattr(self.driver, "core") else set()
        return self.index.kids | used

    def _open_log(self) -> None:
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
        self.wal = Wal(
            self.data.wal,
            notify=self.driver.from_thread,
            region_epoch=self.data.region_epoch,
            applied_seq=self.index.applied_seq,
            segment_bytes=config.wal.segment_bytes,
            segment_age_s=config.wal.segment_age_s,
            on_commit=self._count_commit,
        )
        recovered = self.wal.recovered
        applied = catch_up(self.index, self.data.wal)
        self._log.event(
            "log_recovered",
            next_seq=recovered.next_seq,
            cut_bytes=recovered.cut_bytes,
            replayed=applied,
        )
        self.view = View(
            self.index,
            notify=self.driver.from_thread,
            rows_max=config.store.apply_rows_max,
            interval_s=config.store.apply_interval_s,
        )

    def _start_machine(self) -> None:
        config, recovered = self._config, self.wal.recovered
        core = Ingest(
            Settings(
                region=self.data.region,
                recent_max=config.store.recent_max,
                max_skew_ms=config.limits.clock_skew_ms_max,
                unauthenticated_per_s=config.limits.unauthenticated_per_s,
            ),
            check=RecordShape(schema("pcs")).check,
            directory=self.tenants.directory,
            policies=self.policies,
            next_seq=recovered.next_seq,
            last_hlc=recovered.last_hlc,
        )
        self.driver.bind(core, self.wal, self.view)

    # --- running

    async def start(self) -> tuple[Address, Address | None]:
        """Listen; give the addresses, whose ports the system may have chosen."""
        config = self._config
        self.wal.start()
        self.view.start()
        threading.Thread(target=self.index.fill_filter, name="filter", daemon=True).start()
        app = self._app()
        public = self._listen(config.listen, app)
        admin = None
        if config.admin_listen is not None:
            admin = self._listen(config.admin_listen, self._admin_app())
        for server, serving in self._servers:
            while not server.started:  # the HTTP server has no event for it
                if serving.done():
                    serving.result()  # raises what ended it
                await asyncio.sleep(0.001)
            state = server.server_state
            self._tasks.append(asyncio.create_task(sweep(state.connections)))
        connections = self._servers[0][0].server_state.connections
        self._follow(connections)
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
        for server, _ in self._servers:
            server.should_exit = True
        await asyncio.gather(*(task for _, task in self._servers))
        await asyncio.to_thread(self._close)
        self._log.event("stopped", status=self._exit_status)
        return self._exit_status

    def _close(self) -> None:
        if not self._exit_status:
            self.wal.stop()
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
            region_epoch=self.data.region_epoch,
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
        return AdminApp(metrics=self.metrics, drain=self._drain, reload=self._reload)

    def _listen(self, address: Address, app: Application) -> Address:
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
        tls = self._config.tls
        config = uvicorn.Config(
            _no_asgi,
            http=protocol,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            ssl_certfile=tls.cert,
            ssl_keyfile=tls.key,
            ssl_ca_certs=str(tls.client_ca) if tls.client_ca else None,
            ssl_cert_reqs=ssl.CERT_REQUIRED if tls.client_ca else ssl.CERT_NONE,
            timeout_graceful_shutdown=5,
        )
        config.load()
        if config.ssl is not None:
            config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
        server = Server(config)
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


def bind(address: Address) -> socket.socket:
    """Bind a listening socket; raises OSError."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((address.host, address.port))
    except OSError:
        sock.close()
        raise
    return sock


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


async def _no_asgi(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("requests go to the protocol's application, not through ASGI")


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
