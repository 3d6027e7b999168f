"""Ed25519 of RFC 8032 in integers, cofactorless, with S < L."""

from __future__ import annotations

import hashlib

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)
Point = tuple[int, int, int, int]  # X, Y, Z, T with x = X/Z, y = Y/Z, xy = T/Z


def add(a: Point, b: Point) -> Point:
    s, t = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    u, v = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = t - s, v - u, v + u, t + s
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply(scalar: int, point: Point) -> Point:
    total = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            total = add(total, point)
        point, scalar = add(point, point), scalar >> 1
    return total


def encode(point: Point) -> bytes:
    x, y = (point[i] * pow(point[2], P - 2, P) % P for i in (0, 1))
    return (y | (x & 1) << 255).to_bytes(32, "little")


def decode(data: bytes) -> Point | None:
    # RFC 8032 5.1.3: y below p, and no sign on x = 0.
    number = int.from_bytes(data, "little")
    y, sign = number & (1 << 255) - 1, number >> 255
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


BASE = decode((4 * pow(5, P - 2, P) % P).to_bytes(32, "little")) or (0, 1, 1, 0)


def digest(*pieces: bytes) -> int:
    return int.from_bytes(hashlib.sha512(b"".join(pieces)).digest(), "little") % L


def expand(seed: bytes) -> tuple[int, bytes]:
    raw = hashlib.sha512(seed).digest()
    return int.from_bytes(raw[:32], "little") & (1 << 254) - 8 | 1 << 254, raw[32:]


def public_key(seed: bytes) -> bytes:
    return encode(multiply(expand(seed)[0], BASE))


def sign(seed: bytes, message: bytes) -> bytes:
    scalar, prefix = expand(seed)
    nonce = digest(prefix, message)
    point = encode(multiply(nonce, BASE))
    s = (nonce + digest(point, public_key(seed), message) * scalar) % L
    return point + s.to_bytes(32, "little")


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    public, s = decode(key), int.from_bytes(signature[32:], "little")
    if public is None or len(signature) != 64 or s >= L:
        return False
    negated, k = (P - public[0], public[1], 1, P - public[3]), digest(signature[:32], key, message)
    return encode(add(multiply(s, BASE), multiply(k, negated))) == signature[:32]
