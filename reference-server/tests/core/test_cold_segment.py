"""The bytes of cold objects: what is written is read, and nothing else is."""

from __future__ import annotations

import hashlib
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fractal_lba_server.core import cold_segment as cold
from fractal_lba_server.core.first_write import Origin, Stored

ORIGIN = Origin("eu1", "open", 3)


def entry(number: int = 1, *, tenant: str = "acme", record: bytes = b"") -> cold.Entry:
    """Make a payload."""
    pcs_id = hashlib.sha256(b"%d" % number).hexdigest()
    stored = Stored(number, "c" * 64, 200, b'{"accepted":true}', ORIGIN, 7 << 60)
    return cold.Entry((tenant, pcs_id), stored, record)


def an_object(*entries: cold.Entry) -> bytes:
    """Write entries into one object."""
    written = [cold.write_entry(each) for each in entries]
    return cold.write_object(entries[0].key[0], written, [each.key[1] for each in entries])


@settings(max_examples=60, deadline=None)
@given(
    outcome=st.binary(max_size=400),
    record=st.binary(max_size=2_000),
    seq=st.integers(1, 2**53 - 1),
    stamp=st.integers(0, 2**64 - 1),
    status=st.sampled_from([200, 202]),
)
def test_entry_that_was_written_is_read(
    outcome: bytes, record: bytes, seq: int, stamp: int, status: int
) -> None:
    written = entry(record=record)
    stored = written.stored._replace(outcome=outcome, seq=seq, hlc=stamp, status=status)
    written = written._replace(stored=stored)
    data = cold.write_entry(written)
    assert cold.read_entry(data, hashlib.sha256(data).digest()) == written


def test_object_gives_its_entries_and_their_places() -> None:
    entries = [entry(n, record=b"r" * n) for n in range(1, 30)]
    data = an_object(*entries)
    found = cold.read_object(data)
    assert [each for each, _ in found] == entries
    assert [place for _, place in found] == cold.places([cold.write_entry(e) for e in entries])
    for each, place in found:
        part = data[place.offset : place.offset + place.length]
        assert cold.read_entry(part, place.sha256) == each
    name = cold.object_name("open", "acme", data)
    assert name == f"open/t-acme/{hashlib.sha256(data).hexdigest()}.cold"
    assert cold.digest_of_name(name) == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("name", ["open/t-acme/abc.cold", "a" * 64, "a" * 64 + ".wal"])
def test_other_names_are_no_objects(name: str) -> None:
    with pytest.raises(ValueError, match="not the name"):
        cold.digest_of_name(name)


def test_every_changed_byte_of_an_object_is_found() -> None:
    data = an_object(entry(1), entry(2))
    for place in range(len(data)):
        wrong = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises(cold.ColdCorruptError):
            cold.read_object(wrong)


def test_every_shorter_object_is_refused() -> None:
    data = an_object(entry(1))
    for length in range(len(data)):
        with pytest.raises(cold.ColdCorruptError):
            cold.read_object(data[:length])


def packed(raw: bytes, *, length: int | None = None, tail: bytes = b"") -> bytes:
    """Pack any raw bytes as an entry."""
    packer = zlib.compressobj(zdict=cold.DICTIONARY)
    stream = packer.compress(raw) + packer.flush()
    return struct.pack(">I", len(raw) if length is None else length) + stream + tail


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "shorter than its length"),
        (struct.pack(">I", 2_000_000) + b"x", "above"),
        (struct.pack(">I", 4) + b"xxxx", "does not unpack"),
        (packed(b"abcd", length=3), "3 bytes that it names"),
        (packed(b"abcd", length=5), "5 bytes that it names"),
        (packed(b"abcd", tail=b"x"), "bytes that it names"),
        (packed(b"\0" * 900_000, length=10), "10 bytes that it names"),
        (packed(b"abcd"), "holds no facts"),
        (packed(struct.pack(">II", 2, 0) + b"{}"), "holds no facts"),
        (packed(struct.pack(">II", 2, 9) + b"{}"), "shorter than its lengths"),
        (packed(struct.pack(">II", 2, 0) + b"[]"), "holds no facts"),
    ],
)
def test_bytes_that_are_no_entry_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(cold.ColdCorruptError, match=message):
        cold.read_entry(data)


def test_entry_that_differs_from_its_reference_is_refused() -> None:
    with pytest.raises(cold.ColdCorruptError, match="SHA-256"):
        cold.read_entry(cold.write_entry(entry()), bytes(32))


def sealed(body: bytes, tenant: bytes, *rows: tuple[bytes, int, int, bytes]) -> bytes:
    """Put any index and a footer with a right checksum behind entries."""
    index = tenant + b"".join(struct.pack(">32sII32s", *row) for row in rows)
    digest = hashlib.sha256(body + index).digest()
    foot = struct.pack(">III32s8s", len(body), len(tenant), len(rows), digest, cold.END)
    return body + index + foot


def test_index_that_does_not_name_every_entry_is_refused() -> None:
    good = cold.write_entry(entry(1))
    body, digest = cold.MAGIC + good, hashlib.sha256(good).digest()
    raw = bytes.fromhex(entry(1).key[1])
    row = (raw, 8, len(good), digest)
    assert cold.read_object(sealed(body, b"acme", row)) == cold.read_object(an_object(entry(1)))
    for wrong in (
        sealed(body, b"acme"),
        sealed(body, b"acme", row, row),
        sealed(body, b"beta", row),
        sealed(body, b"\xff", row),
        sealed(body, b"acme", (bytes(32), 8, len(good), digest)),
        sealed(body, b"acme", (raw, 9, len(good), digest)),
        sealed(body, b"acme", (raw, 8, len(good), bytes(32))),
        sealed(body + good, b"acme", (raw, 8 + len(good), len(good), digest)),
    ):
        with pytest.raises(cold.ColdCorruptError):
            cold.read_object(wrong)


def test_object_and_entry_have_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="0 entries"):
        cold.write_object("acme", [], [])
    monkeypatch.setattr(cold, "OBJECT_BYTES_MAX", 50)
    with pytest.raises(ValueError, match="1 entries and"):
        an_object(entry(1))
    with pytest.raises(ValueError, match="the longest"):
        cold.write_entry(entry(record=b"x" * cold.RAW_BYTES_MAX))


def test_dictionary_is_the_one_that_the_format_fixes() -> None:
    digest = hashlib.sha256(cold.DICTIONARY).hexdigest()
    assert digest == "b35eaf488b1f64d215bd6ba6ab8644b2ec2ff1829d1acf108b6c8b2f7a3edebb"
