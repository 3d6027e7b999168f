"""One region of a world: a disk and clocks for ever, and a process now and then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fractal_lba_server.core.ingest_events import DirectoryChanged
from fractal_lba_server.core.tenants import Directory
from fractal_lba_server.drill.times import Time

from ..waiting import NS_PER_MS, NS_PER_S, Life
from .index import Index
from .net import End, Failure

if TYPE_CHECKING:
    from .node import Node
    from .world import World

BOOT_S: Final = 0.6
"""From the start of a process to the opening of its disk, if the settings say nothing else."""


class Region:
    """One region."""

    def __init__(self, world: World, code: str, rank: int) -> None:
        self.world = world
        self.code = code
        row = world.part("topology")["regions"][rank]
        per_s = row.get("capacity_per_s")
        self.record_ns = int(NS_PER_S / per_s) if per_s else 0
        """How long the region works on one record."""
        self.clock = world.parts.clock(world.agenda)
        settings = world.part("settings", "disk")
        sync = None if "sync_s" not in settings else Time.of(settings["sync_s"])
        self.disk = world.parts.disk(
            world.agenda, chance=world.streams.of("disk", code),
            sync_s=None if sync is None else sync.sample,
            bytes_per_s=settings.get("write_bytes_per_s"),
        )  # fmt: skip
        self.end = End(code)
        self.starts = 0
        self.node: Node | None = None
        self.directory: Directory = world.directory
        self.looks_ready = False
        """Whether probes pass whatever is the matter."""
        self.gray_share = 0.0
        self.gray_failures = 0
        self.probe_path_down = False
        self.probes_lost = 0
        self.router: Any = None
        self.tiers: Any = None
        boot = world.part("settings", "snapshot").get("boot_s")
        self._boot = Time.of(BOOT_S if boot is None else boot)
        self._starting: Any = None
        self._is_up = False
        self.make_stores()

    def make_stores(self) -> None:
        """Make the stores behind the region: dedup shards, tiers."""
        shards = self.world.part("topology").get("shards")
        if shards:
            self.router = self.world.parts.shard_router(self.world, self, shards)
        if self.world.part("settings").get("tiers"):
            self.tiers = self.world.parts.tiers(self.world, self)

    @property
    def index(self) -> Index:
        """Give what the disk holds of the index."""
        found: Index = self.disk.kept.setdefault("index", self.world.parts.index())
        return found

    # --- processes

    def start(self, *, at_once: bool = False) -> None:
        """Start a process; it answers after a while."""
        if self._is_up:
            return
        self._is_up = True
        self.end.vanished = False
        self.starts += 1
        self.world.trace.write("process", who=self.code, state="started")
        chance = self.world.streams.of("region", self.code, "boot")
        boot_ns = 0 if at_once else int(self._boot.sample(chance) * NS_PER_S)
        self._starting = self.world.agenda.after(boot_ns, self._started)

    def _started(self) -> None:
        self._starting = None
        self.node = self.world.parts.node(self.world, self, Life(self.world.agenda))
        self.end.program = self.node
        self.world.disk_changed()
        self.node.start()

    def kill(self, *, silent: bool = False, state: str = "killed") -> None:
        """End the process; with `silent` nobody is told, for the machine is gone too."""
        self.end.vanished = self.end.vanished or silent
        self._is_up = False
        if self._starting is not None:
            self._starting.cancel()
            self._starting = None
        node, self.node = self.node, None
        self.end.program = None
        if node is not None:
            node.life.end()
            self.world.net.dropped(self.code, silent=silent)
            self.world.watch.ended(self.code)
            self.world.trace.write("process", who=self.code, state=state)

    def exited(self) -> None:
        """Take note that the process has ended by itself."""
        self.kill(state="exited")

    def pause(self) -> None:
        """Let the process stand still."""
        if self.node is not None:
            self.node.life.paused = True
            self.world.trace.write("process", who=self.code, state="paused")

    def resume(self) -> None:
        """Let it go on."""
        if self.node is not None and self.node.life.paused:
            self.world.trace.write("process", who=self.code, state="resumed")
            self.node.life.resume()

    # --- disk and clock

    def lose_disk(self) -> int:
        """Lose everything; give how many files there were."""
        count = self.disk.lose() + bool(self.disk.kept)
        self.world.disk_changed()
        return count

    def set_clock(self, by_ns: int) -> None:
        """Set the wall clock by so much; a process finds out within a moment."""
        self.clock.step(by_ns)
        node = self.node
        if node is not None:
            node.life.after(100 * NS_PER_MS, node.clock_was_set)

    def change_directory(self, directory: Directory) -> None:
        """Give the region other keys or tenants."""
        self.directory = directory
        if self.node is not None:
            self.node.feed(DirectoryChanged(directory))

    # --- half dead

    def is_gray(self, reply: Any) -> bool:
        """Fail a request of a client, where the region is half dead."""
        if not self.gray_share:
            return False
        if self.world.streams.of("region", self.code, "gray").random() >= self.gray_share:
            return False
        self.gray_failures += 1
        reply(Failure("connection_lost", sent=True), 0)
        return True
