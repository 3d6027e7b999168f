"""The commands `flk sign` and `flk verify`."""

from __future__ import annotations

import binascii
import os
from collections.abc import Mapping
from typing import IO

import click

from .canonical import parse
from .cli_input import read_sources
from .cli_output import EXIT_FAILED, Output, json_option
from .cli_signer import (
    check_names,
    find_identity,
    key_options,
    require_signer,
    tenant_option,
)
from .errors import ConfigError, FractalLBAError
from .keyfile import read_key_file
from .sign import Key, keyring
from .sign import sign as sign_record
from .sign import verify as verify_record

PATHS = click.argument("paths", metavar="FILE...", nargs=-1, required=True)


@click.command()
@PATHS
@key_options
@tenant_option
@click.option("--sig-version", type=click.IntRange(1, 2), default=2, show_default=True)
@click.option("--out", metavar="FILE", type=click.File("wb"), help="Write here, not to stdout.")
@json_option
def sign(
    *,
    paths: tuple[str, ...],
    key_file: str | None,
    env: bool,
    kid: str | None,
    alg: str | None,
    tenant: str | None,
    sig_version: int,
    out: IO[bytes] | None,
    as_json: bool,
) -> int:
    """Sign records, one document or one record a line (`-`: stdin), and print them as lines.

    Version 2 covers the whole record and needs a tenant and a key with a name. A signature that a
    record has is replaced. Records that cannot be signed are named on stderr, the others are
    printed, and the exit code is 1.
    """
    identity = find_identity(key_file=key_file, env=env, kid=kid, alg=alg, tenant=tenant)
    signer = require_signer(identity)
    if sig_version != 1:
        check_names(identity)
    output = Output(as_json=as_json)
    failed = 0
    for source in read_sources(paths):
        try:
            signed = sign_record(
                parse(source.text), signer, sig_version=sig_version, tenant=identity.tenant
            )
        except ConfigError:
            raise
        except FractalLBAError as error:
            output.error(error, where=source.where)
            failed += 1
            continue
        click.echo(signed.body, file=out)
    return EXIT_FAILED if failed else 0


@click.command()
@PATHS
@click.option("--key-file", "key_files", metavar="FILE", multiple=True, help="May be repeated.")
@click.option("--env", is_flag=True, help="Take a key from PCS_HMAC_KEY and PCS_KID.")
@click.option("--kid", help="Key of version 1 records without kid.  [default: the only key]")
@tenant_option
@click.option("--strict", is_flag=True, help="Refuse numbers that are no whole billionths.")
@json_option
def verify(
    *,
    paths: tuple[str, ...],
    key_files: tuple[str, ...],
    env: bool,
    kid: str | None,
    tenant: str | None,
    strict: bool,
    as_json: bool,
) -> int:
    """Check the signatures of records, one document or one record a line (`-`: stdin).

    The algorithm and the tenant are those of the key, never those of the message. A key file that
    names no tenant is of --tenant. The exit code is 1 if any record fails.
    """
    keys = [_with_tenant(read_key_file(path).verifier(), tenant) for path in key_files]
    if env or not keys:
        keys.append(_environment_key(os.environ, tenant))
    ring = keyring(keys)
    default_kid = kid or (keys[0].kid if len(keys) == 1 else None)
    output = Output(as_json=as_json)
    failed = 0
    for source in read_sources(paths):
        try:
            verified = verify_record(source.text, ring, strict=strict, v1_default_kid=default_kid)
        except FractalLBAError as error:
            output.error(error, where=source.where)
            failed += 1
            continue
        facts = {
            "valid": True,
            "pcs_id": verified.record["pcs_id"],
            "kid": verified.key.kid,
            "alg": verified.key.alg,
            "sig_v": verified.sig_v,
        }
        output.result(
            facts, f"valid  {facts['pcs_id']}  version {facts['sig_v']}, key {facts['kid']}"
        )
    return EXIT_FAILED if failed else 0


def _with_tenant(key: Key, tenant: str | None) -> Key:
    return key if key.tenant is not None else Key(key.kid, key.alg, key.key, tenant)


def _environment_key(environ: Mapping[str, str], tenant: str | None) -> Key:
    text = environ.get("PCS_HMAC_KEY", "")
    if not text:
        raise ConfigError("config_invalid", "no key: name one with --key-file or PCS_HMAC_KEY")
    try:
        key = binascii.unhexlify(text)
    except ValueError:  # the cause would carry the text of the key
        raise ConfigError("config_invalid", "PCS_HMAC_KEY: expected hex digits") from None
    return Key(environ.get("PCS_KID") or "PCS_HMAC_KEY", "HMAC", key, tenant)
