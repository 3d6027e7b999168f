"""Say whether 32 bytes are an Ed25519 public key that can be trusted to name one signer.

Under a point of small order a signature can be made that holds for many messages without any
secret, and text that is not a point, or not the shortest way to write one, gives two spellings
of a key. All three are refused when a key is registered. (RFC 8032 5.1.3; plain integers, a few
hundred microseconds a key, so it has no place on the path of a record.)
"""

from __future__ import annotations

PUBLIC_KEY_BYTES = 32

_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P
_SQRT_MINUS_1 = pow(2, (_P - 1) // 4, _P)

_Point = tuple[int, int]


def key_problem(key: bytes) -> str | None:
    """Return what is wrong with a public key, or None."""
    if len(key) != PUBLIC_KEY_BYTES:
        return f"expected {PUBLIC_KEY_BYTES} bytes, got {len(key)}"
    point = _decode(key)
    if point is None:
        return "the bytes are not the one encoding of a point of the curve"
    for _ in range(3):
        point = _double(point)
    if point == (0, 1):
        return "the point has a small order: anybody can sign under it"
    return None


def _decode(key: bytes) -> _Point | None:
    """Decode a point; None where it is no point or not written in the one canonical way."""
    y = int.from_bytes(key, "little")
    odd = y >> 255
    y &= (1 << 255) - 1
    if y >= _P:
        return None
    u = (y * y - 1) % _P
    v = (_D * y * y + 1) % _P
    x = u * pow(v, 3, _P) * pow(u * pow(v, 7, _P), (_P - 5) // 8, _P) % _P
    if (v * x * x + u) % _P == 0:
        x = x * _SQRT_MINUS_1 % _P
    if (v * x * x - u) % _P != 0 or (x == 0 and odd):
        return None
    return (_P - x if x & 1 != odd else x), y


def _double(point: _Point) -> _Point:
    """Add a point to itself (RFC 8032 5.1.4, affine; the denominators never vanish)."""
    x, y = point
    product = _D * x * x * y * y
    return (
        2 * x * y * pow(1 + product, -1, _P) % _P,
        (y * y + x * x) * pow(1 - product, -1, _P) % _P,
    )
