"""Send records through the SDKs of three languages, each as a program of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from demo.region import TENANT, CommandError, Region
from fractal_lba import Client, FractalLBAError, jcs
from fractal_lba.keyfile import read_key_file

SENDERS: Final = Path(__file__).resolve().parent / "senders"
SEND_TIMEOUT_S: Final = 180
"""How long a program may take; the Go one may have to be built first."""

PROGRAMS: Final = {
    "Go": ("go", "run", "-C", str(SENDERS), "."),
    "TypeScript": ("node", str(SENDERS / "send.mjs")),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What one SDK was told about one record."""

    pcs_id: str
    replayed: bool
    body: bytes


def send(language: str, region: Region, records: list[dict[str, Any]]) -> list[Answer]:
    """Submit records through the SDK of a language; raises CommandError if one is not taken."""
    if language == "Python":
        return _python(region, records)
    command = PROGRAMS[language]
    program = shutil.which(command[0])
    if program is None:
        message = f"{command[0]} is not on the path; `nox -s demo` installs it"
        raise CommandError(message)
    key = read_key_file(region.key_file)
    settings = {
        "FLK_ENDPOINT": region.url,
        "FLK_TENANT": TENANT,
        "PCS_KID": key.kid,
        "PCS_HMAC_KEY": region.secret_file.read_text().strip(),
        "GOWORK": "off",
    }
    done = subprocess.run(
        [program, *command[1:]],
        input="".join(jcs(record).decode() + "\n" for record in records),
        env={**os.environ, **settings},
        capture_output=True, text=True, timeout=SEND_TIMEOUT_S, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        message = f"the {language} SDK ended with {done.returncode}: {done.stderr.strip()}"
        raise CommandError(message)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return [Answer(a["pcs_id"], a["replayed"], bytes.fromhex(a["body"])) for a in lines]


def _python(region: Region, records: list[dict[str, Any]]) -> list[Answer]:
    signer = read_key_file(region.key_file).signer()
    with Client(region.url, signer=signer, tenant=TENANT) as client:
        try:
            found = [client.submit(record) for record in records]
        except FractalLBAError as error:
            raise CommandError(f"the Python SDK was refused: {error}") from error
    return [Answer(one.outcome.pcs_id, one.replayed, one.raw.body) for one in found]
