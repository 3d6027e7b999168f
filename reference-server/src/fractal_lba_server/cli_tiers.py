"""The commands `flk-server tiers ...`: judge a policy, look into the tiers, move, verify, size.

What touches a data directory holds its lock, so no server runs on it meanwhile; a running server
moves by itself. Exit status: 0 done, 1 refused or faults found, 2 wrong usage.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import click

if TYPE_CHECKING:
    from .core.faults import DocumentError, Fault
    from .core.tiering import TierBook
    from .store.index_cold import IndexWarm
    from .store.tiers.cold_objects import ColdObjects
    from .store.tiers.protocols import WarmRow
    from .tiers import Tiers

_FILE = click.Path(path_type=Path, dir_okay=False)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_CONFIG = click.option(
    "--config", type=_FILE, required=True,
    help="flk.yaml: names the data directory and, under tiers, policy file and cold store.",
)  # fmt: skip

WAIT_MAX_S = 60.0
"""Longest wait of `warm` for the budget of cold reads; a longer one ends the command."""


@click.group()
def tiers() -> None:
    """Keep payloads in memory, in the index and in an object store, each for its time."""


# --- a policy file


@tiers.command()
@click.argument("file", type=_FILE)
@click.option("--policy", type=_FILE, help="Policy file of the server: it has the dedup horizons.")
@click.option("--no-cold", is_flag=True, help="The server has no cold store.")
@_JSON
def check(file: Path, policy: Path | None, no_cold: bool, as_json: bool) -> None:
    """Read a tier policy FILE as the server would, and say every fault of it at once."""
    book = _load(file, policy, has_cold=not no_cold, as_json=as_json)
    if as_json:
        click.echo(json.dumps({"faults": [], "tenants": len(book.tenants)}))
    else:
        click.echo(f"{file}: no faults (the default and {len(book.tenants)} tenants)")


@tiers.command()
@click.argument("file", type=_FILE)
@click.option("--policy", type=_FILE, help="Policy file of the server: it has the dedup horizons.")
@click.option("--placement", "placements", multiple=True, default=["open"], show_default=True)
@click.option("--expire-days", type=click.IntRange(1), help="Refused where a payload lives longer.")
@click.option("--move-days", type=click.IntRange(1), help="Change the storage class after this.")
@click.option("--storage-class", default="GLACIER_IR", show_default=True)
def lifecycle(
    file: Path,
    policy: Path | None,
    placements: tuple[str, ...],
    expire_days: int | None,
    move_days: int | None,
    storage_class: str,
) -> None:
    """Print the lifecycle rules of a bucket that agree with FILE, as S3 takes them."""
    from .core import tiering

    book = _load(file, policy, has_cold=True, as_json=False)
    faults = tiering.lifecycle_faults(book, expire_days=expire_days, storage_class=storage_class)
    if faults:
        _refuse_faults(faults)
    rules = tiering.lifecycle(book, placements, move_days=move_days, storage_class=storage_class)
    if expire_days is not None:
        rules += [tiering.LifecycleRule(f"{name}/", expire_days) for name in placements]
    click.echo(json.dumps(tiering.lifecycle_document(rules), indent=2))


# --- a data directory


class _Opened(NamedTuple):
    """What the commands over a data directory work with."""

    folder: Path
    warm: IndexWarm
    cold: ColdObjects
    book: TierBook


@tiers.command()
@_CONFIG
@_JSON
def status(config: Path, as_json: bool) -> None:
    """Say what each tier holds, and whether a move is under way."""

    async def work(opened: _Opened) -> dict[str, Any]:
        left = await opened.warm.plan()
        warm, cold = await opened.warm.size(), await opened.warm.cold_size()
        return {
            "warm": {"payloads": warm.keys, "bytes": warm.size_bytes},
            "cold": {"payloads": cold.keys, "bytes": cold.size_bytes},
            "tenants": await opened.warm.tenants(),
            "plan": None if left is None else {"kind": left[0].kind, "stage": left[1]},
            "cold_reads": _count_lineage(opened.folder),
        }

    found = _run(config, work)
    if as_json:
        click.echo(json.dumps(found))
        return
    for tier in ("warm", "cold"):
        click.echo(f"{tier}: {found[tier]['payloads']} payloads, {found[tier]['bytes']} bytes")
    plan = found["plan"]
    click.echo("no move is under way" if plan is None else f"a move is under way: {plan['kind']}")
    click.echo(f"cold reads on record: {found['cold_reads']}")


@tiers.command()
@_CONFIG
@click.option("--dry-run", is_flag=True, help="Say what is due and write nothing.")
@_JSON
def move(config: Path, dry_run: bool, as_json: bool) -> None:
    """Run one pass of the mover: copy, read back and compare, then delete.

    A pass that is ended anywhere goes on with the next one.
    """
    from functools import partial

    from .store.tiers.wal_records import read_records
    from .tier_mover import TierMover

    async def work(opened: _Opened) -> dict[str, Any]:
        records = partial(read_records, opened.folder) if opened.book.keeps_records else None
        mover = TierMover(warm=opened.warm, cold=opened.cold, book=opened.book, records=records)
        return (await mover.run(dry_run=dry_run))._asdict()

    found = _run(config, work)
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, **found}))
    else:
        verb = "would move" if dry_run else "moved"
        click.echo(f"{verb} {found['payloads']} payloads into {found['objects']} objects")
        click.echo(
            f"left warm again: {found['cooled']}, objects ended: {found['ended']}, "
            f"merged: {found['merged']}, rewritten: {found['rewritten']}, "
            f"plans given up: {found['given_up']}"
        )
    if found["stopped"]:
        _refuse(f"the pass stopped, and the next one goes on: {found['stopped']}")


@tiers.command()
@_CONFIG
@click.option("--tenant", required=True, help="Whose payloads.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=1_000, show_default=True)
@_JSON
def warm(config: Path, tenant: str, limit: int, as_json: bool) -> None:
    """Bring a tenant's newest payloads from cold to warm, ahead of their readers.

    Each is a cold read: it is recorded and takes from the tenant's budget, for which the command
    waits.
    """

    async def work(opened: _Opened) -> dict[str, Any]:
        return {"brought": await _bring_all(opened, tenant, limit)}

    found = _run(config, work)
    click.echo(json.dumps(found) if as_json else f"brought {found['brought']} payloads to warm")


@tiers.command()
@_CONFIG
@click.option("--remove-unknown", is_flag=True, help="Remove objects that nothing points to.")
@_JSON
def verify(config: Path, remove_unknown: bool, as_json: bool) -> None:
    """Read every object that warm points to, and compare every checksum and every entry."""

    async def work(opened: _Opened) -> dict[str, Any]:
        return await _verify(opened, remove_unknown=remove_unknown)

    found = _run(config, work)
    if as_json:
        click.echo(json.dumps(found))
    else:
        click.echo(f"{found['objects']} objects, {found['payloads']} payloads compared")
        for name in found["unknown"]:
            click.echo(f"nothing points to {name}")
        if found["removed"]:
            click.echo(f"removed {found['removed']} objects that nothing points to")
        for fault in found["faults"]:
            click.echo(f"fault: {fault}", err=True)
        click.echo("clean" if not found["faults"] else f"{len(found['faults'])} faults")
    if found["faults"]:
        sys.exit(1)


# --- figures


@tiers.command()
@click.option("--rate", "rate_per_s", type=click.FloatRange(0), required=True, help="Per second.")
@click.option("--bytes", "payload_bytes", type=click.FloatRange(1), default=250, show_default=True)
@click.option("--id-bytes", type=click.FloatRange(0), default=240, show_default=True)
@click.option("--packed", type=click.FloatRange(0, 4), default=0.7, show_default=True)
@click.option(
    "--hot-ttl", type=click.IntRange(0), default=3_600, show_default=True, help="Seconds."
)
@click.option("--warm-ttl", type=click.IntRange(0), default=604_800, show_default=True)
@click.option("--keep", type=click.IntRange(0), default=31_536_000, show_default=True)
@click.option("--ids-ttl", type=click.IntRange(0), help="Dedup horizon [as --keep].")
@click.option("--per-object", type=click.IntRange(1), default=8_192, show_default=True)
@click.option("--put-price", type=click.FloatRange(0), default=0.005, show_default=True)
@click.option("--hot", type=click.Choice(["memory", "redis"]), default="memory", show_default=True)
@click.option("--hot-share", type=click.FloatRange(0, 1), default=0.65, show_default=True)
@click.option("--cold-share", type=click.FloatRange(0, 1), default=0.05, show_default=True)
@_JSON
def capacity(as_json: bool, put_price: float, **given: Any) -> None:
    """Say how many bytes each tier has to hold: rate x TTL x size x (1 + overhead).

    Hit ratios are no factor: what arrives stays for its TTL, whoever reads it. They decide the
    latency alone, and with more than 5 % of cold reads its p95 is that of cold.
    """
    from .core import capacity as formulas

    hot_share, cold_share = given["hot_share"], given["cold_share"]
    if hot_share + cold_share > 1:
        raise click.UsageError("--hot-share and --cold-share are more than all reads")
    found = formulas.sizes(
        rate_per_s=given["rate_per_s"],
        payload_bytes=given["payload_bytes"],
        id_bytes=given["id_bytes"],
        packed_ratio=given["packed"],
        hot_ttl_s=given["hot_ttl"],
        warm_ttl_s=given["warm_ttl"],
        ids_ttl_s=given["keep"] if given["ids_ttl"] is None else given["ids_ttl"],
        keep_s=given["keep"],
        entries_per_object=given["per_object"],
        hot_overhead=formulas.HOT_OVERHEADS[given["hot"]],
    )
    figures = {
        **found._asdict(),
        "puts_cost_per_month": formulas.requests_cost(found.objects_per_month, put_price),
        "p95_ms": formulas.blended_ms(formulas.expected_modes(hot_share, cold_share), 0.95),
    }
    if as_json:
        click.echo(json.dumps(figures))
        return
    for tier in ("hot", "warm", "cold"):
        click.echo(f"{tier:5} {figures[f'{tier}_bytes'] / 1e9:12,.2f} GB")
    click.echo(f"objects per month {found.objects_per_month:,.0f}")
    click.echo(f"their writes cost {figures['puts_cost_per_month']:,.2f} per month")
    click.echo(f"p95 of all reads {figures['p95_ms']:,.1f} ms (medians {formulas.MEDIANS})")


# --- how


def _run(config: Path, work: Callable[[_Opened], Coroutine[Any, Any, dict[str, Any]]]) -> Any:
    """Open what a server file names, work on it, close it; a fault ends the command."""
    from fractal_lba.errors import ConfigError

    from .store.data_dir import DataDirError
    from .store.tiers.lineage import LineageError
    from .store.tiers.protocols import TierUnavailableError

    async def run() -> dict[str, Any]:
        async with _opened(config) as opened:
            return await work(opened)

    try:
        return asyncio.run(run())
    except ConfigError as error:
        _refuse(error.message)
    except (DataDirError, LineageError, TierUnavailableError, OSError, ValueError) as error:
        _refuse(str(error))


@asynccontextmanager
async def _opened(config: Path) -> AsyncIterator[_Opened]:
    from .config import load_config
    from .policy_file import load_policies
    from .store.data_dir import DataDir
    from .store.index_cold import IndexWarm
    from .store.sqlite import Index
    from .store.tiers.cold_objects import open_cold
    from .tier_policy import load_tier_policy

    settings = load_config(config)
    if settings.tiers.policy_file is None or settings.tiers.cold is None:
        raise ValueError(f"{config}: names no tiers.policy_file, or no tiers.cold")
    book = load_tier_policy(
        settings.tiers.policy_file,
        policies=load_policies(settings.policy_file),
        has_cold=True,
        environment=os.environ,
    )
    data = DataDir.open(settings.data)
    try:
        index = Index(data.index)
        warm = IndexWarm(index, data.index)
        try:
            yield _Opened(data.path, warm, open_cold(settings.tiers.cold), book)
        finally:
            await warm.close()
            index.close()
    finally:
        data.close()


async def _bring_all(opened: _Opened, tenant: str, limit: int) -> int:
    from .store.tiers.conditions import Condition
    from .store.tiers.lineage import Lineage
    from .tier_service import LINEAGE
    from .tiers import Tiers as Opened

    tiers = Opened(
        warm=opened.warm, hot=None, cold=opened.cold, lineage=Lineage(opened.folder / LINEAGE),
        book=opened.book, condition=Condition,
    )  # fmt: skip
    brought = 0
    try:
        for row in await opened.warm.newest_cold(tenant, limit):
            await _bring(tiers, row)
            brought += 1
    finally:
        await tiers.stop()
    return brought


async def _bring(tiers: Tiers, row: WarmRow) -> None:
    """Bring one payload up, waiting for the budget; raises ValueError if it cannot be had."""
    from .tiers import Found, Unavailable

    while not isinstance(answer := await tiers.bring(row), Found):
        if not isinstance(answer, Unavailable):
            raise ValueError(f"{row.key[1]}: its time is over")  # noqa: TRY004 - no type is wrong
        if not answer.is_over_budget or answer.retry_after_ms > WAIT_MAX_S * 1_000:
            raise ValueError(f"{row.key[1]}: {answer.reason}")
        await asyncio.sleep(answer.retry_after_ms / 1_000)


async def _verify(opened: _Opened, *, remove_unknown: bool) -> dict[str, Any]:
    known: set[str] = set()
    faults: list[str] = []
    payloads, after = 0, ""
    while page := await opened.warm.objects(after, 100):
        for info in page:
            known.add(info.name)
            payloads += info.entries
            faults += await _object_faults(opened, info.name)
        after = page[-1].name
    left = await opened.warm.plan()
    if left is not None and left[0].object is not None:
        known.add(left[0].object)
    unknown = [name async for name in opened.cold.names("") if name not in known]
    removed = 0
    if remove_unknown and not faults:
        for name in unknown:
            await opened.cold.remove(name)
            removed += 1
    return {
        "objects": len(known), "payloads": payloads, "faults": faults,
        "unknown": [] if removed else unknown, "removed": removed,
    }  # fmt: skip


async def _object_faults(opened: _Opened, name: str) -> list[str]:
    """Compare one object with its own checksums, and with what warm says of it."""
    from .core.cold_segment import ColdCorruptError, Place, read_object

    data = await opened.cold.read(name)
    if data is None:
        return [f"{name}: not there"]
    try:
        held = {place: entry for entry, place in read_object(data)}
    except ColdCorruptError as error:
        return [f"{name}: {error}"]
    faults = []
    for row in await opened.warm.rows_of(name):
        assert row.ref is not None
        entry = held.get(Place(row.ref.offset, row.ref.length, row.ref.sha256))
        if entry is None or (entry.key, entry.stored.content) != (row.key, row.stored.content):
            faults.append(f"{name}: byte {row.ref.offset} is not the payload that warm expects")
    return faults


def _count_lineage(folder: Path) -> int:
    from .store.tiers.lineage import read_lineage
    from .tier_service import LINEAGE

    path = folder / LINEAGE
    return sum(1 for _ in read_lineage(path)) if path.exists() else 0


def _load(file: Path, policy: Path | None, *, has_cold: bool, as_json: bool) -> TierBook:
    from fractal_lba.errors import ConfigError

    from .core.faults import DocumentError
    from .policy_file import load_policies
    from .tier_policy import load_tier_policy

    try:
        return load_tier_policy(
            file, policies=load_policies(policy), has_cold=has_cold, environment=os.environ
        )
    except DocumentError as error:
        _refuse_file(error, as_json=as_json)
    except ConfigError as error:
        _refuse(error.message)
    except OSError as error:
        _refuse(str(error))


def _refuse_file(error: DocumentError, *, as_json: bool) -> NoReturn:
    if as_json:
        faults = [
            {"pointer": fault.pointer, "problem": fault.problem, "fix": fault.fix}
            for fault in error.faults
        ]
        click.echo(json.dumps({"faults": faults}))
    else:
        click.echo(error.message, err=True)
    sys.exit(1)


def _refuse_faults(faults: list[Fault]) -> NoReturn:
    for fault in faults:
        click.echo(str(fault), err=True)
    sys.exit(1)


def _refuse(text: str) -> NoReturn:
    click.echo(f"flk-server: {text}", err=True)
    sys.exit(1)
