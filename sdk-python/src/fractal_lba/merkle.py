"""Build the RFC 6962 Merkle tree hash leaf by leaf, in logarithmic memory.

The root over no leaf is SHA-256 of nothing:

    >>> root = MerkleRoot()
    >>> root.digest().hex()[:16]
    'e3b0c44298fc1c14'
"""

from __future__ import annotations

from hashlib import sha256


def leaf_hash(data: bytes) -> bytes:
    """Hash one leaf: SHA-256 of 0x00 and the data (RFC 6962 section 2.1)."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash an inner node: SHA-256 of 0x01 and both children."""
    return sha256(b"\x01" + left + right).digest()


class MerkleRoot:
    """Holds the roots of the complete subtrees to the left, largest first."""

    __slots__ = ("_peaks", "size")

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[bytes] = []

    def __copy__(self) -> MerkleRoot:
        """Give a tree of the same leaves that grows by itself."""
        other = MerkleRoot()
        other.size, other._peaks = self.size, self._peaks.copy()
        return other

    def add(self, leaf: bytes) -> None:
        """Append a leaf."""
        peak = leaf_hash(leaf)
        carry = self.size
        while carry & 1:
            peak = node_hash(self._peaks.pop(), peak)
            carry >>= 1
        self._peaks.append(peak)
        self.size += 1

    def digest(self) -> bytes:
        """Give the root over all leaves so far; of none, SHA-256 of nothing."""
        if not self._peaks:
            return sha256(b"").digest()
        root = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            root = node_hash(peak, root)
        return root
