"""Regions of roles alone: real keepers, a real arbiter process, real HTTP; streams are numbers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from region_documents import document, region

from fractal_lba.canonical import jcs, parse
from fractal_lba_server.config import Address
from fractal_lba_server.core.lease import Terms
from fractal_lba_server.core.regions import Registry, read_registry
from fractal_lba_server.net.peers import PeerListener
from fractal_lba_server.net.protocol import Reply, Request
from fractal_lba_server.role_callers import ArbiterAddress
from fractal_lba_server.role_keeper import RoleKeeper, RoleStatus, Said

TERMS = Terms(ttl_ms=1_000, renew_ms=150, max_drift_ms=50)
"""Short, so that a take-over lasts less than a second."""

WAIT_S = 20.0


def wait_until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


class Loop:
    """An event loop in a thread, for the listeners of peers."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(WAIT_S)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(WAIT_S)
        self.loop.close()


class RoleApp:
    """The one path of a peer listener that is about roles."""

    def __init__(self) -> None:
        self.keeper: RoleKeeper | None = None
        self.is_cut = False

    def body_limit(self, request: Request) -> int:
        return 65_536

    def refuse(self, code: str, message: str, request: Request, reply: Reply) -> None:
        reply(400, b"", b"")

    def handle(self, request: Request, reply: Reply) -> None:
        loop = asyncio.get_running_loop()

        def run() -> None:
            status, answer = 503, {}
            if self.keeper is not None and not self.is_cut:
                with contextlib.suppress(ValueError):
                    answer = self.keeper.answer_peer(None, parse(request.body))
                    status = 200
            loop.call_soon_threadsafe(reply, status, b"", jcs(answer))

        threading.Thread(target=run, daemon=True).start()


class FakeRegion:
    """What the keeper needs of a region, with a number in place of each stream."""

    def __init__(self, code: str, world: RoleWorld) -> None:
        self.code, self.world = code, world
        self.data = world.folder / code
        self.data.mkdir(exist_ok=True)
        self.app = RoleApp()
        self.streams = dict.fromkeys(world.codes, 0)
        self.acks: dict[str, int] = {}
        self.fences: dict[str, int] = {}
        self.adopted = 0
        self.said: list[Said] = []
        self.failure = ""
        self.keeper: RoleKeeper | None = None

    # Links

    def fence(self, region: str, placement: str, region_epoch: int) -> None:
        self.fences[region] = max(self.fences.get(region, 0), region_epoch)

    def adopt(self, placement: str, region_epoch: int) -> None:
        self.adopted = region_epoch

    def merged(self, region: str, placement: str) -> int:
        return self.streams[region]

    stored = merged

    def acked(self, placement: str, peer: str) -> int:
        return self.acks.get(peer, 0)

    def in_flight(self, placement: str) -> int:
        return 0

    def fetch(self, peer: str, region: str, placement: str) -> None:
        self.streams[region] = max(self.streams[region], self.world.regions[peer].streams[region])

    # what the tests do

    def start(self) -> None:
        world = self.world
        address = None if world.arbiter_url is None else ArbiterAddress(world.arbiter_url)
        self.keeper = RoleKeeper(
            registry=world.registry, region=self.code, data=self.data, links=self,
            emit=self.said.append, arbiter=address, terms=TERMS,
            on_failure=lambda reason: setattr(self, "failure", reason),
        )  # fmt: skip
        self.keeper.start()
        self.app.keeper = self.keeper

    def stop(self) -> None:
        if self.keeper is not None:
            self.app.keeper = None
            self.keeper.stop()
            self.keeper = None

    @property
    def status(self) -> RoleStatus:
        assert self.keeper is not None
        return next(one for one in self.keeper.status() if one.placement == "open")

    @property
    def may_write(self) -> bool:
        return bool(self.said) and time.time_ns() < self.said[-1].until_ns

    def write(self, count: int = 1) -> None:
        assert self.may_write
        self.streams[self.code] += count

    def ship(self, to: str) -> None:
        peer = self.world.regions[to]
        if self.adopted < peer.fences.get(self.code, 0):
            assert self.keeper is not None
            self.keeper.fenced("open", peer.fences[self.code])
            return
        peer.streams[self.code] = self.acks[to] = self.streams[self.code]


class RoleWorld:
    """Some regions of one placement, and where their arbiter is."""

    def __init__(self, folder: Path, *, codes: tuple[str, ...] = ("eu1", "us1")) -> None:
        self.folder, self.codes = folder, codes
        self.loop = Loop()
        self.arbiter_url: str | None = None
        self.regions: dict[str, FakeRegion] = {code: FakeRegion(code, self) for code in codes}
        self.listeners = {
            code: self.loop.run(self._listen(self.regions[code].app)) for code in codes
        }
        self.document = document(
            regions=[
                region(
                    code, number, endpoint=f"https://{code}.example",
                    peer=f"http://127.0.0.1:{self.listeners[code].address.port}",
                )
                for number, code in enumerate(codes, 1)
            ],
            placements={
                "open": {"regions": list(codes), "topology": "warm-standby", "primary": codes[0]},
                "both": {"regions": list(codes), "topology": "active-active"},
            },
        )  # fmt: skip
        self.registry: Registry = read_registry(self.document)
        self.file = folder / "regions.yaml"
        self.file.write_text(json.dumps(self.document))

    async def _listen(self, app: Any) -> PeerListener:
        return await PeerListener.start(app, Address("127.0.0.1", 0), None)

    def start(self) -> None:
        for each in self.regions.values():
            each.start()

    def close(self) -> None:
        for each in self.regions.values():
            each.stop()
        for listener in self.listeners.values():
            self.loop.run(listener.close())
        self.loop.close()


class ArbiterProcess:
    """`flk-server arbiter` as a process."""

    def __init__(self, file: Path, state: str, *more: str, listen: str = "127.0.0.1:0") -> None:
        code = "from fractal_lba_server.cli_arbiter import arbiter; arbiter()"
        self.process = subprocess.Popen(
            [
                sys.executable, "-c", code, "--listen", listen, "--state", state,
                "--regions", str(file), "--ttl-ms", str(TERMS.ttl_ms),
                "--renew-ms", str(TERMS.renew_ms), "--max-drift-ms", str(TERMS.max_drift_ms),
                *more,
            ],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ,
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("arbiter listening on "):
            raise AssertionError(line + self.process.communicate()[1])
        self.address = line.split()[-1]
        self.url = f"http://{self.address}"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=WAIT_S)
        return self.process.returncode


@contextlib.contextmanager
def roles_of(
    folder: Path, *, arbiter: str | None = None, codes: tuple[str, ...] = ("eu1", "us1")
) -> Iterator[tuple[RoleWorld, ArbiterProcess | None]]:
    """Run regions; `arbiter` is the URL of its state, or None for no arbiter."""
    world = RoleWorld(folder, codes=codes)
    process = ArbiterProcess(world.file, arbiter) if arbiter is not None else None
    world.arbiter_url = None if process is None else process.url
    world.start()
    try:
        yield world, process
    finally:
        world.close()
        if process is not None:
            process.kill()
