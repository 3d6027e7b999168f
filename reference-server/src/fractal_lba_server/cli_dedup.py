"""The command group `flk-server dedup`: look into the dedup shards of a region.

Commands that move keys between dedup shards join the group from cli_dedup_migrate.py. Exit
status: 0 all is right, 1 something is not or a dedup shard does not answer, 2 wrong usage.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from .cli_dedup_migrate import COMMANDS
from .cli_dedup_run import Output, on_store

if TYPE_CHECKING:
    from .core.ring_document import RingDocument
    from .dedup_view import Place, ShardFigures
    from .store.control import ControlStore

REPAIRS_READ_MAX = 100_000
"""As many repairs as can wait (store/control.py)."""


@click.group()
def dedup() -> None:
    """Look into the dedup shards of a region, and move keys between them."""


@dedup.command()
@click.argument("tenant")
@click.argument("pcs_id")
@on_store
async def find(control: ControlStore, output: Output, *, tenant: str, pcs_id: str) -> None:
    """Say at which dedup shards a record of TENANT stands, and whether that is right."""
    from .dedup_view import find

    document = await _document(control)
    found = await find(document, (tenant, pcs_id))
    lines = [_place_text(place) for place in found.places]
    output.say(
        "\n".join([f"ring_epoch {found.ring_epoch}", *lines, *_fault_lines(found.faults)]),
        ring_epoch=found.ring_epoch,
        places=[_place_members(place) for place in found.places],
        faults=list(found.faults),
        complete=all(place.unavailable is None for place in found.places),
    )
    if found.faults:
        sys.exit(1)


@dedup.command()
@on_store
async def shards(control: ControlStore, output: Output) -> None:
    """Show every dedup shard: entries against its exact share, fence, repairs, health."""
    from collections import Counter

    from .dedup_view import figures

    document = await _document(control)
    repairs = Counter(repair.dedup_shard for repair in await control.repairs(REPAIRS_READ_MAX))
    found = await figures(document, repairs)
    faults = [f"{each.dedup_shard} does not answer: {each.unavailable}" for each in found
              if each.unavailable is not None]  # fmt: skip
    lines = [_shard_text(each) for each in found]
    output.say(
        "\n".join([document.version_text, *lines, *_fault_lines(faults)]),
        ring_epoch=document.ring_epoch,
        phase=document.phase,
        shards=[each._asdict() for each in found],
        faults=faults,
        complete=not faults,
    )
    if faults:
        sys.exit(1)


async def _document(control: ControlStore) -> RingDocument:
    from fractal_lba.errors import ConfigError

    held = await control.read()
    if held is None:
        raise ConfigError("config_invalid", "the control store holds no ring document")
    return held.document


def _place_text(place: Place) -> str:
    entry = place.entry
    if place.unavailable is not None:
        state = "does not answer"
    elif entry is None:
        state = "-"
    else:
        until = "for ever" if entry.expires_at_ms is None else f"until {entry.expires_at_ms} ms"
        state = f"{entry.state} by {entry.owner}, content {entry.content[:12]}, {until}"
    return f"{place.dedup_shard:<20} {place.role:<10} {state}"


def _place_members(place: Place) -> dict[str, Any]:
    entry = place.entry
    stands = None
    if entry is not None:
        stands = {
            "content": entry.content,
            "expires_at_ms": entry.expires_at_ms,
            "hlc": None if entry.order is None else f"{entry.order.hlc:016x}",
            "owner": entry.owner,
            "state": entry.state,
        }
    return {
        "dedup_shard": place.dedup_shard, "role": place.role, "entry": stands,
        "unavailable": place.unavailable,
    }  # fmt: skip


def _shard_text(each: ShardFigures) -> str:
    if each.unavailable is not None:
        return f"{each.dedup_shard:<20} share {each.share:7.4f}  does not answer"
    return (
        f"{each.dedup_shard:<20} share {each.share:7.4f}  entries {each.entries:>12,}  expected "
        f"{each.expected:>14,.1f}  fence {each.fence}  repairs {each.repairs}"
    )


def _fault_lines(faults: Any) -> list[str]:
    return [f"fault: {fault}" for fault in faults]


for _command in COMMANDS:
    dedup.add_command(_command)
