"""Own who is who: which key, tenant and quota a request belongs to, and who may read.

The invariant of this file: a directory never changes, every key id and every key belongs to one
tenant only, and a key is judged at the time that is passed in. The algorithm and the tenant of a
record come from its key record, never from the message. (spec/canonical.md 3.10)

`faults_of` says what is wrong in a document that its schema lets pass; `directory_of` turns a
document without faults into a `Directory`. The secrets come in beside the document, by the JSON
pointer of their key, because reading them is not the business of a pure module.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, NoReturn

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fractal_lba.canonical import jcs
from fractal_lba.errors import SignatureError

from .edwards import PUBLIC_KEY_BYTES, key_problem
from .faults import Fault

HMAC_KEY_BYTES_MIN = 32
"""A shorter HMAC key is refused at registration: it could be guessed. (spec/canonical.md 3.6)"""

TOKEN_CHARS = 43
"""A read token is 32 random bytes in base64url without padding; other text is hashed by nobody."""

MIN_VERSION_DEFAULT = 2
"""A tenant takes version-1 signatures only where its `signing.min_version: 1` is written."""

OPEN_PLACEMENT = "open"
"""The placement of a tenant that is not locked to regions."""

_UNIX_START = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Quota:
    """Bound a tenant's records: `per_s` in the long run, `burst` at once. Zero allows none."""

    per_s: float
    burst: int


@dataclass(frozen=True, slots=True, repr=False)
class KeyRecord:
    """Hold one registered key. Times are Unix milliseconds, both ends included.

    `active` and `verify_only` keys verify new records (`verify_only` asks producers to sign with
    another key by now); `revoked` ones only verify what is replayed from the log.
    """

    kid: str
    tenant: str
    alg: str
    key: bytes
    status: str
    not_before_ms: int | None
    not_after_ms: int | None

    def __repr__(self) -> str:
        return (
            f"KeyRecord(kid={self.kid!r}, tenant={self.tenant!r}, alg={self.alg!r}, key=***, "
            f"status={self.status!r}, not_before_ms={self.not_before_ms}, "
            f"not_after_ms={self.not_after_ms})"
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key record is not pickled: it holds a key")


@dataclass(frozen=True, slots=True)
class ReadToken:
    """Hold one read token of a tenant by its SHA-256. `not_after_ms` is included."""

    id: str
    tenant: str
    sha256: bytes
    not_after_ms: int | None


@dataclass(frozen=True, slots=True)
class Tenant:
    """Hold what is agreed with one tenant; `quota` None is no bound."""

    id: str
    min_version: int
    v1_default_kid: str | None
    quota: Quota | None
    key_ids: tuple[str, ...]
    placement: str = OPEN_PLACEMENT
    on_partition: str = "accept"
    """Whether a region that hears of no other one takes records: `accept` or `refuse`."""
    ack_level: str = "durable"
    """The level of an answer to a request that asks for none."""
    rpo_ms: int | None = None
    """How far replication may lag behind before writes are slowed and refused; None: any."""


class Directory:
    """Answer whose a key id or a token is. Immutable: a reload builds another."""

    __slots__ = ("_keys", "_tokens", "keys", "tenants", "tokens")

    def __init__(
        self,
        *,
        tenants: Iterable[Tenant] = (),
        keys: Iterable[KeyRecord] = (),
        tokens: Iterable[ReadToken] = (),
    ) -> None:
        self._keys = {record.kid: record for record in keys}
        self._tokens = {token.sha256: token for token in tokens}
        self.keys: Mapping[str, KeyRecord] = MappingProxyType(self._keys)
        self.tenants: Mapping[str, Tenant] = MappingProxyType({one.id: one for one in tenants})
        self.tokens: tuple[ReadToken, ...] = tuple(self._tokens.values())

    def key_for(self, *, kid: str | None, tenant_header: str | None, now_ms: int) -> KeyRecord:
        """Return the one key that must have signed a record; keys are never tried in turn.

        A record without `kid` has the `v1_default_kid` of the tenant that the header names. With
        a `kid` the header plays no part here: that it names another tenant is `tenant_mismatch`,
        which is said only to a caller whose signature holds.
        """
        record = self._keys.get(kid) if kid is not None else self._default_key(tenant_header)
        if record is None:
            raise SignatureError("kid_unknown", _unknown_text(kid, tenant_header))
        if (
            record.status == "revoked"
            or (record.not_before_ms is not None and now_ms < record.not_before_ms)
            or (record.not_after_ms is not None and now_ms > record.not_after_ms)
        ):
            raise SignatureError("key_inactive", _inactive_text(record))
        return record

    def tenant_of_token(self, token: str, now_ms: int) -> Tenant | None:
        """Return the tenant that a read token belongs to, or None if it is nobody's now.

        The table is searched by digest, which tells a caller nothing about any token: a digest
        near a registered one cannot be aimed at. The digests are then compared in constant time.
        """
        if len(token) != TOKEN_CHARS or not token.isascii():
            return None
        digest = hashlib.sha256(token.encode()).digest()
        known = self._tokens.get(digest)
        if known is None or not hmac.compare_digest(known.sha256, digest):
            return None
        if known.not_after_ms is not None and now_ms > known.not_after_ms:
            return None
        return self.tenants[known.tenant]

    def describe(self, tenant: Tenant, *, policy_version: str) -> bytes:
        """Say what a tenant may know of itself, as JSON (spec/schemas/tenant.json); no secret."""
        quota = tenant.quota
        view: dict[str, Any] = {
            "tenant": tenant.id,
            "keys": [_key_view(self._keys[kid]) for kid in tenant.key_ids],
            "signing": {"min_version": tenant.min_version},
            "quota": None if quota is None else {"per_s": quota.per_s, "burst": quota.burst},
            "policy_version": policy_version,
        }
        if tenant.v1_default_kid is not None:
            view["v1_default_kid"] = tenant.v1_default_kid
        return jcs(view)

    def _default_key(self, tenant_header: str | None) -> KeyRecord | None:
        tenant = None if tenant_header is None else self.tenants.get(tenant_header)
        if tenant is None or tenant.v1_default_kid is None:
            return None
        return self._keys[tenant.v1_default_kid]


def _unknown_text(kid: str | None, tenant_header: str | None) -> str:
    if kid is not None:
        return f'kid: no key "{kid}" is registered'
    if tenant_header is None:
        return "kid: missing, and no X-Tenant-Id header names the tenant whose default key to use"
    return "kid: missing, and the tenant of X-Tenant-Id has no default key"


def _inactive_text(record: KeyRecord) -> str:
    why = "revoked" if record.status == "revoked" else "outside its time window"
    return f'kid: the key "{record.kid}" is {why}'


def directory_of(document: Mapping[str, Any], secrets: Mapping[str, bytes]) -> Directory:
    """Build the directory of a document in which `faults_of` finds nothing."""
    tenants: list[Tenant] = []
    keys: list[KeyRecord] = []
    tokens: list[ReadToken] = []
    for where, entry in _entries("/tenants", document["tenants"]):
        name = entry["id"]
        for pointer, key in _entries(f"{where}/keys", entry["keys"]):
            keys.append(_key_record(name, key, _key_bytes(pointer, key, secrets)))
        for token in entry.get("read_tokens", ()):
            digest = bytes.fromhex(token["sha256"])
            tokens.append(ReadToken(token["id"], name, digest, _time_ms(token, "not_after")))
        quota = entry.get("quota")
        ack = entry.get("ack", {})
        tenants.append(
            Tenant(
                id=name,
                min_version=entry.get("signing", {}).get("min_version", MIN_VERSION_DEFAULT),
                v1_default_kid=entry.get("v1_default_kid"),
                quota=None if quota is None else Quota(quota["per_s"], int(quota["burst"])),
                key_ids=tuple(key["kid"] for key in entry["keys"]),
                placement=entry.get("placement", OPEN_PLACEMENT),
                on_partition=entry.get("on_partition", "accept"),
                ack_level=ack.get("level", "durable"),
                rpo_ms=ack.get("rpo_ms"),
            )
        )
    return Directory(tenants=tenants, keys=keys, tokens=tokens)


def _key_record(tenant: str, key: Mapping[str, Any], key_bytes: bytes | None) -> KeyRecord:
    assert key_bytes is not None  # a secret that could not be read is a fault
    return KeyRecord(
        kid=key["kid"],
        tenant=tenant,
        alg=key["alg"],
        key=key_bytes,
        status=key.get("status", "active"),
        not_before_ms=_time_ms(key, "not_before"),
        not_after_ms=_time_ms(key, "not_after"),
    )


def faults_of(
    document: Mapping[str, Any],
    secrets: Mapping[str, bytes],
    *,
    kids_in_use: Collection[str] = (),
) -> list[Fault]:
    """Return what is wrong in a document that its schema lets pass.

    `secrets` holds the HMAC keys by the pointer of their entry; one that is absent could not be
    read, which is the reader's fault to report. `kids_in_use` are the kids that the log names.
    """
    tenants = list(_entries("/tenants", document["tenants"]))
    keys = [
        found for where, tenant in tenants for found in _entries(f"{where}/keys", tenant["keys"])
    ]
    tokens = [
        found
        for where, tenant in tenants
        for found in _entries(f"{where}/read_tokens", tenant.get("read_tokens", ()))
    ]
    return [
        *_twice(tenants, "id", "give each tenant its own id"),
        *_twice(keys, "kid", "kids are unique over all tenants: give each key its own"),
        *_twice(
            tokens, "sha256", "a token belongs to one tenant: make another with tenants token new"
        ),
        *(fault for where, tenant in tenants for fault in _default_kid_faults(where, tenant)),
        *(fault for where, entry in [*keys, *tokens] for fault in _time_faults(where, entry)),
        *_key_faults(keys, secrets),
        *_removed_kid_faults(keys, kids_in_use),
    ]


_Entry = tuple[str, Mapping[str, Any]]


def _entries(pointer: str, values: Iterable[Mapping[str, Any]]) -> Iterator[_Entry]:
    """Pair each entry of a list with its JSON pointer."""
    return ((f"{pointer}/{index}", value) for index, value in enumerate(values))


def _twice(entries: Iterable[_Entry], member: str, fix: str) -> Iterator[Fault]:
    first: dict[str, str] = {}
    for pointer, entry in entries:
        seen = first.setdefault(entry[member], pointer)
        if seen != pointer:
            yield Fault(f"{pointer}/{member}", f"the same {member} as {seen}/{member}", fix)


def _default_kid_faults(pointer: str, tenant: Mapping[str, Any]) -> Iterator[Fault]:
    kid = tenant.get("v1_default_kid")
    if kid is not None and all(key["kid"] != kid for key in tenant["keys"]):
        kids = ", ".join(key["kid"] for key in tenant["keys"])
        yield Fault(
            f"{pointer}/v1_default_kid", "not a key of this tenant", f"name one of its keys: {kids}"
        )


def _time_faults(pointer: str, entry: Mapping[str, Any]) -> Iterator[Fault]:
    times: dict[str, int | None] = {}
    for member in ("not_before", "not_after"):
        try:
            times[member] = _time_ms(entry, member)
        except ValueError:
            yield Fault(f"{pointer}/{member}", "no such day in the calendar", "write a real date")
            return
    first, last = times["not_before"], times["not_after"]
    if first is not None and last is not None and first > last:
        yield Fault(f"{pointer}/not_after", "before not_before", "exchange the two")


def _time_ms(entry: Mapping[str, Any], member: str) -> int | None:
    """Read a time that the schema has checked; raises ValueError for 30 February."""
    text = entry.get(member)
    if text is None:
        return None
    return (datetime.fromisoformat(text) - _UNIX_START) // timedelta(milliseconds=1)


def _key_bytes(pointer: str, key: Mapping[str, Any], secrets: Mapping[str, bytes]) -> bytes | None:
    if key["alg"] == "HMAC":
        return secrets.get(pointer)
    return bytes.fromhex(key["public_key"])


def _key_faults(keys: Iterable[_Entry], secrets: Mapping[str, bytes]) -> Iterator[Fault]:
    """Judge the bytes of every key, alone and against all others."""
    owners: dict[bytes, str] = {}
    for pointer, key in keys:
        key_bytes = _key_bytes(pointer, key, secrets)
        if key_bytes is None:
            continue
        member = "secret" if key["alg"] == "HMAC" else "public_key"
        problem = _hmac_problem(key_bytes) if key["alg"] == "HMAC" else key_problem(key_bytes)
        if problem is not None:
            yield Fault(f"{pointer}/{member}", problem, "make one with flk-server tenants key new")
        for form in _forms(key["alg"], key_bytes):
            seen = owners.setdefault(form, pointer)
            if seen != pointer:
                yield Fault(
                    f"{pointer}/{member}",
                    f"the same key as {seen}",
                    "one key serves one kid and one algorithm: make another",
                )
                break


def _hmac_problem(key: bytes) -> str | None:
    if len(key) >= HMAC_KEY_BYTES_MIN:
        return None
    return f"expected at least {HMAC_KEY_BYTES_MIN} bytes, got {len(key)}"


def _forms(alg: str, key: bytes) -> Iterator[bytes]:
    """Yield the bytes under which a key must be the only one.

    An HMAC key that is also the seed of a registered Ed25519 key would let the server sign for
    that key, so it counts as its public key too.
    """
    yield key
    if alg == "HMAC" and len(key) == PUBLIC_KEY_BYTES:
        yield Ed25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw()


def _removed_kid_faults(keys: Iterable[_Entry], kids_in_use: Collection[str]) -> Iterator[Fault]:
    present = {key["kid"] for _, key in keys}
    for kid in sorted(set(kids_in_use) - present):
        yield Fault(
            "/tenants",
            f'the key "{kid}" is gone, but records in the log were signed with it',
            "put it back with status: revoked",
        )


def _key_view(record: KeyRecord) -> dict[str, Any]:
    view: dict[str, Any] = {"kid": record.kid, "alg": record.alg, "status": record.status}
    if record.not_before_ms is not None:
        view["not_before"] = _time_text(record.not_before_ms)
    if record.not_after_ms is not None:
        view["not_after"] = _time_text(record.not_after_ms)
    return view


def _time_text(time_ms: int) -> str:
    return (_UNIX_START + timedelta(milliseconds=time_ms)).isoformat().replace("+00:00", "Z")
