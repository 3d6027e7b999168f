"""Derive the three names of a record: its id, its content digest, its idempotency key.

>>> derive_pcs_id("a" * 64, 1, "shard-001")
'a687cafc6f56b4da5a9854606076663877ea5e3660cd739af9147d0904665da2'
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from .canonical import canonicalize
from .errors import ValidationError

__all__ = ["check_pcs_id", "content_digest", "derive_pcs_id", "idempotency_key"]


def derive_pcs_id(merkle_root: str, epoch: int, shard_id: str) -> str:
    """Hash `merkle_root|epoch|shard_id` to 64 lower-case hex digits (spec/canonical.md 4)."""
    try:
        name = f"{merkle_root}|{epoch}|{shard_id}".encode()
    except UnicodeEncodeError:
        raise ValidationError(
            "string_surrogate", "shard_id: an unpaired surrogate", pointer="/shard_id"
        ) from None
    return sha256(name).hexdigest()


def check_pcs_id(record: Mapping[str, Any]) -> None:
    """Refuse a record whose `pcs_id` is not the derived one: `pcs_id_mismatch`.

    The record must have passed `check_record`. Signing does not ask this; `submit` does.
    """
    expected = derive_pcs_id(record["merkle_root"], record["epoch"], record["shard_id"])
    if record["pcs_id"] != expected:
        raise ValidationError(
            "pcs_id_mismatch",
            f"pcs_id: expected {expected}, got {record['pcs_id']}",
            pointer="/pcs_id",
        )


def content_digest(record: Mapping[str, Any]) -> str:
    """Digest what a record says, without how it was delivered (spec/canonical.md 5).

    One record signed with version 1, and with version 2 and any key, has one digest.
    """
    return canonicalize(record, sig_v=1).content


def idempotency_key(record: Mapping[str, Any]) -> str:
    """Give the value of `Idempotency-Key`: the content digest, constant over all attempts."""
    return content_digest(record)
