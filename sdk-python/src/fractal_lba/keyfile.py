"""Read and write key files.

A key file is JSON with the members `kid`, `alg` (`HMAC` or `Ed25519`), optionally `tenant`, and
`key`: the HMAC key or the Ed25519 seed in hexadecimal. It is readable by its owner alone; one that
others can read is refused, because then the key is theirs as well. A file that has `public_key` in
place of `key` holds no secret: it checks Ed25519 signatures and signs nothing.
"""

from __future__ import annotations

import binascii
import json
import os
import re
import secrets
import stat
from dataclasses import dataclass
from typing import Any, Final

from .canonical import jcs, parse
from .errors import ConfigError, FractalLBAError
from .secret import Secret
from .sign import ALGORITHMS, Ed25519Signer, HmacSigner, Key, Signer

__all__ = [
    "KeyFile",
    "new_key",
    "read_key_file",
    "read_token_file",
    "registration",
    "registration_text",
    "write_private",
]

KEY_BYTES: Final = 32
"""Length of a new key: an HMAC key of full strength, or an Ed25519 seed."""

FILE_BYTES_MAX: Final = 4096
"""A key file is a few hundred bytes; a longer one is another file, named by mistake."""

NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""What a server takes as a kid or a tenant (`spec/schemas/tenants.json`)."""

_MEMBERS: Final = frozenset({"kid", "alg", "tenant", "key", "public_key"})


@dataclass(frozen=True, slots=True)
class KeyFile:
    """Hold one key with its names; `key` is None where only the public part is known."""

    kid: str
    alg: str
    key: Secret | None
    public_key: bytes | None = None
    tenant: str | None = None

    def signer(self) -> Signer:
        """Return a signer with this key."""
        if self.alg == "HMAC":
            return HmacSigner(self._secret(), kid=self.kid)
        return Ed25519Signer(self._secret(), kid=self.kid)

    def verifier(self) -> Key:
        """Return what checks the signatures of this key."""
        key = self._secret() if self.alg == "HMAC" else self.public()
        return Key(self.kid, self.alg, key, self.tenant)

    def public(self) -> bytes:
        """Return the Ed25519 public key."""
        if self.public_key is not None:
            return self.public_key
        return Ed25519Signer(self._secret(), kid=self.kid).public_key

    def _secret(self) -> Secret:
        if self.key is None:
            raise ConfigError("config_invalid", f"key {self.kid!r}: it is public and cannot sign")
        return self.key

    def secret_hex(self) -> bytes:
        """Return the key in hexadecimal, for files that only their owner can read."""
        return self._secret().reveal().hex().encode()

    def text(self) -> bytes:
        """Return the file's text, which holds the secret."""
        members = {"kid": self.kid, "alg": self.alg, "key": self.secret_hex().decode()}
        if self.tenant is not None:
            members["tenant"] = self.tenant
        return jcs(members) + b"\n"


def new_key(*, alg: str, kid: str, tenant: str | None = None) -> KeyFile:
    """Draw a key from the system's random source."""
    for name, value in (("kid", kid), ("tenant", tenant)):
        if value is not None and NAME.fullmatch(value) is None:
            raise ConfigError(
                "config_invalid", f"{name}: expected 1 to 64 of A-Z a-z 0-9 . _ -, got {value!r}"
            )
    return KeyFile(kid, alg, Secret(secrets.token_bytes(KEY_BYTES)), None, tenant)


def write_private(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a new file that only its owner can read; an existing one is never replaced."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ConfigError(
            "config_invalid", f"{os.fspath(path)}: it exists; a key is never overwritten"
        ) from None
    with open(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(handle)


def read_key_file(path: str | os.PathLike[str]) -> KeyFile:
    """Read a key file. Raises ConfigError, naming the file but never its content."""
    name = os.fspath(path)
    with open(path, "rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        text = file.read(FILE_BYTES_MAX + 1)
    try:
        members = parse(text)
    except FractalLBAError:
        raise _bad(name, "not the JSON of a key file") from None
    found = _read_members(name, members)
    if found.key is not None:
        _refuse_public(name, mode, "key")
    return found


def read_token_file(path: str | os.PathLike[str]) -> Secret:
    """Read a token: the text of a file that only its owner can read, without its line end."""
    name = os.fspath(path)
    with open(path, "rb") as file:
        _refuse_public(name, stat.S_IMODE(os.fstat(file.fileno()).st_mode), "token")
        text = file.read(FILE_BYTES_MAX).strip()
    if not text or len(text.split()) != 1 or not text.isascii():
        raise _bad(name, "expected one token and nothing else")
    return Secret(text)


def _refuse_public(name: str, mode: int, what: str) -> None:
    if os.name == "posix" and mode & 0o077:
        raise _bad(name, f"others can read this {what} (mode {mode:04o}); run: chmod 600 {name}")


def _read_members(name: str, members: dict[str, Any]) -> KeyFile:
    unknown = members.keys() - _MEMBERS
    texts = all(isinstance(value, str) for value in members.values())
    if unknown or not texts or not {"kid", "alg"} <= members.keys():
        raise _bad(name, "expected the texts kid, alg, key and optionally tenant")
    if ("key" in members) == ("public_key" in members):
        raise _bad(name, "expected one of key and public_key")
    alg = members["alg"]
    if alg not in ALGORITHMS or ("public_key" in members and alg == "HMAC"):
        raise _bad(name, f"alg: expected {' or '.join(ALGORITHMS)}; HMAC has no public_key")
    key = _hex(name, members.get("key"))
    return KeyFile(
        kid=members["kid"],
        alg=alg,
        key=None if key is None else Secret(key),
        public_key=_hex(name, members.get("public_key")),
        tenant=members.get("tenant"),
    )


def _hex(name: str, text: str | None) -> bytes | None:
    try:
        return None if text is None else binascii.unhexlify(text)
    except ValueError:  # the cause would carry the text of the key
        raise _bad(name, "key: expected hexadecimal digits") from None


def _bad(name: str, what: str) -> ConfigError:
    return ConfigError("config_invalid", f"{name}: {what}")


def registration(key: KeyFile, *, secret_file: str | None = None) -> dict[str, Any]:
    """Return the key's entry in the server's tenants file; it holds no secret."""
    entry: dict[str, Any] = {"kid": key.kid, "alg": key.alg}
    if key.alg == "Ed25519":
        entry["public_key"] = key.public().hex()
    elif secret_file is not None:
        entry["secret"] = {"file": secret_file}
    else:
        entry["secret"] = {"env": "FLK_KEY_" + re.sub(r"[^A-Z0-9]", "_", key.kid.upper())}
    return entry


def registration_text(key: KeyFile, entry: dict[str, Any]) -> str:
    """Write a whole tenants file with this entry alone; strings are quoted JSON strings."""
    lines = ["version: 1", "tenants:", f"  - id: {json.dumps(key.tenant or 'TENANT')}", "    keys:"]
    for index, (name, value) in enumerate(entry.items()):
        lines.append(f"      {'  ' if index else '- '}{name}: {json.dumps(value)}")
    return "\n".join(lines)
