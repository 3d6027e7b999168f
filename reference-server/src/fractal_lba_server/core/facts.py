"""The facts of a decision: what a frame of the log says beside the record's own bytes.

This file owns the frame's `meta` (spec/formats.md 7): who signed, under which policy, and
the outcome itself, so that a replay needs neither keys nor a verification to give the same
answers again.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from fractal_lba.canonical import jcs

from .first_write import Key, Origin, Stored
from .segment import Frame


class Facts(NamedTuple):
    """The members of a frame's `meta`."""

    key: Key
    stored: Stored
    kid: str
    sig_v: int
    policy_version: str


def write_facts(
    *,
    content: str,
    kid: str,
    outcome: bytes,
    policy_version: str,
    sig_v: int,
    status: int,
    tenant: str,
) -> bytes:
    """Write the facts in RFC 8785 form; `outcome` is in that form already.

    Names of keys and tenants need no escapes: `spec/schemas/tenants.json` allows letters,
    digits and `._-`.
    """
    return (
        f'{{"content":"{content}","kid":"{kid}","outcome":{outcome.decode()},'
        f'"policy_version":"{policy_version}","sig_v":{sig_v},"status":{status},'
        f'"tenant":"{tenant}"}}'
    ).encode()


def read_facts(frame: Frame, origin: Origin) -> Facts:
    """Read the facts of a whole frame of a stream; raises ValueError if they are not facts."""
    try:
        meta = json.loads(frame.meta)
        outcome = meta["outcome"]
        content, status = meta["content"], meta["status"]
        stored = Stored(frame.seq, content, status, jcs(outcome), origin, frame.hlc)
        key = (meta["tenant"], outcome["pcs_id"])
        return Facts(key, stored, meta["kid"], meta["sig_v"], meta["policy_version"])
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"frame {frame.seq} at byte {frame.offset} holds no facts") from error


__all__ = ["Facts", "read_facts", "write_facts"]
