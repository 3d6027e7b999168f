"""Write the folder of a reference server that is to be judged: keys, tokens, tenants, limits.

The folder then holds `flk.yaml` for the server and `server.yaml` for the judge, who is told of
the same tenants. Nothing in it is worth keeping.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import socket
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FIRST, SECOND, BOUNDED = "conf-1", "conf-2", "conf-3"
QUOTA = {"per_s": 4, "burst": 4}
"""Small enough to be used up at once, and full again in a second."""

LIMITS = {"head_timeout_s": 1, "body_timeout_s": 2, "unauthenticated_per_s": 1_000_000}
"""Short waits, so that a run is short; and strangers may fail as often as the cases do."""

KEYS = (
    (FIRST, "conf-1-mac", "HMAC", "active"),
    (FIRST, "conf-1-mac-2", "HMAC", "active"),
    (FIRST, "conf-1-ed", "Ed25519", "active"),
    (FIRST, "conf-1-ed-2", "Ed25519", "active"),
    (FIRST, "conf-1-gone", "HMAC", "revoked"),
    (SECOND, "conf-2-mac", "HMAC", "active"),
    (SECOND, "conf-2-ed", "Ed25519", "active"),
    (BOUNDED, "conf-3-mac", "HMAC", "active"),
)
V1 = {FIRST: "conf-1-mac"}
"""Tenants that take version 1, with the key of records without kid."""

CLAIMS = ["submit", "get", "batch", "tenant", "region", "health", "problem-json", "default-policy"]


def write_home(folder: Path, port: int = 0, **limits: float) -> str:
    """Write every file and give the URL; a port of 0 is replaced by a free one.

    `limits` are laid over LIMITS.
    """
    folder.mkdir(parents=True, exist_ok=True)
    public, admin = port or _free_port(), _free_port()
    rows: list[dict[str, Any]] = []
    tenants: dict[str, dict[str, Any]] = {}
    for tenant, kid, alg, status in KEYS:
        if tenant not in tenants:
            tenants[tenant] = _tenant(folder, tenant)
        secret = secrets.token_bytes(32)
        _private(folder / f"{kid}.key", secret.hex())
        key: dict[str, Any] = {"kid": kid, "alg": alg, "status": status}
        if alg == "HMAC":
            key["secret"] = {"file": f"{kid}.key"}
        else:
            key["public_key"] = public_key(secret).hex()
        tenants[tenant]["keys"].append(key)
        rows.append(_row(tenant, kid, alg, status))
    _json(folder / "tenants.yaml", {"version": 1, "tenants": list(tenants.values())})
    flk = {
        "data": "data",
        "tenants_file": "tenants.yaml",
        "listen": f"127.0.0.1:{public}",
        "admin_listen": f"127.0.0.1:{admin}",
        "limits": {**LIMITS, **limits},
    }
    _json(folder / "flk.yaml", flk)
    waits = {name: LIMITS[name] for name in ("head_timeout_s", "body_timeout_s")}
    judged = {"tenants": rows, "features": CLAIMS, "limits": waits}
    _json(folder / "server.yaml", {**judged, "policies": {"verify.off_grid": "accept"}})
    url = f"http://127.0.0.1:{public}"
    (folder / "url").write_text(url, encoding="ascii")
    return url


def _tenant(folder: Path, name: str) -> dict[str, Any]:
    token = secrets.token_urlsafe(32)
    _private(folder / f"{name}.token", token)
    digest = hashlib.sha256(token.encode()).hexdigest()
    entry: dict[str, Any] = {
        "id": name,
        "keys": [],
        "signing": {"min_version": 1 if name in V1 else 2},
        "read_tokens": [{"id": name, "sha256": digest}],
    }
    if name in V1:
        entry["v1_default_kid"] = V1[name]
    if name == BOUNDED:
        entry["quota"] = QUOTA
    return entry


def _row(tenant: str, kid: str, alg: str, status: str) -> dict[str, Any]:
    row: dict[str, Any] = {"id": tenant, "kid": kid, "alg": alg, "key_file": f"{kid}.key"}
    row["min_sig_version"] = 1 if tenant in V1 else 2
    if status != "active":
        row["status"] = status
    first = next(name for owner, name, _, _ in KEYS if owner == tenant)
    if kid == first:
        row["token_file"] = f"{tenant}.token"
        if tenant in V1:
            row["v1_default"] = True
        if tenant == BOUNDED:
            row["quota"] = QUOTA
    return row


def public_key(seed: bytes) -> bytes:
    """Derive an Ed25519 public key."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _private(path: Path, text: str) -> None:
    path.write_text(text, encoding="ascii")
    path.chmod(0o600)


def _json(path: Path, document: dict[str, Any]) -> None:
    """Write JSON, which is YAML too."""
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
