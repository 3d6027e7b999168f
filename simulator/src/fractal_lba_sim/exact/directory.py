"""Make the directory of a run's tenants: their keys, placements, levels and bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fractal_lba_server.core.tenants import OPEN_PLACEMENT, Directory, KeyRecord, Tenant

from .records import kid_of, secret_of


def directory_of_tenants(
    tenants: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], regions: int
) -> Directory:
    """Build the directory that every region begins with."""
    rows = [_tenant(one, settings if regions > 1 else {}) for one in tenants]
    return Directory(tenants=rows, keys=[key_record(one.id, 1) for one in rows])


def key_record(tenant: str, generation: int, status: str = "active") -> KeyRecord:
    """Register one key of a tenant."""
    kid, secret = kid_of(tenant, generation), secret_of(tenant, generation)
    return KeyRecord(kid, tenant, "HMAC", secret, status, None, None)


def _tenant(row: Mapping[str, Any], settings: Mapping[str, Any]) -> Tenant:
    return Tenant(
        id=row["id"],
        min_version=2,
        v1_default_kid=None,
        quota=None,
        key_ids=(kid_of(row["id"]),),
        placement=row.get("placement", OPEN_PLACEMENT),
        on_partition=row.get("on_partition", settings.get("on_partition", "accept")),
        ack_level=row.get("level", settings.get("level", "durable")),
        rpo_ms=row.get("rpo_ms", settings.get("rpo_ms")),
    )


def with_keys(directory: Directory, tenant: str, keys: Sequence[KeyRecord]) -> Directory:
    """Give a directory in which a tenant has other keys."""
    others = [record for record in directory.keys.values() if record.tenant != tenant]
    return Directory(tenants=directory.tenants.values(), keys=[*others, *keys])
