"""Frames are found by number behind damage, and only whole ones."""

from __future__ import annotations

from fractal_lba_server.core.segment import encode_frame, frame_at_number


def test_a_whole_frame_is_found_behind_damage() -> None:
    damage = b"\xff" * 37
    frame = encode_frame(7, 1, b"{}", b"body")
    found = frame_at_number(damage + frame, 0, 7)
    assert found is not None
    assert (found.seq, found.body) == (7, b"body")
    assert frame_at_number(damage + frame, 0, 8) is None


def test_a_damaged_frame_of_that_number_is_passed_over() -> None:
    torn = bytearray(encode_frame(7, 1, b"{}", b"body"))
    torn[-1] ^= 1
    whole = encode_frame(7, 2, b"{}", b"other")
    found = frame_at_number(b"\xff" * 9 + bytes(torn) + whole, 0, 7)
    assert found is not None
    assert found.body == b"other"
