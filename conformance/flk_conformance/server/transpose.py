"""Rewrite the vectors of `http.submit` for the tenants that a server has.

A vector names tenants, keys and ids of its own. Here they are replaced by listed tenants, their
keys and a fresh id, its signatures are made again with those keys, and what was wrong with it
stays wrong: a signature that was spoiled is spoiled in the same place. The oracle judges each
rewritten request before it is sent; one that it judges otherwise than the vector is a defect of
this file and is reported as such.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

from golden.oracle import canon, server
from golden.oracle import sign as signing
from golden.oracle.base import FULL, MERKLE_ROOT, TENANT, record
from golden.oracle.fault import Fault
from golden.oracle.scanner import BYTES_MAX, Number, parse, parse_any
from golden.oracle.suites.verify import SECRET, signed

from .features import Features, Key, Tenant

OTHER_TENANT: Final = "tenant-b"
EPOCH, SHARD = 7, "shard-001"
"""What the id of the full record is derived from, beside its merkle root."""

ROLES: Final[Mapping[str, tuple[str, str, str]]] = {
    "k1": (TENANT, "HMAC", "active"),
    "k2": (TENANT, "Ed25519", "active"),
    "k3": (OTHER_TENANT, "HMAC", "active"),
    "k4": (TENANT, "Ed25519", "active"),
    "k5": (TENANT, "HMAC", "revoked"),
}
"""What the keys of the vectors are: tenant, algorithm, status."""

Judge = Callable[[dict[str, Any]], dict[str, Any]]

_SIG: Final = re.compile(r'"sig":"((?:[^"\\]|\\.)*)"')
_KID: Final = re.compile(r'"kid":"(k[1-5])"')


class Unsuited(Exception):  # noqa: N818 - a result, not an error
    """Why no listed tenant can stand for one of the vector."""


class DefectError(Exception):
    """A vector that was not rewritten rightly: the harness is wrong, not the server."""


@dataclass(frozen=True, slots=True)
class Cast:
    """Which listed tenants and keys stand for those of one vector."""

    tenants: Mapping[str, Tenant]
    keys: Mapping[str, Key]


@dataclass(frozen=True, slots=True)
class Request:
    """A rewritten vector."""

    headers: list[list[str]]
    body: bytes
    pcs_id: str
    key: Key


def transpose(case: Mapping[str, Any], features: Features, root: str) -> Request:
    """Rewrite a vector of `http.submit`; `root` is a fresh merkle root.

    Raises Unsuited, or DefectError.
    """
    args = case["args"]
    codec, text = _decode(bytes.fromhex(args["body"]))
    cast = _cast([text], args["headers"], case["expect"].get("code"), features)
    pcs_id, rewritten = _rewritten(text, cast, root)
    signer = cast.keys[_signer(text)]
    request = Request(_headers(args["headers"], cast), rewritten.encode(codec), pcs_id, signer)
    _check(case, request, features, server.submit)
    return request


def transpose_batch(case: Mapping[str, Any], features: Features, root: str) -> Request:
    """Rewrite a vector of `http.batch`: every line of it for one cast, under one root."""
    args = case["args"]
    lines = bytes.fromhex(args["body"]).split(b"\n")
    texts = [line.decode("latin-1") for line in lines]
    signed_ones = [text for text in texts if _SIG.search(text)]
    cast = _cast(signed_ones, args["headers"], None, features)
    rewritten = [
        _rewritten(text, cast, root)[1].encode("latin-1") if MERKLE_ROOT in text else line
        for text, line in zip(texts, lines, strict=True)
    ]
    key = next(iter(cast.keys.values()), features.ordinary[0].keys[0])
    request = Request(_headers(args["headers"], cast), b"\n".join(rewritten), "", key)
    _check(case, request, features, server.batch)
    return request


def _headers(headers: list[list[str]], cast: Cast) -> list[list[str]]:
    named = {name: tenant.id for name, tenant in cast.tenants.items()}
    return [[name, named.get(value, value)] for name, value in headers]


def _rewritten(text: str, cast: Cast, root: str) -> tuple[str, str]:
    """Rewrite a record; one whose size is the point keeps it, by the spaces at its end."""
    bare = text.rstrip(" ") if len(text) >= BYTES_MAX else text
    pcs_id, rewritten = _with_ids(bare, root)
    signed_again = _with_signatures(bare, _with_names(rewritten, cast), cast)
    return pcs_id, signed_again if bare is text else signed_again.ljust(len(text))


def _decode(body: bytes) -> tuple[str, str]:
    """Read a body as text in the encoding that shows its members."""
    for codec in ("utf-32-le", "utf-16-le", "utf-16-be"):
        try:
            text = body.decode(codec)
        except UnicodeDecodeError:
            continue
        if text.startswith('{"'):
            return codec, text
    return "latin-1", body.decode("latin-1")


def _signer(text: str) -> str:
    """Name the key that a vector was signed with; without one, k1 or, as it says, k4."""
    match = _KID.search(text)
    if match is not None:
        return match[1]
    found = _SIG.search(text)
    # A version-1 record without kid may carry the signature of another kind of key.
    return "k4" if found is not None and len(found[1]) == 88 and '"sig_v"' not in text else "k1"


# --- who stands for whom -------------------------------------------------------------------------


def _cast(
    texts: Sequence[str], headers: list[list[str]], code: str | None, features: Features
) -> Cast:
    kids: set[str] = set()
    signers: set[tuple[str, bool]] = set()
    kidless = False
    for text in texts:
        signer, old = _signer(text), '"sig"' in text and '"sig_v"' not in text
        signers.add((signer, old))
        kids |= {signer, *_KID.findall(text)}
        if old and '"kid"' not in text:
            kidless, kids = True, kids | {"k1"}
    two = "k3" in kids or OTHER_TENANT in " ".join([*texts, *(value for _, value in headers)])
    for mine, theirs in product(features.tenants, repeat=2):
        if two is (mine is theirs):
            continue
        tenants = {TENANT: mine, OTHER_TENANT: theirs}
        keys = {kid: _key(tenants, kid) for kid in kids}
        found = {kid: key for kid, key in keys.items() if key is not None}
        if (
            len(found) == len(keys)
            and all(_fits(tenants[ROLES[kid][0]], code, old=old) for kid, old in signers)
            and (not kidless or _default_fits(mine, theirs, headers, code))
        ):
            return Cast(tenants, found)
    raise Unsuited(f"no listed tenants have keys as {', '.join(sorted(kids))} of the vectors")


def _key(tenants: Mapping[str, Tenant], kid: str) -> Key | None:
    name, alg, status = ROLES[kid]
    return tenants[name].key(alg, status=status)


def _fits(tenant: Tenant, code: str | None, *, old: bool) -> bool:
    """Tell whether a tenant without a quota takes the version of the vector's signature."""
    if tenant.quota is not None:
        return False
    return not old or tenant.min_version == (2 if code == "sig_version_unsupported" else 1)


def _default_fits(mine: Tenant, theirs: Tenant, headers: list[list[str]], code: str | None) -> bool:
    """Tell whether a record without kid finds its default key, or none, as in the vector."""
    named = next((value for name, value in headers if name == "X-Tenant-Id"), None)
    if named == TENANT:
        default = mine.key("HMAC")
        return default is not None and mine.v1_default_kid == default.kid
    if named == OTHER_TENANT:
        return theirs.v1_default_kid is None
    return code == "kid_unknown"


# --- what is replaced ----------------------------------------------------------------------------


def _with_ids(text: str, root: str) -> tuple[str, str]:
    """Replace the merkle root, and the id that is derived from it."""
    epoch, shard = _id_members(text)
    before = canon.derive_pcs_id(MERKLE_ROOT, epoch, shard)
    if before not in text:
        epoch, shard = EPOCH, SHARD
        before = canon.derive_pcs_id(MERKLE_ROOT, EPOCH, SHARD)
    after = canon.derive_pcs_id(root, epoch, shard)
    return after, text.replace(MERKLE_ROOT, root).replace(before, after)


def _id_members(text: str) -> tuple[int, str]:
    """Give what an id is derived from; of a text that cannot be read, that of the full record."""
    try:
        members = parse_any(text.encode("latin-1"))
    except (Fault, UnicodeEncodeError):
        return EPOCH, SHARD
    if isinstance(members, dict):
        epoch, shard = members.get("epoch"), members.get("shard_id")
        if isinstance(shard, str) and isinstance(epoch, Number) and epoch.token.isdecimal():
            return int(epoch.token), shard
    return EPOCH, SHARD


def _with_names(text: str, cast: Cast) -> str:
    for name, tenant in cast.tenants.items():
        text = text.replace(f'"tenant_id":"{name}"', f'"tenant_id":"{tenant.id}"')
    for kid, key in cast.keys.items():
        text = text.replace(f'"kid":"{kid}"', f'"kid":"\x1a{key.kid}"')
    return text.replace('"kid":"\x1a', '"kid":"')


# --- what is signed again ------------------------------------------------------------------------


def _with_signatures(before: str, after: str, cast: Cast) -> str:
    """Make the signatures again: those that hold, and those that were spoiled."""
    old, new = [match[1] for match in _SIG.finditer(before)], []
    for sig in old:
        kid = _signer(before)
        own = _own_signature(before, *SECRET[kid])
        if own == sig:
            new.append(_own_signature(after, cast.keys[kid].alg, cast.keys[kid].secret) or "")
        else:
            new.append(_spoiled_again(sig, after, cast))
    texts = iter(new)
    return _SIG.sub(lambda _: f'"sig":"{next(texts)}"', after)


def _own_signature(text: str, alg: str, secret: bytes) -> str | None:
    """Sign a record as it stands; None if it cannot be signed."""
    try:
        members = parse(text.encode("latin-1"))
        _, payload, _ = canon.payload(members, 2 if "sig_v" in members else 1)
    except Fault:
        return None
    return signing.base64_text(signing.signature(alg, secret, payload))


def _spoiled_again(sig: str, after: str, cast: Cast) -> str:
    """Find the good signature that this one was made from, and do the same to the new one."""
    for good, again in _good_signatures(after, cast):
        if sig == good:
            return again
        if sig and (sig in good or good[8:-8] in sig or _differs_little(sig, good)):
            return _same_change(good, sig, again)
    return sig  # it was never made from a good one: empty, hexadecimal, one letter


def _good_signatures(after: str, cast: Cast) -> Iterator[tuple[str, str]]:
    """Give signatures of the full record under the vector's keys, old and new."""
    match = re.search(r'"merkle_root":"([0-9a-f]{64})"', after)
    root = match[1] if match else MERKLE_ROOT
    fresh = {**FULL, "merkle_root": f'"{root}"'}
    fresh["pcs_id"] = f'"{canon.derive_pcs_id(root, EPOCH, SHARD)}"'
    for kid, key in cast.keys.items():
        name = ROLES[kid][0]
        for version, named in ((2, True), (1, True), (1, False)):
            old = signed(kid, FULL, version, named=named, tenant=name)["sig"][1:-1]
            tenant = cast.tenants[name].id if version == 2 else None
            new, _ = signing.sign(
                parse(record(fresh)), key.alg, key.secret, key.kid if named else None, version,
                tenant,
            )  # fmt: skip
            yield old, new


def _differs_little(sig: str, good: str) -> bool:
    return len(sig) == len(good) and sum(a != b for a, b in zip(sig, good, strict=True)) <= 2


def _same_change(good: str, bad: str, again: str) -> str:
    """Apply to `again` what turned `good` into `bad`: text put in, cut out, or changed."""
    start = next((i for i, (a, b) in enumerate(zip(good, bad, strict=False)) if a != b), None)
    if start is None:
        start = min(len(good), len(bad))
    end = 0
    most = min(len(good), len(bad)) - start
    while end < most and good[-1 - end] == bad[-1 - end]:
        end += 1
    middle = bad[start : len(bad) - end]
    changed = again[:start] + middle + again[len(again) - end :]
    if changed == again:  # the letter put in is the one that stands there
        changed = again[:start] + ("A" if middle != "A" else "B") + again[len(again) - end :]
    return changed


# --- what the oracle says of it ------------------------------------------------------------------


def _check(case: Mapping[str, Any], request: Request, features: Features, judge: Judge) -> None:
    """Ask the oracle whether the rewritten request deserves what the vector expects."""
    tenants = [_as_vector(tenant) for tenant in features.tenants]
    try:
        found = judge({"headers": request.headers, "body": request.body.hex(), "tenants": tenants})
    except Fault as fault:
        found = {"code": fault.code}
    expect = _without_ids(case["expect"])
    if any(value != expect.get(name) for name, value in _without_ids(found).items()):
        raise DefectError(f"{case['id']}: the vector says {expect}, the oracle {found}"[:2_000])


def _without_ids(members: Mapping[str, Any]) -> dict[str, Any]:
    plain = {name: value for name, value in members.items() if name != "pcs_id"}
    if "items" in plain:
        plain["items"] = [_without_ids(item) for item in plain["items"]]
    return plain


def _as_vector(tenant: Tenant) -> dict[str, Any]:
    keys = [
        {"kid": k.kid, "alg": k.alg, "key": k.verifying.hex(), "status": k.status}
        for k in tenant.keys
    ]
    view: dict[str, Any] = {"id": tenant.id, "min_version": str(tenant.min_version), "keys": keys}
    if tenant.v1_default_kid is not None:
        view["v1_default_kid"] = tenant.v1_default_kid
    return view
