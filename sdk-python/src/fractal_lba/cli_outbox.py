"""The commands `flk outbox status`, `flush`, `resign`, `resend` and `dead list|requeue|purge`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from .cli_client import endpoint_option, open_client, timeout_option
from .cli_output import EXIT_FAILED, Output, json_option
from .cli_signer import check_names, find_identity, require_signer, tenant_option
from .errors import ConfigError
from .keyfile import read_token_file
from .outbox import DeadLetter
from .outcome import LEVELS
from .spool import Outbox, OutboxStats, open_outbox

NOWHERE: Final = "https://localhost"
"""The endpoint of a client that sends nothing."""

DIRECTORY = click.argument("directory", metavar="DIR")


@click.group()
def outbox() -> None:
    """Look after records that wait in a directory until the server has them.

    One process at a time uses an outbox: stop the one that fills it, or call its own functions.
    """


@outbox.command()
@DIRECTORY
@json_option
def status(directory: str, as_json: bool) -> None:
    """Count what waits in DIR, and what cannot be sent."""
    with _open(directory) as box:
        stats = box.stats()
    Output(as_json=as_json).result(_facts(stats), _text(stats))


@outbox.command()
@DIRECTORY
@endpoint_option
@click.option(
    "--durability",
    type=click.Choice(LEVELS[:2]),
    default=LEVELS[0],
    show_default=True,
    help="When a record may go: once it is recorded, or once another region has it too.",
)
@click.option(
    "--token-file",
    metavar="FILE",
    help="File of the read token; with it, wait until other regions have what is held.",
)
@timeout_option
@json_option
def flush(
    *,
    directory: str,
    endpoints: tuple[str, ...],
    durability: str,
    token_file: str | None,
    timeout_s: float,
    as_json: bool,
) -> int:
    """Send what waits in DIR, and tell what is left; exit code 1 if anything is.

    Records are sent as they were signed: no key is needed. A record that the server refuses for
    good becomes a dead letter.
    """
    output = Output(as_json=as_json)
    token = None if token_file is None else read_token_file(token_file)
    with _open(directory) as box:
        dead_before = box.stats().dead
        with open_client(
            endpoints, token=token, outbox=box, durability=durability, timeout_s=timeout_s
        ) as client:
            stats = client.flush(timeout_s)
    output.result(_facts(stats), _text(stats))
    if stats.dead > dead_before:
        output.note(f"{stats.dead - dead_before} refused; see: flk outbox dead list {directory}")
    return EXIT_FAILED if stats.entries or stats.dead > dead_before else 0


@outbox.command()
@DIRECTORY
@click.option("--kid", "old_kid", required=True, help="The retired key.")
@click.option("--key-file", metavar="FILE", help="The new key.")
@click.option("--env", is_flag=True, help="Take the new key from PCS_HMAC_KEY and PCS_KID.")
@tenant_option
@json_option
def resign(
    *,
    directory: str,
    old_kid: str,
    key_file: str | None,
    env: bool,
    tenant: str | None,
    as_json: bool,
) -> None:
    """Sign again, with a new key, what waits in DIR signed by the key --kid.

    For a key that the server no longer takes. What a record says does not change, only its
    signature: a record that did reach the server is still answered with its first outcome.
    """
    identity = find_identity(key_file=key_file, env=env, kid=None, alg=None, tenant=tenant)
    signer = require_signer(identity)
    check_names(identity)
    if signer.kid == old_kid:
        raise ConfigError("config_invalid", f"--kid {old_kid}: expected another key than the new")
    with (
        _open(directory) as box,
        open_client([NOWHERE], signer=signer, tenant=identity.tenant, outbox=box) as client,
    ):
        resigned = client.resign(old_kid)
    Output(as_json=as_json).result(
        {"kid": old_kid, "new_kid": signer.kid, "resigned": resigned},
        f"{resigned} signed again with {signer.kid}",
    )


@outbox.command()
@DIRECTORY
@click.option("--region", required=True, help="The region that is lost for good.")
@json_option
def resend(directory: str, region: str, as_json: bool) -> None:
    """Let what is held in a lost region wait again; `flk outbox flush` sends it to another.

    A held record was recorded there, and nobody has said that another region has it. One that
    has it all the same answers with the first outcome.
    """
    with _open(directory) as box:
        count = box.resend(region)
    Output(as_json=as_json).result(
        {"region": region, "resent": count}, f"{count} wait again that were held in {region}"
    )


@outbox.group()
def dead() -> None:
    """Look after records that the server refused, or that grew too old."""


@dead.command("list")
@DIRECTORY
@json_option
def dead_list(directory: str, as_json: bool) -> None:
    """List the dead letters of DIR, oldest first."""
    output = Output(as_json=as_json)
    with _open(directory) as box:
        letters = box.dead()
    for letter in letters:
        output.result(_letter(letter), f"{letter.id}  {letter.letter.pcs_id}  {_why(letter)}")


@dead.command()
@DIRECTORY
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@json_option
def requeue(directory: str, ids: tuple[str, ...], as_json: bool) -> None:
    """Let dead letters of DIR wait again; `flk outbox flush` sends them."""
    output = Output(as_json=as_json)
    with _open(directory) as box:
        for id in ids:
            new = box.requeue(id)
            output.result({"requeued": id, "id": new}, f"{id} waits again as {new}")


@dead.command()
@DIRECTORY
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@json_option
def purge(directory: str, ids: tuple[str, ...], as_json: bool) -> None:
    """Remove dead letters of DIR for good."""
    output = Output(as_json=as_json)
    with _open(directory) as box:
        for id in ids:
            box.purge(id)
            output.result({"purged": id}, f"{id} is gone")


def _open(directory: str) -> Outbox:
    if not Path(directory).is_dir():
        raise ConfigError("config_invalid", f"{directory}: there is no outbox")
    return open_outbox(directory, background=False)


def _facts(stats: OutboxStats) -> dict[str, Any]:
    oldest = stats.oldest_sent_at_ms
    return {
        "entries": stats.entries,
        "in_flight": stats.in_flight,
        "held": stats.held,
        "dead": stats.dead,
        "bytes": stats.bytes,
        "oldest_sent_at": None if oldest is None else _time(oldest),
        "blocked": [{"what": what, "name": name} for what, name in stats.blocked],
        "corrupt_files": list(stats.corrupt_files),
        "unreadable_frames": stats.unreadable_frames,
    }


def _time(unix_ms: int) -> str:
    return f"{datetime.fromtimestamp(unix_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _text(stats: OutboxStats) -> str:
    text = f"{stats.entries - stats.held} waiting, {stats.dead} dead, {stats.bytes} bytes"
    if stats.oldest_sent_at_ms is not None:
        text += f", the oldest of {_time(stats.oldest_sent_at_ms)}"
    if stats.held:
        text += f"\nheld: {stats.held} recorded, and not yet replicated to another region"
    for what, name in stats.blocked:
        text += f"\nblocked: the server refuses {what} {name}"
    for name in stats.corrupt_files:
        text += f"\ndamaged: {name} was set aside, {stats.unreadable_frames} frames are unreadable"
    return text


def _letter(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "pcs_id": letter.letter.pcs_id,
        "kid": letter.letter.kid,
        "tenant": letter.letter.tenant,
        "status": letter.status,
        "code": letter.code,
        "reason": letter.reason,
    }


def _why(letter: DeadLetter) -> str:
    return f"{letter.code}: {letter.reason}"
