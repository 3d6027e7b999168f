"""The commands `flk keys new` and `flk keys show`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from .cli_output import Output, json_option
from .cli_signer import tenant_option
from .errors import ConfigError
from .keyfile import (
    KeyFile,
    new_key,
    read_key_file,
    registration,
    registration_text,
    write_private,
)


@click.group()
def keys() -> None:
    """Make keys, and print what to register at the server."""


@keys.command()
@click.option("--alg", type=click.Choice(["HMAC", "Ed25519"]), default="HMAC", show_default=True)
@click.option("--kid", required=True, help="Name of the key, unique at the server.")
@click.option("--out", required=True, metavar="FILE", help="Key file to write.")
@click.option("--secret-out", metavar="FILE", help="Also write an HMAC key's hex for the server.")
@tenant_option
@json_option
def new(
    *, alg: str, kid: str, out: str, secret_out: str | None, tenant: str | None, as_json: bool
) -> None:
    """Draw a new key, keep it in FILE, and print its registration; never the secret.

    FILE is JSON, `{"alg", "key", "kid"}` and "tenant" if one was given; "key" is the HMAC key or
    the Ed25519 seed in hexadecimal. Only its owner can read it (mode 0600), and flk refuses a key
    file that others can read. An existing file is never overwritten.

    What is printed is a tenants file for the server with this key alone; a server that has one
    takes the entry under "keys". An HMAC key is a secret of both sides:
    --secret-out writes its hexadecimal digits alone (mode 0600), the file that the entry names;
    without it the entry names an environment variable for them.
    """
    if secret_out is not None and alg != "HMAC":
        raise ConfigError("config_invalid", "--secret-out: an Ed25519 seed stays with its owner")
    if secret_out is not None and os.path.lexists(secret_out):
        raise ConfigError("config_invalid", f"{secret_out}: it exists; a key is never overwritten")
    key = new_key(alg=alg, kid=kid, tenant=tenant)
    write_private(out, key.text())
    if secret_out is not None:
        write_private(secret_out, key.secret_hex() + b"\n")
    output = Output(as_json=as_json)
    output.note(f"The key is in {out}, readable by you alone: keep it secret, keep a copy.")
    _show(output, key, out, secret_out)


@keys.command()
@click.argument("key_file", metavar="FILE")
@json_option
def show(key_file: str, as_json: bool) -> None:
    """Print the registration of the key in FILE; never the secret."""
    _show(Output(as_json=as_json), read_key_file(key_file), key_file, None)


def _show(output: Output, key: KeyFile, path: str, secret_out: str | None) -> None:
    secret_file = None if secret_out is None else str(Path(secret_out).absolute())
    entry = registration(key, secret_file=secret_file)
    members: dict[str, Any] = {"kid": key.kid, "alg": key.alg, "file": path, "registration": entry}
    if key.tenant is not None:
        members["tenant"] = key.tenant
    output.note("For the server, a tenants file with this key:")
    output.result(members, registration_text(key, entry))
    variable = entry.get("secret", {}).get("env")
    if variable is not None:
        output.note(f"{variable} is to hold the digits of `key` in {path}, at the server.")
