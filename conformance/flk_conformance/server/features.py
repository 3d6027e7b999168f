"""Read server.yaml: the tenants and keys that a run may use, and what the server claims.

This file owns the form of server.yaml. Entries of one tenant share its `id`; each brings one key.
What is not written there is not tested, and is reported as absent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from golden.oracle import ed25519

FEATURES: Final = (
    "submit", "get", "batch", "tenant", "region", "health", "problem-json", "default-policy",
    "receipts", "watermark",
)  # fmt: skip
"""What a server can claim."""

WITHOUT_CASES: Final = ("receipts", "watermark")
"""Features that this version of the suite knows by name only."""

STATUSES: Final = ("active", "verify_only", "revoked")


class FeaturesError(Exception):
    """What is wrong with server.yaml, in one sentence."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the server says of its limits; the defaults are those of spec/formats.md."""

    record_bytes: int = 65_536
    batch_bytes: int = 4_194_304
    batch_lines: int = 1_000
    head_bytes: int = 16_384
    headers: int = 100
    head_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    quota_per_s: float | None = None
    unauthenticated_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a tenant; `secret` is the HMAC key or the Ed25519 seed."""

    kid: str
    alg: str
    secret: bytes = field(repr=False)
    status: str
    tenant: str

    @property
    def verifying(self) -> bytes:
        """Give what a verifier holds: the secret itself, or the public key."""
        return self.secret if self.alg == "HMAC" else ed25519.public_key(self.secret)


@dataclass(frozen=True, slots=True)
class Quota:
    """How many records a tenant may send: in the long run, and at once."""

    per_s: float
    burst: int


@dataclass(frozen=True, slots=True)
class Tenant:
    """One tenant of the server, reserved for tests."""

    id: str
    min_version: int
    keys: tuple[Key, ...]
    token: str | None = field(repr=False)
    v1_default_kid: str | None
    quota: Quota | None

    def key(self, alg: str | None = None, *, status: str = "active") -> Key | None:
        """Find a key by algorithm and status."""
        return next(self.keys_with(alg, status), None)

    def keys_with(self, alg: str | None = None, status: str = "active") -> Iterator[Key]:
        """List the keys of an algorithm and a status, in the order of the file."""
        return (key for key in self.keys if alg in (None, key.alg) and key.status == status)


@dataclass(frozen=True, slots=True)
class Features:
    """All that server.yaml says."""

    tenants: tuple[Tenant, ...]
    claimed: frozenset[str]
    limits: Limits
    policies: Mapping[str, str]

    @property
    def ordinary(self) -> tuple[Tenant, ...]:
        """List the tenants without a quota, which most cases use."""
        return tuple(t for t in self.tenants if t.quota is None and t.key() is not None)

    @property
    def bounded(self) -> Tenant | None:
        """Find the tenant with a small quota, which the cases of the quota use up."""
        return next((t for t in self.tenants if t.quota is not None), None)


def load_features(path: Path) -> Features:
    """Read server.yaml; files that it names are relative to it. Raises FeaturesError."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise FeaturesError(f"{path.name}: cannot be read: {error}") from error
    members = _object(document, "the file", {"tenants", "features", "limits", "policies"})
    rows = members.get("tenants")
    if not isinstance(rows, list) or not rows:
        raise FeaturesError("tenants: expected a list of at least one entry")
    grouped: dict[str, list[dict[str, Any]]] = {}
    for index, row in enumerate(rows):
        where = f"tenants[{index}]"
        entry = _object(row, where, _TENANT_MEMBERS)
        _require(entry, where, "id", "kid", "alg", "key_file")
        grouped.setdefault(str(entry["id"]), []).append(entry)
    tenants = tuple(_tenant(name, entries, path.parent) for name, entries in grouped.items())
    kids = [key.kid for tenant in tenants for key in tenant.keys]
    if len(set(kids)) != len(kids):
        raise FeaturesError("tenants: a kid stands twice")
    claimed = members.get("features") or ["submit"]
    unknown = [name for name in claimed if name not in FEATURES]
    if unknown:
        raise FeaturesError(f"features: {unknown[0]!r} is none of {', '.join(FEATURES)}")
    limits = _limits(members.get("limits") or {})
    policies = {str(k): str(v) for k, v in (members.get("policies") or {}).items()}
    return Features(tenants, frozenset(claimed), limits, policies)


_TENANT_MEMBERS = {
    "id", "kid", "alg", "key_file", "min_sig_version", "token_file", "v1_default", "status",
    "quota",
}  # fmt: skip


def _tenant(name: str, entries: list[dict[str, Any]], folder: Path) -> Tenant:
    keys, versions, tokens, defaults, quotas = [], set(), [], [], []
    for entry in entries:
        status = entry.get("status", "active")
        if entry["alg"] not in ("HMAC", "Ed25519") or status not in STATUSES:
            raise FeaturesError(f"{name}: alg {entry['alg']!r} or status {status!r} is unknown")
        secret = key_bytes(folder / entry["key_file"], entry["alg"])
        keys.append(Key(str(entry["kid"]), entry["alg"], secret, status, name))
        versions.add(entry.get("min_sig_version", 2))
        if "token_file" in entry:
            tokens.append(_text(folder / entry["token_file"]))
        if entry.get("v1_default"):
            defaults.append(str(entry["kid"]))
        if "quota" in entry:
            given = _object(entry["quota"], f"{name}: quota", {"per_s", "burst"})
            quotas.append(Quota(float(given["per_s"]), int(given["burst"])))
    if len(versions) != 1 or not versions <= {1, 2}:
        raise FeaturesError(f"{name}: min_sig_version is 1 or 2, the same for all its keys")
    if len(defaults) > 1 or len(tokens) > 1 or len(quotas) > 1:
        raise FeaturesError(f"{name}: token_file, v1_default and quota each stand once")
    return Tenant(
        name,
        versions.pop(),
        tuple(keys),
        tokens[0] if tokens else None,
        defaults[0] if defaults else None,
        quotas[0] if quotas else None,
    )


def key_bytes(path: Path, alg: str) -> bytes:
    """Read a key file: hexadecimal digits and perhaps a line end, or else the key itself."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise FeaturesError(f"{path.name}: cannot be read ({error.strerror})") from error
    try:
        key = bytes.fromhex(raw.decode("ascii").strip())
    except ValueError:
        key = raw
    if alg == "Ed25519" and len(key) != 32:
        raise FeaturesError(f"{path.name}: an Ed25519 seed has 32 bytes, not {len(key)}")
    return key


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise FeaturesError(f"{path.name}: no token can be read from it") from error


def _limits(given: object) -> Limits:
    names = set(Limits.__slots__)
    values = _object(given, "limits", names)
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise FeaturesError(f"limits.{name}: expected a number of at least 0")
    return Limits(**values)


def _object(value: object, where: str, names: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise FeaturesError(f"{where}: expected members, got {type(value).__name__}")
    unknown = sorted(set(map(str, value)) - names)
    if unknown:
        raise FeaturesError(f"{where}: {unknown[0]!r} is none of {', '.join(sorted(names))}")
    return value


def _require(entry: Mapping[str, Any], where: str, *names: str) -> None:
    missing = [name for name in names if name not in entry]
    if missing:
        raise FeaturesError(f"{where}: {missing[0]} is missing")
