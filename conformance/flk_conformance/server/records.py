"""Make signed records whose ids no earlier run has used, and say what each must be answered.

The harness signs with the oracle of `golden/`: no SDK and no code of the server is asked.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from golden.oracle import canon, schema, verdict
from golden.oracle import sign as signing
from golden.oracle.base import FULL, record
from golden.oracle.fault import Fault
from golden.oracle.jcs import form
from golden.oracle.scanner import parse

from .features import Key

Tokens = dict[str, str]
"""Members of a record as JSON tokens."""

Changes = Mapping[str, str]
NONE: Final[Changes] = MappingProxyType({})

OFF_D_HAT: Final[Changes] = {"D_hat": "1"}
"""A claim outside the tolerance: recorded, not accepted, 202."""

OFF_REGIME: Final[Changes] = {"regime": '"sticky"'}
"""A claim of another regime: recorded, accepted, escalated, 202."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A signed record as it is sent, and what is true of it."""

    body: bytes
    tokens: Tokens
    pcs_id: str
    content: str
    key: Key
    version: int
    verdict: Mapping[str, str]

    @property
    def sig(self) -> str:
        """Give the text of the signature."""
        return self.tokens["sig"][1:-1]

    def altered(self, **changes: str | None) -> bytes:
        """Write the record with members replaced, added or (None) left out, the rest as signed."""
        return record(self.tokens, **changes)


UNSIGNABLE: Final = (Fault, ArithmeticError, ValueError)
"""What is raised for members that nobody can sign, or whose verdict lies on a tie."""


def text_of(tokens: Tokens) -> bytes:
    """Write members as JSON text."""
    return record(tokens)


class Records:
    """Make records for one case; ids follow from the names of run and case alone."""

    def __init__(self, name: str) -> None:
        self._name = name.encode()
        self._numbers = itertools.count(1)

    def root(self) -> str:
        """Give a merkle root that no other record has."""
        number = next(self._numbers)
        return hashlib.sha256(self._name + b"|%d" % number).hexdigest()

    def members(self, **changes: str) -> Tokens:
        """Give the members of a new unsigned record."""
        tokens = {**FULL, "merkle_root": f'"{self.root()}"', **changes}
        if "pcs_id" not in changes:
            tokens["pcs_id"] = f'"{pcs_id_of(tokens)}"'
        return tokens

    def fresh(self, key: Key, changes: Changes = NONE, *, version: int = 2) -> Submission:
        """Make and sign a new record."""
        return signed(self.members(**changes), key, version=version)


def pcs_id_of(tokens: Tokens) -> str:
    """Derive the id of a record."""
    shard = parse(record({"shard_id": tokens["shard_id"]}))["shard_id"]
    if not isinstance(shard, str):
        raise Fault("member_type", "/shard_id")
    return canon.derive_pcs_id(tokens["merkle_root"][1:-1], int(tokens["epoch"]), shard)


def signed(
    tokens: Tokens,
    key: Key,
    *,
    version: int = 2,
    named: bool = True,
    tenant: str | None = None,
) -> Submission:
    """Sign members; `tenant` is what a version-2 record says of itself, the key's by default."""
    said = (tenant or key.tenant) if version == 2 else None
    members = parse(record(tokens))
    kid = key.kid if named else None
    _, sent = signing.sign(members, key.alg, key.secret, kid, version, said)
    transmitted = parse(sent)
    carried = {name: form(node) for name, node in transmitted.items()}
    eight = canon.signed(transmitted)
    scales, counts = schema.check_scales(members)
    regime = members["regime"]
    assert isinstance(regime, str)
    found = verdict.judge(
        scales, [counts[s] for s in scales], schema.check_direction(members), eight.nanos, regime
    )
    content = canon.content_digest(transmitted, eight.nanos)
    return Submission(sent, carried, eight.pcs_id, content, key, version, found)


def resigned(
    submission: Submission, key: Key, changes: Changes = NONE, *, version: int = 2
) -> Submission:
    """Sign the members of a record once more: another key or version, or other members."""
    plain = {name: token for name, token in submission.tokens.items() if name not in _CARRIED}
    return signed({**plain, **changes}, key, version=version)


_CARRIED = ("sig", "sig_v", "alg", "kid", "tenant_id")
