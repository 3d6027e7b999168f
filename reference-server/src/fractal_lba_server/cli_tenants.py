"""The commands `flk-server tenants check`, `tenants token new` and `tenants key new`.

No command prints a key. The text of a token is kept nowhere: it is printed once, or written to a
file that only its owner can read. Results go to standard output, everything else to standard
error, so that a token can be piped to where it belongs.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from fractal_lba.errors import ConfigError
from fractal_lba.keyfile import NAME, new_key, registration, registration_text, write_private

if TYPE_CHECKING:
    from .core.faults import DocumentError

TOKEN_BYTES = 32
"""Random bytes of a read token; as base64url they are the 43 characters that the server takes."""

_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def tenants() -> None:
    """Check a tenants file, and make what goes into it."""


@tenants.command()
@click.argument("file", type=_FILE)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Data directory: also refuse the removal of a key that its log names.",
)
@_JSON
def check(file: Path, data: Path | None, as_json: bool) -> None:
    """Read FILE and the secrets it names as the server would, and say every fault.

    Exit status: 0 no fault, 1 faults, each with its line and the way to mend it.
    """
    from .core.faults import DocumentError
    from .tenants import TenantsReader

    try:
        kids = frozenset[str]() if data is None else kids_of_data(data)
        directory = TenantsReader(file, environ=os.environ).read(kids_in_use=kids).directory
    except DocumentError as error:
        _refuse_file(error, as_json=as_json)
    except (ConfigError, OSError) as error:
        _refuse(error)
    counts = {
        "tenants": len(directory.tenants),
        "keys": len(directory.keys),
        "read_tokens": len(directory.tokens),
    }
    if as_json:
        click.echo(json.dumps({"faults": [], **counts}))
    else:
        found = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
        click.echo(f"{file}: no faults ({found})")


@tenants.group()
def token() -> None:
    """Make read tokens."""


@token.command("new")
@click.option("--id", "name", required=True, help="Name of the token, for you to find it again.")
@click.option("--out", type=_FILE, help="Write the token here (mode 0600) and print its entry.")
@_JSON
def token_new(name: str, out: Path | None, as_json: bool) -> None:
    """Draw a read token for a tenant and print the entry for its `read_tokens`.

    The server keeps the SHA-256 of a token alone, so nobody can show it again. Without --out the
    token is the only line on standard output and the entry goes to standard error.
    """
    if NAME.fullmatch(name) is None:
        raise click.UsageError("--id: expected 1 to 64 of A-Z a-z 0-9 . _ -")
    text = secrets.token_urlsafe(TOKEN_BYTES)
    entry = {"id": name, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    if out is not None:
        _write(out, text.encode() + b"\n")
    if as_json:
        shown = {} if out is not None else {"token": text}
        click.echo(json.dumps({**shown, "read_token": entry}))
        return
    click.echo("Add to the tenant, under read_tokens:", err=True)
    click.echo(f"  - {_flow(entry)}", err=out is None)
    if out is None:
        click.echo("The token, shown this once:", err=True)
        click.echo(text)


@tenants.group()
def key() -> None:
    """Make signing keys."""


@key.command("new")
@click.option("--kid", required=True, help="Name of the key, unique over all tenants.")
@click.option("--alg", type=click.Choice(["HMAC", "Ed25519"]), default="HMAC", show_default=True)
@click.option("--tenant", help="Tenant of the key.")
@click.option("--out", type=_FILE, required=True, help="Key file for the producer (mode 0600).")
@click.option("--secret-out", type=_FILE, help="Key of the server (mode 0600); HMAC only.")
@_JSON
def key_new(
    kid: str, alg: str, tenant: str | None, out: Path, secret_out: Path | None, as_json: bool
) -> None:
    """Draw a key, keep it in files that only their owner can read, and print its entry.

    --out is the file that `flk --key-file` takes. With Ed25519 it holds the only secret, and the
    entry has the public key. With HMAC the server needs the key too: --secret-out writes it for
    the entry to name; without it the entry names an environment variable, which you set.
    """
    if secret_out is not None and alg != "HMAC":
        raise click.UsageError("--secret-out: with Ed25519 the server has no secret")
    for path in (out, secret_out):
        if path is not None and os.path.lexists(path):
            _refuse(f"{path}: it exists; a key is never overwritten")
    try:
        made = new_key(alg=alg, kid=kid, tenant=tenant)
    except ConfigError as error:
        _refuse(error)
    _write(out, made.text())
    if secret_out is not None:
        _write(secret_out, made.secret_hex() + b"\n")
    named = None if secret_out is None else str(secret_out.absolute())
    entry = registration(made, secret_file=named)
    if as_json:
        click.echo(json.dumps({"key": entry}))
    else:
        click.echo("Add the entry to the tenant, under keys; a file with it alone is:", err=True)
        click.echo(registration_text(made, entry))


def kids_of_data(data: Path) -> frozenset[str]:
    """Read which kids the log of a data directory names; the server may run meanwhile.

    The index knows the kids of what it has applied; the log is read for the rest. Raises
    ConfigError if it is no data directory, or the log is damaged.
    """
    from .store.data_dir import DataDirError, streams_in
    from .store.sqlite import Index
    from .store.stream import stream_facts
    from .store.wal import WalCorruptError

    if not (data / "index.sqlite").is_file():
        raise ConfigError("config_invalid", f"{data}: not a data directory of flk-server")
    try:
        index = Index(data / "index.sqlite")
    except DataDirError as error:
        raise ConfigError("config_invalid", str(error)) from None
    kids = set(index.kids)
    streams = [(one, index.applied(one.region, one.placement)) for one in streams_in(data)]
    index.close()
    for (region, placement, path), applied in streams:
        try:
            for _, _, facts in stream_facts(
                path, region=region, placement=placement, first_seq=applied + 1
            ):
                kids.add(facts.kid)
        except WalCorruptError as error:
            # The end of the open segment may be a frame that is being written just now.
            if error.path.suffix != ".open":
                raise ConfigError("config_invalid", str(error)) from None
    return frozenset(kids)


def _flow(entry: dict[str, str]) -> str:
    """Write an entry as one line of YAML."""
    return "{" + ", ".join(f"{name}: {json.dumps(value)}" for name, value in entry.items()) + "}"


def _write(path: Path, data: bytes) -> None:
    try:
        write_private(path, data)
    except (ConfigError, OSError) as error:
        _refuse(error)


def _refuse_file(error: DocumentError, *, as_json: bool) -> NoReturn:
    if as_json:
        faults = [
            {"pointer": fault.pointer, "problem": fault.problem, "fix": fault.fix, "text": text}
            for fault, text in zip(error.faults, error.message.splitlines(), strict=True)
        ]
        click.echo(json.dumps({"faults": faults}))
    else:
        click.echo(error.message, err=True)
    sys.exit(1)


def _refuse(error: Exception | str) -> NoReturn:
    text = error.message if isinstance(error, ConfigError) else str(error)
    click.echo(f"flk-server: {text}", err=True)
    sys.exit(1)
