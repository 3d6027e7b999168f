"""CRC-32 (IEEE) and CRC32C (Castagnoli), bit by bit."""

from __future__ import annotations

POLYNOMIAL = {"crc32": 0xEDB88320, "crc32c": 0x82F63B78}


def crc(name: str, data: bytes) -> int:
    polynomial, value = POLYNOMIAL[name], 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (polynomial if value & 1 else 0)
    return value ^ 0xFFFFFFFF
