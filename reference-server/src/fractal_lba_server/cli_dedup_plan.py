"""The commands before a migration: `dedup init` and `dedup plan`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fractal_lba.errors import ConfigError

from .cli_dedup_run import DRY_RUN, FILE, Output, on_store, open_info

if TYPE_CHECKING:
    from .core.ring_document import RingDocument, ShardInfo
    from .store.control import ControlStore

_SHARD = "NAME=URL"


@click.command()
@click.option(
    "--shard",
    "shards",
    multiple=True,
    required=True,
    metavar=_SHARD,
    help="One dedup shard and where it is; several times.",
)
@click.option("--weight", "weights", multiple=True, metavar="NAME=N", help="Its weight [1].")
@DRY_RUN
@on_store
async def init(
    control: ControlStore,
    output: Output,
    *,
    shards: tuple[str, ...],
    weights: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Write the first ring document of a region, and fence its dedup shards."""
    from .core.ring_document import RingDocument

    infos = _shard_infos(shards, weights)
    document = RingDocument(1, tuple(infos.values()))
    if not dry_run:
        await _begin(control, document)
    said = f"{'would write' if dry_run else 'wrote'} the ring document: {', '.join(infos)}"
    output.say(said, ring_epoch=1, shards=list(infos), dry_run=dry_run)


async def _begin(control: ControlStore, document: RingDocument) -> None:
    """Fence the dedup shards, then publish: whoever has the document finds the fences behind it."""
    from .core.migration import Refused
    from .dedup_transfer import Fleet

    if await control.read() is not None:
        raise Refused("there is a ring document already")
    fleet = Fleet(open_info)
    fleet.know(document.shards)
    try:
        for info in document.shards:
            await fleet.begin(info.name, document.ring_epoch)
            await (await fleet.get(info.name)).set_fence(document.ring_epoch)
        await control.create(document)
    finally:
        await fleet.close()


@click.command()
@click.option(
    "--data",
    required=True,
    help="Data directory of a region; its server may run.",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
)
@click.option("--rate", type=click.IntRange(0), default=0, help="Ids a second [no throttle].")
@on_store
async def backfill(control: ControlStore, output: Output, *, data: Path, rate: int) -> None:
    """Load the ids that a region has already into its dedup shards.

    Writers may go on meanwhile. Run it once more after the servers of the region use the dedup
    shards: what they took in before is then there as well.
    """
    import time

    from .dedup_backfill import Backfill
    from .dedup_transfer import Fleet, Pace
    from .regions_file import kept_rank
    from .store.sqlite import Snapshot

    index = data / "index.sqlite"
    if not index.is_file():
        raise ConfigError("config_invalid", f"{data}: not a data directory of flk-server")
    fleet = Fleet(open_info)
    pace = Pace(rate, clock=time.monotonic)
    loader = Backfill(control, fleet, name=data.name, rank=kept_rank(data), pace=pace)
    try:
        count = await loader.run(Snapshot(index).entries())
    finally:
        await fleet.close()
    output.say(f"{count} ids are in the dedup shards", loaded=count)


@click.command()
@click.option("--add", "added", multiple=True, metavar=_SHARD, help="A dedup shard to add.")
@click.option("--remove", "removed", multiple=True, metavar="NAME", help="One to take out.")
@click.option("--weight", "weights", multiple=True, metavar="NAME=N", help="A new weight.")
@click.option(
    "--rate",
    type=click.IntRange(0),
    default=1_000,
    show_default=True,
    help="Keys a second that the copy moves; 0: as fast as it goes.",
)
@click.option(
    "--writes",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="New keys a second that writers bring meanwhile.",
)
@click.option("--ttl", "ttl_s", type=click.IntRange(1), help="Seconds that an entry lives.")
@click.option(
    "--window",
    "window_s",
    type=click.IntRange(0),
    default=86_400,
    show_default=True,
    help="Seconds in which a cutover can be rolled back.",
)
@click.option(
    "--pause",
    "pause_ms",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    help="Longest pause of writes, ms.",
)
@click.option("--room", "rooms", multiple=True, metavar="NAME=BYTES", help="Room that is left.")
@click.option("--out", type=FILE, help="Write the plan here (mode 0600: it holds the URLs).")
@on_store
async def plan(control: ControlStore, output: Output, *, out: Path | None, **given: Any) -> None:
    """Plan the way to another ring: what moves, how long it takes, whether there is room.

    The same rings and counts give the same file. Without --out nothing is written.
    """
    from fractal_lba.canonical import jcs

    made = await _make_plan(control, **given)
    if out is not None:
        _write_private(out, jcs(made) + b"\n")
    lines = [
        f"{made['keys_to_move']} keys move: {_percent(made['share'])} of all hashes",
        f"the copy takes about {made['copy_ms'] / 1000:.0f} s",
        *(f"  {pair['from']} -> {pair['to']}: {pair['keys']} keys" for pair in made["pairs"]),
        f"sha256 {made['sha256']}",
    ]
    shown = {name: made[name] for name in made if name not in ("old", "new")}
    output.say("\n".join(lines), **shown)


def _write_private(path: Path, data: bytes) -> None:
    """Replace a file by one that only its owner can read."""
    beside = path.with_name(f"{path.name}.new")
    with open(beside, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(data)
    beside.replace(path)


async def _make_plan(
    control: ControlStore,
    *,
    added: tuple[str, ...],
    removed: tuple[str, ...],
    weights: tuple[str, ...],
    rooms: tuple[str, ...],
    rate: int,
    writes: int,
    ttl_s: int | None,
    window_s: int,
    pause_ms: int,
) -> dict[str, Any]:
    from .core.migration import Refused
    from .core.migration_plan import Wish, make_plan
    from .dedup_transfer import Fleet

    held = await control.read()
    if held is None:
        raise Refused("the control store holds no ring document: `dedup init` writes it")
    document = held.document
    fleet = Fleet(open_info)
    fleet.know(document.shards)
    try:
        counts = {name: await (await fleet.get(name)).count() for name in fleet.names}
    finally:
        await fleet.close()
    wish = Wish(
        rate_per_s=rate, writes_per_s=writes, ttl_ms=None if ttl_s is None else ttl_s * 1000,
        room_bytes={name: int(size) for name, size in
                    (_split(each, "--room", "NAME=BYTES") for each in rooms)},
        pause_ms=pause_ms, window_ms=window_s * 1000,
    )  # fmt: skip
    new = _new_shards(document.shards, added, removed, weights)
    return make_plan(document, new, counts, wish)


def _new_shards(
    old: tuple[ShardInfo, ...],
    added: tuple[str, ...],
    removed: tuple[str, ...],
    weights: tuple[str, ...],
) -> tuple[ShardInfo, ...]:
    weight_of = dict(_split(each, "--weight", "NAME=N") for each in weights)
    infos = {info.name: info for info in old}
    for name in removed:
        if infos.pop(name, None) is None:
            raise click.UsageError(f"--remove: the ring has no dedup shard {name}")
    for name, info in _shard_infos(added, ()).items():
        if name in infos:
            raise click.UsageError(f"--add: the ring has a dedup shard {name} already")
        infos[name] = info
    for name, weight in weight_of.items():
        if name not in infos or not weight.isdigit():
            raise click.UsageError("--weight: expected NAME=N of a dedup shard of the new ring")
        infos[name] = replace(infos[name], weight=int(weight))
    return tuple(infos.values())


def _percent(share: str) -> str:
    above, _, below = share.partition("/")
    return f"{100 * int(above) / int(below):.3f} %"


def _shard_infos(given: tuple[str, ...], weights: tuple[str, ...]) -> dict[str, ShardInfo]:
    from .core.ring_document import read_shards

    of = dict(_split(each, "--weight", "NAME=N") for each in weights)
    shards = [_split(each, "--shard", _SHARD) for each in given]
    try:
        infos = read_shards(
            {"name": name, "url": url, "weight": int(of.pop(name, "1"))} for name, url in shards
        )
    except ValueError:
        raise click.UsageError("--weight: expected NAME=N, N a whole number") from None
    if of:
        raise click.UsageError(f"--weight: no dedup shard is called {', '.join(of)}")
    return {info.name: info for info in infos}


def _split(text: str, option: str, shape: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise click.UsageError(f"{option}: expected {shape}")
    return name, value
