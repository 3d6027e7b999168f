"""Reads the policy file, and holds it against the tenants."""

from __future__ import annotations

from pathlib import Path

from .core.faults import DocumentError
from .core.policy import PolicyBook, ttl_faults
from .core.tenants import Directory
from .schema_faults import schema_faults
from .yaml_document import read_document


def load_policies(path: Path | None) -> PolicyBook:
    """Read the policy file; without one, every tenant has the default policy."""
    if path is None:
        return PolicyBook()
    document = read_document(path)
    faults = schema_faults("policy", document.value)
    if faults:
        raise document.error(faults)
    return PolicyBook.from_document(document.value)


def check_ttl(directory: Directory, policies: PolicyBook) -> None:
    """Refuse to forget ids of a tenant whose `sent_at` may be unsigned."""
    versions = {tenant.id: tenant.min_version for tenant in directory.tenants.values()}
    faults = ttl_faults(policies, versions)
    if faults:
        raise DocumentError(faults)
