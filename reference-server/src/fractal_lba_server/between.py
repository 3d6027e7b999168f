"""What runs between this region and the others: shipping of the log, and word of who may write.

Only wiring stands here. What is shipped and what an acknowledgement means is decided in
`core/replication.py` and `core/receiver.py`, what frames of two regions make of each other in
`core/ingest.py`, who may write in `core/roles.py` and at the arbiter.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fractal_lba.errors import ConfigError

from .config import Address, Config, Tls
from .contract import schema
from .core.first_write import Origin
from .core.ingest_events import PeerAcked, PeerHeard, StreamStopped
from .core.lease import Terms
from .core.policy import Policy, PolicyBook
from .core.record import RecordShape
from .core.regions import Registry
from .core.replay import Replay, VerifiedFrame
from .core.tenants import Directory
from .divergence import Divergence
from .ingest import Driver
from .logs import Log
from .lost_tail import return_lost_tail
from .net.peers import PeerApp, PeerTls
from .replication import Alarm, Replication
from .role_callers import ArbiterAddress
from .role_keeper import RoleKeeper
from .role_links import RoleLinks
from .store.data_dir import DataDir, StreamDir
from .store.region_key import read_region_key
from .store.sqlite import Index
from .store.states import States

if TYPE_CHECKING:
    from .store.object_transport import ObjectTransport


class Between:
    """The links of one region; `start` and `stop` frame everything else."""

    def __init__(
        self,
        config: Config,
        *,
        data: DataDir,
        registry: Registry,
        index: Index,
        driver: Driver,
        log: Log,
        policies: Callable[[], PolicyBook],
        directory: Callable[[], Directory],
        fail: Callable[[str], None],
        states: States,
    ) -> None:
        peers = config.peers
        assert peers.listen is not None
        assert peers.region_key is not None
        self.listen = peers.listen
        self.address: Address | None = None
        self.tls = Tls(cert=peers.cert, key=peers.key, client_ca=peers.ca, behind_proxy=False)
        self._listen_s = peers.cut_off_ms / 4_000
        self._data = data
        self._driver = driver
        self._log = log
        self._fail = fail
        self._policies = data.policies()
        self._book = policies
        key = read_region_key(peers.region_key)
        if key.public_key != registry.regions[data.region].public_key:
            text = f"{peers.region_key}: not the key that the regions file has for {data.region}"
            raise ConfigError("config_invalid", text)
        shape = RecordShape(schema("pcs"))
        self.states = states
        self._registry = registry
        self._tls = _peer_tls(config)
        self._replay = Replay(check=shape.check, directory=directory, policy=self._policy)
        self.replication = Replication(
            registry=registry,
            region=data.region,
            region_epoch=data.region_epoch,
            key=key,
            data=data.path,
            replay=self._replay,
            keep_policy=self._keep_policy,
            policy_bytes=self._policy_bytes,
            on_frames=self._frames,
            on_peer_acked=self._acked,
            on_alarm=self._alarm,
            applied=index.applied,
            tls=self._tls,
            batch_bytes=peers.batch_bytes,
            objects=None if peers.objects is None else _objects(peers.objects),
            max_skew_ms=config.limits.clock_skew_ms_max,
        )

        self.keeper = self._open_keeper(config, registry, index)
        self.divergence = Divergence(
            region=data.region,
            registry=registry,
            states=states,
            index=index,
            replication=self.replication,
            core=lambda: driver.core,
            report=log.event,
            interval_s=peers.compare_interval_ms / 1000,
        )

    def _probing_ended(self, task: asyncio.Task[None]) -> None:
        """Say that nothing is compared any more: a defect, which must not be silent."""
        if not task.cancelled():
            error = task.exception()
            self._log.event("comparison_ended", level="error", error=repr(error))

    def _open_keeper(self, config: Config, registry: Registry, index: Index) -> RoleKeeper | None:
        region = self._data.region
        if not any(placement.needs_lease for placement in registry.held_by(region)):
            return None
        links = RoleLinks(
            region=region, replication=self.replication, index=index, driver=self._driver
        )
        arbiter, tls = config.arbiter, _peer_tls(config)
        keeper = RoleKeeper(
            registry=registry,
            region=region,
            data=self._data.path,
            links=links,
            emit=links.emit,
            arbiter=None if arbiter.url is None else ArbiterAddress(arbiter.url, tls),
            terms=Terms(arbiter.ttl_ms, arbiter.renew_ms, arbiter.max_drift_ms),
            tls=tls,
            report=lambda event, members: self._log.event(event, **members),
            on_failure=self._fail,
        )
        self.replication.on_role = keeper.answer_peer
        return keeper

    def cancel(self) -> None:
        """End what runs on the event loop."""
        self._probing.cancel()
        self._listening.cancel()

    async def _listen(self) -> None:
        """Tell the machine when a peer of each placement was last heard of."""
        while True:
            now_ns = time.time_ns()
            for one in self.replication.received():
                at_ns = now_ns - one.heard_age_ms * 1_000_000
                self._driver.feed(PeerHeard(one.placement, at_ns))
            await asyncio.sleep(self._listen_s)

    def app(self) -> PeerApp:
        """Give the application of the peer listener."""
        return self.replication.app()

    def start(self) -> None:
        """Begin to ship, to receive and to compare; on the event loop."""
        self.replication.start(asyncio.get_running_loop())
        for lag in self.replication.lags():  # what peers have acknowledged before
            self._driver.feed(PeerAcked(lag.placement, lag.peer, lag.acked_seq))
        if self.keeper is not None:
            self.keeper.start()
        threading.Thread(
            target=self.states.fill, args=(self._data.index,), name="states", daemon=True
        ).start()
        self._probing = asyncio.create_task(self.divergence.run())
        self._probing.add_done_callback(self._probing_ended)
        self._listening = asyncio.create_task(self._listen())

    def stop(self) -> None:
        """End the threads; not on the event loop, where `probing` is cancelled before."""
        if self.keeper is not None:
            self.keeper.stop()
        self.replication.stop()

    # --- what replication says

    def _frames(
        self,
        origin: Origin,
        frames: Sequence[VerifiedFrame],
        done: Callable[[Sequence[int]], None],
    ) -> None:
        self._driver.take_peer_frames(tuple(frame.facts for frame in frames), done)

    def _acked(self, placement: str, peer: str, seq: int, displaced: Sequence[int]) -> None:
        self._driver.feed(PeerAcked(placement, peer, seq, tuple(displaced)))

    def _alarm(self, alarm: Alarm) -> None:
        self._log.event(
            "region_alarm",
            level="error",
            code=alarm.code,
            region=alarm.region,
            placement=alarm.placement,
            message=alarm.message,
        )
        if alarm.fatal:
            self._fail(alarm.message)
        if alarm.code == "local_log_lost" and alarm.region == self._data.region:
            text = "this log has lost what another region holds of it; see the log of the server"
            self._driver.feed(StreamStopped(alarm.placement, text))
        if alarm.code == "fenced" and self.keeper is not None:
            self.keeper.fenced(alarm.placement, alarm.fenced_epoch)

    def return_lost_tail(self, stream: StreamDir) -> None:
        """Fetch what peers hold of a log of ours and a lost disk does not; blocks.

        Raises PeerRefusedError if somebody holds more than can be had: no number may be given
        twice.
        """
        placement = stream.placement
        found = return_lost_tail(
            stream.path, registry=self._registry, region=stream.region, placement=placement,
            replay=self._replay, keep_policy=self._keep_policy, tls=self._tls,
        )  # fmt: skip
        if found.source is not None:
            self._log.event(
                "log_returned", placement=placement, source=found.source,
                before_seq=found.before_seq, seq=found.seq,
            )  # fmt: skip

    # --- policies travel with the outcomes that were decided under them

    def _policy(self, version: str) -> Policy | None:
        found = self._policies.get(version)
        if found is None:
            found = next((one for one in self._book().policies() if one.version == version), None)
        return found

    def _keep_policy(self, policy: Policy) -> None:
        self._data.keep_policy(policy)
        self._policies[policy.version] = policy

    def _policy_bytes(self, version: str) -> bytes | None:
        policy = self._policy(version)
        return None if policy is None else policy.to_bytes()

    def status(self) -> dict[str, Any]:
        """Describe what is shipped and what is received, for the operator."""
        replication = self.replication
        return {
            "lags": [lag._asdict() for lag in replication.lags()],
            "received": [one._asdict() for one in replication.received()],
        }


def _objects(url: str) -> ObjectTransport:
    try:
        from .store.object_transport import ObjectTransport, open_store  # noqa: PLC0415 - an extra
    except ImportError as error:
        text = f"{error.name} is not installed: pip install 'fractal-lba-server[tiers]'"
        raise ConfigError("config_invalid", text) from None
    return ObjectTransport(open_store(url))


def _peer_tls(config: Config) -> PeerTls | None:
    peers = config.peers
    if peers.cert is None or peers.key is None or peers.ca is None:
        return None
    return PeerTls(peers.cert, peers.key, peers.ca)
