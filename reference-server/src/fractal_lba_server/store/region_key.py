"""The key of a region, with which it signs what it ships, and certificates between regions.

This file owns the region's key file (`flk-region-key`: 64 hex digits, the Ed25519 seed, mode
0600) and the subject name of a region, the URI `flk-region:<code>`. The authority it can make is
for people without one: its key signs a certificate per region and is then best kept elsewhere.
"""

from __future__ import annotations

import binascii
import ipaddress
import os
import re
import secrets
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fractal_lba.errors import ConfigError

REGION_URI: Final = "flk-region:"
"""A certificate of a region names it by this URI and the region's code."""

CODE: Final = re.compile(r"[a-z0-9]{3}")
"""A region's code (spec/formats.md 4.1)."""

SEED_BYTES: Final = 32
KEY_FILE_BYTES_MAX: Final = 256
"""A key file has 65 bytes; a longer one is another file, named by mistake."""

AUTHORITY_DAYS: Final = 3_650
CERTIFICATE_DAYS: Final = 397
"""Lifetime of a region's certificate; `flk-server region keys new` renews it."""


class RegionKey:
    """Sign for a region; the key itself is never shown."""

    def __init__(self, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)

    def __repr__(self) -> str:
        return f"RegionKey(***, public_key={self.public_key.hex()})"

    @property
    def public_key(self) -> bytes:
        """Give the 32 bytes to register in the file of regions."""
        return self._private.public_key().public_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        """Give the 64 bytes of the signature."""
        return self._private.sign(data)

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read a key file that nobody else can read; raises ConfigError."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise _fault(path, f"cannot be read: {error.strerror}") from None
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise _fault(path, "is no file")
            if found.st_mode & 0o077:
                raise _fault(path, "others can read it; use chmod 600, or a new key")
            text = os.read(fd, KEY_FILE_BYTES_MAX)
        finally:
            os.close(fd)
        try:
            seed = binascii.unhexlify(text.strip())
        except ValueError:
            seed = b""
        if len(seed) != SEED_BYTES:
            raise _fault(path, "expected 64 hex digits, the seed of an Ed25519 key")
        return cls(seed)


def _fault(path: Path, problem: str) -> ConfigError:
    return ConfigError("config_invalid", f"region key {path}: {problem}")


def read_region_key(path: Path) -> RegionKey:
    """Read a region's key file; raises ConfigError."""
    return RegionKey.from_file(path)


def new_region_key(path: Path) -> RegionKey:
    """Make a key and its file; raises FileExistsError rather than lose a key."""
    seed = secrets.token_bytes(SEED_BYTES)
    _write_new(path, seed.hex().encode() + b"\n", 0o600)
    return RegionKey(seed)


def new_certificate(region: str, folder: Path, *, hosts: tuple[str, ...], now: datetime) -> None:
    """Write `<region>.crt` and `<region>.pem` of the authority in `folder`.

    `ca.crt` and `ca.pem` are made if they are not there. A certificate that exists is replaced,
    with a new key: that is how it is renewed.
    """
    authority, authority_key = _authority(folder, now)
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(f"{REGION_URI}{region}")]
    names += [_host(host) for host in hosts]
    usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        _builder(f"flk region {region}", key.public_key(), now, CERTIFICATE_DAYS)
        .issuer_name(authority.subject)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    for suffix, data, mode in (
        (".pem", _private_pem(key), 0o600),
        (".crt", certificate.public_bytes(serialization.Encoding.PEM), 0o644),
    ):
        new = folder / f"{region}{suffix}.new"
        new.unlink(missing_ok=True)
        _write_new(new, data, mode)
        new.rename(folder / f"{region}{suffix}")


def _authority(folder: Path, now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate_file, key_file = folder / "ca.crt", folder / "ca.pem"
    if certificate_file.exists():
        try:
            key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
            certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
        except (OSError, ValueError) as error:
            text = f"{key_file}: the key of the authority in {certificate_file}: {error}"
            raise ConfigError("config_invalid", text) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigError("config_invalid", f"{key_file}: expected an elliptic-curve key")
        return certificate, key
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder("flk regions", key.public_key(), now, AUTHORITY_DAYS)
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        builder.issuer_name(_name("flk regions"))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    _write_new(key_file, _private_pem(key), 0o600)
    _write_new(certificate_file, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    return certificate, key


def _builder(
    name: str, key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks of regions differ
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write_new(path: Path, data: bytes, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        os.fchmod(fd, mode)
        os.write(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)


def now_utc() -> datetime:
    """Give the present, for the dates of a certificate."""
    return datetime.now(UTC)


__all__ = [
    "CODE",
    "REGION_URI",
    "RegionKey",
    "new_certificate",
    "new_region_key",
    "now_utc",
    "read_region_key",
]
