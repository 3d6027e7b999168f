"""The commands that move keys between dedup shards: `flk-server dedup ...`, or `dedup-migrate`.

Results go to standard output, progress and reasons to standard error. Exit status: 0 done,
1 refused or something is wrong, 2 wrong usage. `--dry-run` writes nothing.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from .cli_dedup_plan import backfill, init, plan
from .cli_dedup_run import DRY_RUN, Output, coordinator_of, give_way, now_ms, on_store, open_info

if TYPE_CHECKING:
    from .dedup_migration import Coordinator
    from .store.control import ControlStore


@click.command("dual-write")
@click.argument("plan_file", metavar="PLAN", type=click.File("rb"))
@DRY_RUN
@on_store
async def dual_write(
    control: ControlStore, output: Output, *, plan_file: BinaryIO, dry_run: bool
) -> None:
    """Begin the migration of PLAN: from now on keys that move are written to both rings."""
    from .core.migration import Seen, command
    from .core.migration_plan import read_plan

    data = plan_file.read().rstrip(b"\n")
    if dry_run:
        held = await control.read()
        if held is not None:
            seen = Seen(held.document, await control.count_repairs(), now_ms())
            _say_effects(output, command("dual-write", read_plan(data), seen))
            return
    with coordinator_of(control, lambda _: None) as coordinator:
        await coordinator.begin(data)
        await _run_and_say(coordinator, output, "dual-write")


def _say_effects(output: Output, effects: tuple[Any, ...]) -> None:
    texts = [_describe(effect) for effect in effects]
    output.say("\n".join(f"would {text}" for text in texts), dry_run=True, would=texts)


def _describe(effect: Any) -> str:
    """Say an effect in words."""
    name = type(effect).__name__
    if name == "Save":
        return f"keep that the migration is {effect.state.step}"
    if name == "PutDocument":
        return f"publish the ring document: {effect.document.version_text}"
    if name == "Fence":
        return f"fence {', '.join(effect.shards)} at ring_epoch {effect.ring_epoch}"
    if name == "Pause":
        inside = ", ".join(_describe(each) for each in effect.within)
        return f"pause writes for at most {effect.budget_ms} ms to {inside}"
    return {
        "Seal": "take no more repairs", "Drain": "carry out every repair that waits",
        "Verify": "compare every range that moved once more",
        "ListLeftovers": "list what is left over", "DeleteLeftovers": "delete what was listed",
    }[name]  # fmt: skip


async def _run_and_say(coordinator: Coordinator, output: Output, name: str) -> None:
    try:
        state = await coordinator.run(name)
    finally:
        await coordinator.close()
    paused = coordinator.pause_ms
    text = f"{name}: the migration is {state.step}"
    if paused is not None:
        text += f"; writes were paused for {paused:.1f} ms"
    output.say(text, step=state.step, paused_ms=paused and round(paused, 3))


@click.command()
@click.option(
    "--rate",
    type=click.IntRange(0),
    default=1_000,
    show_default=True,
    help="Keys a second; 0: as fast as it goes.",
)
@DRY_RUN
@on_store
async def copy(control: ControlStore, output: Output, *, rate: int, dry_run: bool) -> None:
    """Copy what moves, behind the dual writes; goes on where it stopped."""
    give_way()
    from .core.migration import after_copy
    from .dedup_status import status

    with coordinator_of(control, lambda _: None) as looking:
        state, _ = await looking.look()
    after_copy(state)
    if dry_run:
        found = (await status(control, now_ms()))["migration"]
        left = round(state.keys_to_move * (1 - found["copy"]["share"])) if found["copy"] else 0
        output.say(f"would copy about {left} keys", dry_run=True, keys=left)
        return
    with (
        output.progress("copy", state.keys_to_move) as told,
        coordinator_of(control, told) as coordinator,
    ):
        started = time.perf_counter()
        count = await coordinator.copy(rate)
        await coordinator.close()
    seconds = time.perf_counter() - started
    output.say(
        f"copied {count} entries in {seconds:.1f} s", copied=count, seconds=round(seconds, 3)
    )


@click.command()
@click.option("--dry-run", is_flag=True, help="Mend nothing; exit status 1 if anything differs.")
@on_store
async def verify(control: ControlStore, output: Output, *, dry_run: bool) -> None:
    """Compare all that moves, entry for entry, and mend what differs; try the reverse path."""
    give_way()
    with coordinator_of(control, lambda _: None) as looking:
        state, _ = await looking.look()
    with (
        output.progress("verify", state.keys_to_move) as told,
        coordinator_of(control, told) as coordinator,
    ):
        report = await coordinator.verify(mending=not dry_run)
        tested = (await coordinator.look())[0].reverse_tested
        await coordinator.close()
    text = (
        f"compared {report.compared} entries: {report.missing} missing, {report.extra} extra, "
        f"{report.changed} changed; {report.mended} mended"
    )
    output.say(
        text, compared=report.compared, missing=report.missing, extra=report.extra,
        changed=report.changed, mended=report.mended, damaged=len(report.damaged),
        reverse_tested=tested,
    )  # fmt: skip
    if report.damaged or (dry_run and report.found):
        sys.exit(1)


def _step(name: str, sentence: str) -> click.Command:
    """Make the command of a step that the machine knows by its name."""

    async def run(control: ControlStore, output: Output, *, dry_run: bool) -> None:
        with output.progress(name, 0) as told, coordinator_of(control, told) as coordinator:
            if dry_run:
                _say_effects(output, await coordinator.effects_of(name))
                await coordinator.close()
            else:
                await _run_and_say(coordinator, output, name)

    return click.command(name, help=sentence)(DRY_RUN(on_store(run)))


cutover = _step("cutover", "Let the new ring decide; refuses unless all is copied and verified.")
rollback = _step("rollback", "Let the ring before decide again; nothing written since is lost.")
cleanup = _step(
    "cleanup", "After the window: compare once more, list what is left over, delete it."
)


@click.command()
@on_store
async def status(control: ControlStore, output: Output) -> None:
    """Say how far the migration is, and what comes next."""
    from .dedup_status import status as look

    found = await look(control, now_ms())
    output.say(_status_text(found), **found)


def _status_text(found: dict[str, Any]) -> str:
    if found["document"] is None:
        return "there is no ring document: `dedup init` writes it"
    document, state = found["document"], found["migration"]
    lines = [
        f"ring     {document['phase']} at ring_epoch {document['ring_epoch']}: "
        + ", ".join(document["shards"]),
        f"repairs  {found['repairs']} waiting",
    ]
    if state is None:
        return "\n".join([*lines, "no migration"])
    lines += [f"step     {state['step']} (migration {state['id']})", f"next     {state['next']}"]
    if copied := state["copy"]:
        eta = "unknown" if copied["eta_s"] is None else f"{copied['eta_s']} s"
        lines.append(
            f"copy     {100 * copied['share']:.1f} % of the ranges, {copied['keys']} of about "
            f"{copied['keys_planned']} keys, {eta} left"
        )
    if state["window_left_s"]:
        lines.append(f"window   open for {state['window_left_s']} s more: rollback is possible")
    if state["alarms"]:
        lines.append(f"alarms   {state['alarms']} differences since the last verification")
    if state["note"]:
        lines.append(f"note     {state['note']}")
    return "\n".join(lines)


@click.command()
@on_store
async def doctor(control: ControlStore, output: Output) -> None:
    """Find what is inconsistent, and say what mends it. Changes nothing; exit status 1 if so."""
    from .dedup_status import doctor as look
    from .dedup_transfer import Fleet

    fleet = Fleet(open_info)
    try:
        findings = await look(control, fleet, now_ms())
    finally:
        await fleet.close()
    text = "\n".join(f"{each.problem}\n  fix: {each.fix}" for each in findings) or "all is well"
    output.say(text, findings=[each._asdict() for each in findings])
    if findings:
        sys.exit(1)


@click.command()
@click.option("--misplaced", is_flag=True, help="Bring entries home that lie where nobody asks.")
@on_store
async def repair(control: ControlStore, output: Output, *, misplaced: bool) -> None:
    """Finish or call off what a process left undone, and carry out every repair that waits."""
    with coordinator_of(control, lambda _: None) as coordinator:
        done = await coordinator.repair()
        if misplaced:
            done.append(f"{await coordinator.bring_home()} entries were brought home")
        await coordinator.close()
    output.say("\n".join(done) or "there was nothing to repair", done=done)


@click.command()
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(0.1),
    default=1.0,
    show_default=True,
    help="Seconds between two looks.",
)
@click.option("--looks", type=click.IntRange(1), help="Looks to take [until it is over].")
@on_store
async def watch(
    control: ControlStore, output: Output, *, interval_s: float, looks: int | None
) -> None:
    """Compare samples and ask for known entries; one that is lost rolls the migration back."""
    from .dedup_watch import Look, Watch
    from .dedup_watch import watch as run

    def told(look: Look) -> None:
        text = f"{look.step}: {look.canaries} canaries, {len(look.lost)} lost, "
        said = f"{text}{look.differences} samples differ"
        output.say(
            said, step=look.step, canaries=look.canaries, lost=[list(key) for key in look.lost],
            differences=look.differences, rolled_back=look.rolled_back,
        )  # fmt: skip

    with coordinator_of(control, lambda _: None) as coordinator:
        watcher = Watch(coordinator, now_ms=now_ms)
        good = await run(watcher, interval_s=interval_s, looks=looks, told=told)
        await coordinator.close()
    if not good:
        sys.exit(1)


COMMANDS = (
    init, backfill, plan, dual_write, copy, verify, cutover, rollback, cleanup, status, doctor,
    repair, watch,
)  # fmt: skip
"""The commands, in the order of a migration."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Move keys between dedup shards while writes go on."""


for _command in COMMANDS:
    main.add_command(_command)
