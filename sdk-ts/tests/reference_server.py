"""A reference server with two keys, and this package installed from what `npm pack` makes of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SDK: Final = Path(__file__).resolve().parents[1]
START_S: Final = 60
"""Longest time that a program may take to start or to end."""

HMAC_KEY: Final = bytes(range(32)).hex()
SEED: Final = bytes(range(32, 64)).hex()


@dataclass(frozen=True, slots=True)
class Running:
    """A server that listens, and what its tenant signs with."""

    endpoint: str
    tenant: str = "page"
    hmac_key: str = HMAC_KEY
    seed: str = SEED


def public_key() -> str:
    """Derive the public key of the seed."""
    from cryptography.hazmat.primitives.asymmetric import ed25519

    private = ed25519.Ed25519PrivateKey.from_private_bytes(bytes.fromhex(SEED))
    return private.public_key().public_bytes_raw().hex()


@contextmanager
def reference_server(folder: Path, *, origins: Sequence[str] = ()) -> Iterator[Running]:
    """Start a server in a folder; pages of these origins may call it."""
    folder.mkdir(parents=True, exist_ok=True)
    secret = folder / "key.hex"
    secret.write_text(HMAC_KEY)
    secret.chmod(0o600)
    keys = [
        {"kid": "page-hmac", "alg": "HMAC", "secret": {"file": str(secret)}},
        {"kid": "page-ed25519", "alg": "Ed25519", "public_key": public_key()},
    ]
    # YAML reads JSON.
    tenants = {"version": 1, "tenants": [{"id": "page", "keys": keys}]}
    (folder / "tenants.yaml").write_text(json.dumps(tenants))
    settings = {
        "data": "data", "listen": "127.0.0.1:0", "admin_listen": None,
        "tenants_file": "tenants.yaml", "cors": {"allowed_origins": list(origins)},
    }  # fmt: skip
    (folder / "flk.yaml").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "fractal_lba_server", "serve", "--config", "flk.yaml"]
    log = folder / "server.log"
    with (
        log.open("wb") as logged,
        subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=logged, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            address = re.search(r"listening on ([^,\s]+)", said)
            assert address, f"{said!r}\n{log.read_text()}"
            yield Running(f"http://{address[1]}")
        finally:
            process.terminate()
            process.wait(START_S)


def tool(name: str) -> str | None:
    """Find a program of the package's development, or on the path."""
    own = SDK / "node_modules" / ".bin" / name
    return str(own) if own.exists() else shutil.which(name)


def install_package(folder: Path) -> Path:
    """Pack this package and install the tarball into an empty project."""
    folder.mkdir(parents=True)
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    run(["npm", "pack", "--silent", "--pack-destination", str(folder)], SDK)
    (packed,) = folder.glob("*.tgz")
    offline = ["--offline", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
    run(["npm", "install", *offline, str(packed)], folder)
    return folder


def run(command: Sequence[str], folder: Path, **environment: str) -> str:
    """Run a program to its end and give what it printed."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=5 * START_S,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout
