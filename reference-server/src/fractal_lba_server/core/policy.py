"""Hold the parameters of verification as versioned values: one default, and per tenant overrides.

This file owns `policy_version`: the first 16 hex digits of the SHA-256 of the RFC 8785 form of a
whole policy, every parameter written out. Two policies with the same numbers are one version,
whoever wrote them and in whichever order; a replay finds the numbers by the version.

Names, bounds and defaults of the parameters stand in `spec/schemas/policy.json`. What is read
here from a policy file has passed that schema; what was kept for replay is read strictly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Self

from fractal_lba.canonical import jcs, nano, parse
from fractal_lba.errors import ValidationError
from fractal_lba.estimate import DEFAULT_PARAMETERS, Parameters

from .faults import DocumentError, Fault

VERSION_DIGITS: Final = 16
"""Hex digits of a `policy_version`."""

FOREVER: Final = "forever"
"""The `dedup_ttl` of ids that are never forgotten; other values are days, such as `14d`."""

DAY_MS: Final = 86_400_000

_ONE_NANO: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Policy:
    """Hold one whole policy. The members in billionths are what verification compares with."""

    parameters: Parameters = DEFAULT_PARAMETERS
    dedup_ttl_days: int | None = None  # None: for ever
    version: str = field(init=False)
    tol_D_nano: int = field(init=False)
    tol_budget_nano: int = field(init=False)
    coh_max_nano: int = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha256(self.to_bytes()).hexdigest()
        derived: dict[str, str | int] = {
            "version": digest[:VERSION_DIGITS],
            "tol_D_nano": nano(self.parameters.tol_D),
            "tol_budget_nano": nano(self.parameters.tol_budget),
            "coh_max_nano": _ONE_NANO + nano(self.parameters.tol_coh),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    @property
    def dedup_ttl_ms(self) -> int | None:
        """Give how long an id stays taken, or None for ever."""
        return None if self.dedup_ttl_days is None else self.dedup_ttl_days * DAY_MS

    def to_document(self) -> dict[str, Any]:
        """Write every parameter out: `spec/schemas/policy.json#/$defs/effective`."""
        ttl = FOREVER if self.dedup_ttl_days is None else f"{self.dedup_ttl_days}d"
        return {**asdict(self.parameters), "dedup_ttl": ttl}

    def to_bytes(self) -> bytes:
        """Give the RFC 8785 bytes that are hashed, and kept for replay."""
        return jcs(self.to_document())

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote, and nothing else; DocumentError says what differs."""
        try:
            document = parse(data)
        except ValidationError as error:
            raise _kept_error("", error.message) from None
        differing = document.keys() ^ _NAMES
        if differing:
            raise _kept_error(f"/{min(differing)}", "missing, or not a parameter of a policy")
        try:
            policy = cls.from_parameters(document)
        except (ValidationError, TypeError, ValueError, OverflowError):
            raise _kept_error("", "a value is not one of its parameter") from None
        if policy.to_bytes() != data:
            raise _kept_error("", "not the RFC 8785 form of a policy")
        return policy

    @classmethod
    def from_parameters(cls, chosen: Mapping[str, Any]) -> Self:
        """Build a policy from checked parameters; absent ones have their defaults."""
        numbers = {name: float(value) for name, value in chosen.items() if name != "dedup_ttl"}
        ttl = chosen.get("dedup_ttl", FOREVER)
        return cls(Parameters(**numbers), None if ttl == FOREVER else int(ttl[:-1]))


_NAMES: Final = frozenset(item.name for item in fields(Parameters)) | {"dedup_ttl"}


def _kept_error(pointer: str, problem: str) -> DocumentError:
    return DocumentError([Fault(pointer, problem, "restore the file that the server wrote")])


@dataclass(frozen=True, slots=True)
class PolicyBook:
    """Hold the policy of every tenant; those without overrides share the default."""

    default: Policy = Policy()
    overridden: Mapping[str, Policy] = field(default_factory=dict)

    def for_tenant(self, tenant: str) -> Policy:
        """Give the policy under which new records of this tenant are verified."""
        return self.overridden.get(tenant, self.default)

    def policies(self) -> list[Policy]:
        """List each policy once, in order of version, for those who keep them for replay."""
        book = (self.default, *self.overridden.values())
        by_version = {policy.version: policy for policy in book}
        return [by_version[version] for version in sorted(by_version)]

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Build the book of a policy file that has passed `spec/schemas/policy.json`."""
        base = document.get("default", {})
        return cls(
            Policy.from_parameters(base),
            {
                tenant: Policy.from_parameters({**base, **overrides})
                for tenant, overrides in document.get("tenants", {}).items()
            },
        )


def ttl_faults(book: PolicyBook, min_versions: Mapping[str, int]) -> list[Fault]:
    """Refuse a time limit for a tenant that takes version 1, whose `sent_at` nobody signed.

    `min_versions` has every tenant of the tenants file. A captured record of version 1 would be
    new again once its id is forgotten.
    """
    return [
        Fault(
            f"/tenants/{tenant}/dedup_ttl",
            f"a time limit, but the tenant takes signature version {min_version}",
            "set signing.min_version: 2 for the tenant, or dedup_ttl: forever",
        )
        for tenant, min_version in sorted(min_versions.items())
        if min_version < 2 and book.for_tenant(tenant).dedup_ttl_days is not None
    ]
