"""The commands `flk-server region ...`: who writes where, and how an operator changes it.

They speak to the administrative listener of a region (`--admin`, repeatable for status). Exit
status 0 done, 1 refused or not all regions answered, 2 wrong usage.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from .cli_region_keys import keys
from .core.roles import DRAINING, WRITER

ADMIN_DEFAULT: Final = "http://127.0.0.1:8081"
CALL_S: Final = 10.0
"""How long an operator waits for a region."""

HAND_OVER_S: Final = 20.0
"""How long an operator waits for a hand-over, which a region gives up before."""

LOOK_S: Final = 0.1
"""Between two looks at a hand-over."""

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def region() -> None:
    """Look at regions and change who writes."""


region.add_command(keys)


def _reach(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say how to reach a region."""
    options = [
        click.option("--token-file", type=_FILE, help="The administrative token."),
        click.option("--cert", type=_FILE, help="Client certificate (PEM)."),
        click.option("--key", type=_FILE, help="Its private key (PEM)."),
        click.option("--ca", type=_FILE, help="CA of the region (PEM)."),
        click.option("--json", "as_json", is_flag=True, help="One JSON object."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


_ADMIN = click.option(
    "--admin", default=ADMIN_DEFAULT, show_default=True, metavar="URL", help="Its admin listener."
)
_PLACEMENT = click.option("--placement", default="open", show_default=True)


@region.command()
@click.option(
    "--admin", "admins", multiple=True, metavar="URL", help=f"Repeatable [{ADMIN_DEFAULT}]."
)
@_reach
def status(admins: tuple[str, ...], as_json: bool, **reach: Any) -> None:
    """Show roles, region epochs, leases, lag and watermarks of one or more regions.

    A region without an answer is shown as such, and the exit status is then 1.
    """
    found: list[dict[str, Any]] = []
    for url in admins or (ADMIN_DEFAULT,):
        try:
            found.append({"admin": url, **_call(url, "GET", "status", None, reach)})
        except _FailedError as error:
            found.append({"admin": url, "error": str(error)})
    complete = not any("error" in one for one in found)
    if as_json:
        click.echo(json.dumps({"complete": complete, "regions": found}))
    else:
        for line in status_lines(found):
            click.echo(line)
        if not complete:
            click.echo("not all regions answered: this is not the whole picture", err=True)
    if not complete:
        sys.exit(1)


@region.command()
@_ADMIN
@_reach
def drain(admin: str, as_json: bool, **reach: Any) -> None:
    """Take no new record in the region; finish what is under way. Only a restart ends it."""
    _order(admin, "drain", {}, as_json, reach, lambda said: f"draining, {said['in_flight']} left")


@region.command()
@_ADMIN
@_PLACEMENT
@click.option("--region-epoch", type=click.IntRange(1), help="The epoch you saw [asked for].")
@click.option("--old-is-stopped", is_flag=True,
              help="No arbiter: regions without an answer do not run; you made sure.")  # fmt: skip
@_reach
def promote(
    admin: str, placement: str, region_epoch: int | None, old_is_stopped: bool, as_json: bool,
    **reach: Any,
) -> None:  # fmt: skip
    """Make the region behind --admin the writer of a placement.

    The old writer is fenced first; nothing is taken before its lease is over. Of two operators
    who promote at once one is refused: name the epoch that you saw with --region-epoch.
    """
    seen = region_epoch if region_epoch is not None else _epoch(admin, placement, reach)
    document = {
        "placement": placement, "region_epoch": seen, "old_is_stopped": old_is_stopped,
    }  # fmt: skip
    _order(admin, "promote", document, as_json, reach, _role_line)


@region.command()
@_ADMIN
@_PLACEMENT
@click.option("--region-epoch", type=click.IntRange(1), help="The epoch you saw [asked for].")
@_reach
def fence(
    admin: str, placement: str, region_epoch: int | None, as_json: bool, **reach: Any
) -> None:
    """Stop whoever writes to a placement, without a successor; promote one to go on.

    Without an arbiter it is the region behind --admin that stops.
    """
    seen = region_epoch if region_epoch is not None else _epoch(admin, placement, reach)
    document = {"placement": placement, "region_epoch": seen}
    _order(admin, "fence", document, as_json, reach, _role_line)


@region.command()
@_ADMIN
@_PLACEMENT
@click.option("--to", required=True, metavar="CODE", help="The standby that takes over.")
@_reach
def failback(admin: str, placement: str, to: str, as_json: bool, **reach: Any) -> None:
    """Hand over from the writer behind --admin to a standby that has caught up.

    The writer stops, waits until the other holds all it wrote, and releases its lease. If that
    takes longer than 10 s the hand-over is given up, the writer goes on, and the exit status is 1.
    """
    try:
        said = _call(admin, "POST", "failback", {"placement": placement, "to": to}, reach)
        until_s = time.monotonic() + HAND_OVER_S
        while said["role"] == DRAINING and time.monotonic() < until_s:
            time.sleep(LOOK_S)
            found = _call(admin, "GET", "status", None, reach)["placements"]
            said = next(one for one in found if one["placement"] == placement)
    except _FailedError as error:
        _refuse(error)
    click.echo(json.dumps(said) if as_json else _role_line(said))
    if said["role"] in (WRITER, DRAINING):
        sys.exit(1)


@region.command()
@click.option("--socket", required=True, type=click.Path(path_type=Path), help="HAProxy's socket.")
@click.option("--server", "servers", required=True, multiple=True, metavar="BACKEND/SERVER",
              help="As HAProxy calls it; repeatable.")  # fmt: skip
@click.option("--probe", required=True, metavar="URL", help="The region's /readyz.")
@_ADMIN
@click.option("--hold-s", type=click.FloatRange(0.1), default=30.0, show_default=True,
              help="How long each step must go well.")  # fmt: skip
@_reach
def ramp(
    socket: Path, servers: tuple[str, ...], probe: str, admin: str, hold_s: float, as_json: bool,
    **reach: Any,
) -> None:  # fmt: skip
    """Give a region that returned 10, then 50, then 100 % of its weight in HAProxy.

    It must have caught up with what the others have told it. A failed probe, or Ctrl-C before the
    end, takes its weight back to 0.
    """
    from .haproxy_ramp import RampFailedError, behind, ramp_up

    try:
        missing = behind(_call(admin, "GET", "status", None, reach))
    except _FailedError as error:
        _refuse(error)
    if missing:
        _refuse(f"it has not caught up: {'; '.join(missing)}")
    try:
        ramp_up(socket, servers, probe, hold_s=hold_s, say=lambda text: _say(text, as_json=as_json))
    except (RampFailedError, OSError) as error:
        _refuse(error)


@region.group()
def registry() -> None:
    """Look at regions.yaml."""


@registry.command()
@click.argument("file", type=_FILE)
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="Compare with the regions that this data directory has seen.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def check(file: Path, data: Path | None, as_json: bool) -> None:
    """Check a file of regions, and say who holds what. Writes nothing."""
    from fractal_lba.errors import ConfigError

    from .regions_file import check_regions

    try:
        found = check_regions(file, data=data)
    except (ConfigError, OSError) as error:
        _refuse(error)
    document = {
        "regions": list(found.codes),
        "retired": [code for code, info in found.regions.items() if info.retired],
        "placements": {
            name: {
                "regions": list(one.regions),
                "topology": one.topology,
                "copies": one.copies,
                "primary": one.primary,
            }
            for name, one in sorted(found.placements.items())
        },
    }
    if as_json:
        click.echo(json.dumps(document))
        return
    click.echo(f"{len(found.codes)} regions, in order of rank: {' '.join(found.codes)}")
    for name, one in sorted(found.placements.items()):
        primary = f", primary {one.primary}" if one.primary else ""
        click.echo(
            f"{name}: {one.topology} in {' '.join(one.regions)}, {one.copies} copies{primary}"
        )


# --- how a region is asked


def _say(text: str, *, as_json: bool) -> None:
    click.echo(json.dumps({"said": text}) if as_json else text)


class _FailedError(Exception):
    """A region refused, or gave no answer."""


def _call(
    url: str, method: str, name: str, document: dict[str, Any] | None, reach: dict[str, Any]
) -> dict[str, Any]:
    from fractal_lba.errors import ConfigError

    from .admin_token import read_admin_token
    from .net.peers import PeerTls
    from .net.region_client import CallRefusedError, UnreachableError, call

    files = (reach["cert"], reach["key"], reach["ca"])
    try:
        token = read_admin_token(reach["token_file"]).value if reach["token_file"] else None
        tls = PeerTls(*files) if all(files) else None
        return call(
            url, method, f"/admin/region/{name}", document,
            tls=tls, ca=reach["ca"], token=token, timeout_s=CALL_S,
        )  # fmt: skip
    except (UnreachableError, CallRefusedError, ConfigError) as error:
        raise _FailedError(str(error)) from None


def _order(
    admin: str, name: str, document: dict[str, Any], as_json: bool, reach: dict[str, Any],
    line: Callable[[dict[str, Any]], str],
) -> None:  # fmt: skip
    try:
        said = _call(admin, "POST", name, document, reach)
    except _FailedError as error:
        _refuse(error)
    click.echo(json.dumps(said) if as_json else line(said))


def _epoch(admin: str, placement: str, reach: dict[str, Any]) -> int:
    try:
        said = _call(admin, "GET", "status", None, reach)
    except _FailedError as error:
        _refuse(error)
    epochs = {one["placement"]: int(one["region_epoch"]) for one in said["placements"]}
    if placement not in epochs:
        _refuse(f"{said['region']} holds no placement {placement}")
    click.echo(f"{placement} is at region epoch {epochs[placement]}", err=True)
    return epochs[placement]


def _role_line(said: dict[str, Any]) -> str:
    step = f" ({said['step']})" if said["step"] else ""
    reason = f"; {said['reason']}" if said["reason"] else ""
    return (
        f"{said['placement']}: {said['role']}{step} at region epoch {said['region_epoch']}{reason}"
    )


COLUMNS: Final = (
    "region",
    "placement",
    "role",
    "epoch",
    "leader",
    "lease",
    "durable",
    "replicated",
)


def status_lines(found: list[dict[str, Any]]) -> list[str]:
    """Lay out the status of regions as a table, and below it what is behind."""
    rows: list[tuple[str, ...]] = [COLUMNS]
    notes = []
    for one in found:
        if "error" in one:
            rows.append(("?", "?", "no answer", "", "", "", "", ""))
            notes.append(f"{one['admin']}: {one['error']}")
            continue
        rows += [_row(one, role) for role in one["placements"]]
        notes += _notes(one)
    widths = [max(len(row[place]) for row in rows) for place in range(len(COLUMNS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return lines + notes


def _row(one: dict[str, Any], role: dict[str, Any]) -> tuple[str, ...]:
    stream: dict[str, Any] = next(
        (each for each in one.get("streams", ()) if each["placement"] == role["placement"]), {}
    )
    step = f":{role['step']}" if role["step"] else ""
    lease = "-" if role["lease_ms"] is None else f"{role['lease_ms']} ms"
    return (
        one["region"],
        role["placement"],
        role["role"] + step,
        str(role["region_epoch"] or "-"),
        role["leader"] or "-",
        lease,
        str(stream.get("durable", "-")),
        str(stream.get("replicated", "-")),
    )


def _notes(one: dict[str, Any]) -> list[str]:
    notes = []
    if one.get("gate"):
        notes.append(f"{one['region']}: takes no record: {one['gate']}")
    notes += [
        f"{one['region']}: {role['placement']}: {role['reason']}"
        for role in one["placements"]
        if role["reason"]
    ]
    for lag in one.get("lags", ()):
        if lag.get("records") or lag.get("reason"):
            text = f"{lag['records']} records, {lag['age_ms']} ms behind"
            reason = f" ({lag['reason']})" if lag.get("reason") else ""
            notes.append(f"{one['region']}: {lag['placement']} to {lag['peer']}: {text}{reason}")
    return notes


def _refuse(message: object) -> NoReturn:
    click.echo(f"flk-server: {message}", err=True)
    sys.exit(1)
