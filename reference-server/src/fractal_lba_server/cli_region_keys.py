"""The command `flk-server region keys new`: a region's key, and certificates between regions.

No command prints a key. The public key is what the file of regions needs; it goes to standard
output, everything else to standard error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NoReturn

import click

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group()
def keys() -> None:
    """Make what a region proves itself with."""


@keys.command()
@click.option("--region", required=True, help="The region's code, three letters or digits.")
@click.option("--out", required=True, type=_FOLDER, help="Folder for keys and certificates.")
@click.option("--host", multiple=True, help="Name or address of its peer listener; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def new(region: str, out: Path, host: tuple[str, ...], as_json: bool) -> None:
    """Make REGION's key and a certificate that names it.

    Writes <region>.key (keep it), <region>.crt and <region>.pem for TLS, and, once for all
    regions, the authority ca.crt with its key ca.pem (keep it elsewhere). A region that has its
    key keeps it and gets a new certificate: that is how one is renewed.
    """
    from fractal_lba.errors import ConfigError

    from .store.region_key import (
        CODE,
        new_certificate,
        new_region_key,
        now_utc,
        read_region_key,
    )

    if not CODE.fullmatch(region):
        raise click.BadParameter(f"{region!r} is not three of a-z and 0-9", param_hint="--region")
    file = out / f"{region}.key"
    try:
        out.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = read_region_key(file) if file.exists() else new_region_key(file)
        new_certificate(region, out, hosts=host, now=now_utc())
    except (ConfigError, OSError) as error:
        _refuse(error)
    document = {
        "region": region,
        "public_key": key.public_key.hex(),
        "key": str(file),
        "cert": str(out / f"{region}.crt"),
        "cert_key": str(out / f"{region}.pem"),
        "ca": str(out / "ca.crt"),
    }
    if as_json:
        click.echo(json.dumps(document))
        return
    click.echo(document["public_key"])
    click.echo(
        f"region {region}: public_key above, for the file of regions\n"
        f"  peers.region_key: {file}\n  peers.cert: {document['cert']}\n"
        f"  peers.key: {document['cert_key']}\n  peers.ca: {document['ca']}",
        err=True,
    )


def _refuse(error: Exception) -> NoReturn:
    click.echo(str(error), err=True)
    sys.exit(1)
