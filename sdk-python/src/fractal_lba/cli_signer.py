"""Own the options by which `flk` finds a key: a key file, or the environment."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from .errors import ConfigError
from .keyfile import read_key_file
from .sign import HmacSigner, Signer

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Identity:
    """Hold who signs: the signer and its tenant, as far as they are known."""

    signer: Signer | None
    tenant: str | None


def tenant_option(command: Command) -> Command:
    """Give a command the option `--tenant`."""
    option = click.option("--tenant", envvar="FLK_TENANT", help="Tenant.  [env: FLK_TENANT]")
    return option(command)


def key_options(command: Command) -> Command:
    """Give a command the options that choose one key for signing."""
    for option in (
        click.option("--alg", type=click.Choice(["HMAC", "Ed25519"]), help="Algorithm expected."),
        click.option("--kid", help="Name of the key: that of the key file, or of --env."),
        click.option("--env", is_flag=True, help="Take the key from PCS_HMAC_KEY and PCS_KID."),
        click.option("--key-file", metavar="FILE", help="Key file made by `flk keys new`."),
    ):
        command = option(command)
    return command


def find_identity(
    *,
    key_file: str | None,
    env: bool,
    kid: str | None,
    alg: str | None,
    tenant: str | None,
    environ: Mapping[str, str] | None = None,
) -> Identity:
    """Find the key: the file if one is named, else the environment; no key is no error.

    The tenant is the option's, or that of the key file.
    """
    environ = os.environ if environ is None else environ
    if key_file is not None:
        if env:
            raise ConfigError("config_invalid", "--key-file and --env: expected one of them")
        found = read_key_file(key_file)
        for option, given, value in (("--kid", kid, found.kid), ("--alg", alg, found.alg)):
            if given not in (None, value):
                raise ConfigError("config_invalid", f"{option} {given}: {key_file} holds {value}")
        return Identity(found.signer(), tenant or found.tenant)
    if not env and "PCS_HMAC_KEY" not in environ:
        return Identity(None, tenant)
    if alg == "Ed25519":
        raise ConfigError("config_invalid", "--alg Ed25519: the environment holds HMAC keys only")
    named = environ if kid is None else {**environ, "PCS_KID": kid}
    return Identity(HmacSigner.from_env(named), tenant)


def check_names(identity: Identity) -> None:
    """Say which option is missing for a signature of version 2, which names key and tenant."""
    if identity.signer is None:
        return
    if identity.signer.kid is None:
        raise ConfigError("config_invalid", "no name of the key: give --kid, or set PCS_KID")
    if not identity.tenant:
        raise ConfigError(
            "config_invalid",
            "no tenant: give --tenant, set FLK_TENANT, or have it in the key file "
            "(`flk keys new --tenant`)",
        )


def require_signer(identity: Identity) -> Signer:
    """Return the signer, or say how to name a key."""
    if identity.signer is None:
        raise ConfigError(
            "config_invalid",
            "no key: name one with --key-file, or set PCS_HMAC_KEY and PCS_KID "
            "(`flk keys new` makes one)",
        )
    return identity.signer
