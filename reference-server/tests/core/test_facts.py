"""The facts of a decision are read from a frame as they were written, or refused by name."""

from __future__ import annotations

import json

import pytest
from ingest_machine import ORIGIN, Machine
from region import BETA, members, signed

from fractal_lba.canonical import jcs
from fractal_lba_server.core.facts import read_facts, write_facts
from fractal_lba_server.core.first_write import Stored
from fractal_lba_server.core.ingest_events import Append
from fractal_lba_server.core.segment import Frame, encode_frame, read_frame


def frame_of(meta: bytes) -> Frame:
    """Write a frame with these facts, and read it."""
    return read_frame(encode_frame(9, 1, meta, b"body"), 0)


def test_facts_are_read_as_written() -> None:
    outcome = machine_outcome()
    meta = write_facts(
        content="c" * 64, kid="k-1", outcome=outcome, policy_version="p" * 16, sig_v=2,
        status=202, tenant="acme",
    )  # fmt: skip
    facts = read_facts(frame_of(meta), ORIGIN)
    assert facts.key == ("acme", json.loads(outcome)["pcs_id"])
    assert facts.stored == Stored(9, "c" * 64, 202, outcome, ORIGIN, facts.stored.hlc)
    assert (facts.kid, facts.sig_v, facts.policy_version) == ("k-1", 2, "p" * 16)


def machine_outcome() -> bytes:
    """Give an outcome that the machine has made."""
    return Machine().recorded(signed(D_hat=1.0).body).outcome


@pytest.mark.parametrize(
    "meta", [b"", b"{", b"[]", b"1", b"{}", b'{"outcome":1}', b'{"outcome":{}}', b"\xff\xfe"]
)
def test_what_is_no_facts_is_named(meta: bytes) -> None:
    with pytest.raises(ValueError, match="frame 9 at byte 0 holds no facts"):
        read_facts(frame_of(meta), ORIGIN)


def test_facts_of_the_machine_are_in_rfc_8785_form() -> None:
    machine = Machine()
    for body in (signed().body, signed(D_hat=1.0).body, signed(signer=BETA, version=1).body):
        (append,) = machine.submit(body)
        assert isinstance(append, Append)
        meta = read_frame(append.frame, 0).meta
        assert jcs(json.loads(meta)) == meta
        assert members()["schema"] not in meta.decode()
