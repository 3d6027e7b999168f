"""Documents of regions for tests: three regions, an open placement and a locked one."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def public_key(number: int) -> str:
    key = Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)
    return key.public_key().public_bytes_raw().hex()


def region(code: str, number: int, **more: Any) -> dict[str, Any]:
    return {
        "code": code,
        "endpoint": f"https://{code}.example",
        "peer": f"https://{code}.example:8443",
        "public_key": public_key(number),
        **more,
    }


def document(**changes: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "regions": [region("eu1", 1), region("us1", 2), region("eu2", 3)],
        "placements": {
            "open": {"regions": ["eu1", "us1", "eu2"], "topology": "active-active"},
            "eu-only": {
                "regions": ["eu2", "eu1"],
                "topology": "warm-standby",
                "primary": "eu1",
            },
        },
        **changes,
    }
