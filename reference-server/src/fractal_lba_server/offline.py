"""Looks into a data directory while no server runs: check it, print it, build its index anew.

Nothing here decides about a record; what a frame says is compared with what its own bytes and
its policy say (spec/formats.md 7), and every difference is named by file, offset and sequence.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fractal_lba.canonical import canonicalize, parse
from fractal_lba.errors import FractalLBAError
from fractal_lba.merkle import MerkleRoot

from .core.facts import Facts, read_facts
from .core.first_write import Origin, position
from .core.policy import Policy
from .core.segment import GENESIS, HEADER_BYTES, Frame, SegmentError, payload_of_frame, read_header
from .core.verify import outcome_bytes, verify
from .store.data_dir import DataDir, DataDirError, StreamDir
from .store.sqlite import Index, put_in_place, remove_index
from .store.wal import WalCorruptError, check_cut, closed_hash, read_segment, segment_paths

REBUILT: Final = "rebuilt.sqlite"
"""Name of a new index until it is whole."""


@contextlib.contextmanager
def rebuilt(data: DataDir) -> Iterator[Index]:
    """Give an empty index to fill; it takes the place of the old one if that went well.

    Raises DataDirError where the logs lack what the old index holds: to forget that would be to
    forget that acknowledged records are gone.
    """
    made = data.path / REBUILT
    remove_index(made)  # an earlier try that did not come to its end
    with contextlib.ExitStack() as undo:
        undo.callback(remove_index, made)
        with contextlib.closing(Index(made)) as index:
            yield index
            _refuse_a_loss(data, index)
        undo.pop_all()
    put_in_place(made, data.index)


def _refuse_a_loss(data: DataDir, made: Index) -> None:
    try:
        old = Index(data.index)
    except DataDirError:
        return  # nobody can say what it held
    with contextlib.closing(old):
        for region, placement, path in data.streams():
            held, found = old.applied(region, placement), made.applied(region, placement)
            if held > found:
                text = f"{data.index}: holds number {held}, the log in {path} ends at {found}"
                raise DataDirError(f"{text}; acknowledged records are missing from the log")


@dataclass(slots=True)
class Report:
    """What a check has found."""

    segments: int = 0
    frames: int = 0
    last_seq: int = 0
    applied_seq: int = 0
    torn_bytes: int = 0
    streams: list[dict[str, Any]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def check(data: DataDir, *, progress: Callable[[int], None] = lambda frames: None) -> Report:
    """Check every byte of our logs and of the mirrors, and the index against them.

    The numbers of the report are those of all streams together; `streams` has each.
    """
    total = Report()
    policies = data.policies()
    index = Index(data.index)
    try:
        for stream in data.streams():
            report = _check_stream(stream, data, policies, index)
            total.segments += report.segments
            total.frames += report.frames
            total.last_seq += report.last_seq
            total.applied_seq += report.applied_seq
            total.torn_bytes += report.torn_bytes
            total.faults += report.faults
            name = f"{stream.region}/{stream.placement}"
            total.streams.append({"stream": name, "last_seq": report.last_seq})
            progress(total.frames)
    finally:
        index.close()
    return total


def _check_stream(
    stream: StreamDir, data: DataDir, policies: Mapping[str, Policy], index: Index
) -> Report:
    report = Report(applied_seq=index.applied(stream.region, stream.placement))
    prev, next_seq = GENESIS, 1
    for path in segment_paths(stream.path):
        report.segments += 1
        try:
            prev = _check_segment(path, stream, prev, next_seq, report, policies, index)
        except WalCorruptError as error:
            report.faults.append(str(error))
            break
        next_seq = report.last_seq + 1
    if report.applied_seq > report.last_seq:
        report.faults.append(
            f"{data.index}: holds number {report.applied_seq}, the log ends at "
            f"{report.last_seq}; acknowledged records are missing from the log"
        )
    return report


def _check_segment(
    path: Path,
    stream: StreamDir,
    prev: bytes,
    next_seq: int,
    report: Report,
    policies: Mapping[str, Policy],
    index: Index,
) -> bytes:
    """Check one segment; give the hash that the next one must name."""
    try:
        header = read_header(path.read_bytes()[:HEADER_BYTES])
    except SegmentError as error:
        raise WalCorruptError(path, str(error)) from None
    if header.prev_sha256 != prev:
        raise WalCorruptError(path, "it names another predecessor at byte 16")
    if header.first_seq != next_seq:
        raise WalCorruptError(path, f"starts at {header.first_seq}, expected {next_seq}")
    found = read_segment(path)
    root = MerkleRoot()
    origin = Origin(stream.region, stream.placement, header.region_epoch)
    for frame in found.frames:
        root.add(payload_of_frame(frame))
        found_faults = _check_frame(frame, origin, policies, index)
        report.faults += [f"{path}: {fault}" for fault in found_faults]
        report.frames += 1
        report.last_seq = frame.seq
    if path.suffix == ".open":
        data = path.read_bytes()
        check_cut(path, data, found)
        if found.footer is None:  # a close that did not come to its end is no torn tail
            report.torn_bytes = len(data[found.end :].rstrip(b"\0"))
        return prev
    if found.fault is not None:
        raise WalCorruptError(path, found.fault)
    digest = closed_hash(path, prev)
    assert found.footer is not None
    if found.footer.root != root.digest() or found.footer.frames != len(found.frames):
        raise WalCorruptError(path, f"its footer does not describe its frames, byte {found.end}")
    return digest


def _check_frame(
    frame: Frame, origin: Origin, policies: Mapping[str, Policy], index: Index
) -> Iterator[str]:
    where = f"frame {frame.seq} at byte {frame.offset}"
    try:
        facts = read_facts(frame, origin)
    except ValueError as error:
        yield str(error)
        return
    yield from (f"{where}: {fault}" for fault in recompute(frame, facts, policies))
    if frame.seq > index.applied(origin.region, origin.placement):
        return
    stored = index.lookup(facts.key)
    if stored is not None and not stored.outcome:  # its payload was moved to objects
        stored = stored._replace(outcome=facts.stored.outcome)
    if stored is None:
        yield f"{where}: missing from the index; `flk-server replay --rebuild` makes it anew"
    elif stored != facts.stored and facts.stored not in index.overridden(facts.key):
        yield f"{where}: the index holds another outcome; `flk-server replay --rebuild`"


def recompute(frame: Frame, facts: Facts, policies: Mapping[str, Policy]) -> Iterator[str]:
    """Compare a stored outcome with the one that record and policy give now.

    A difference is a `determinism_bug`: it is reported, and the stored outcome stands.
    """
    policy = policies.get(facts.policy_version)
    if policy is None:
        yield f"policy {facts.policy_version} is not kept"
        return
    try:
        record = parse(frame.body)
        canonical = canonicalize(record)
    except FractalLBAError as error:
        yield f"its record cannot be read: {error.code}"
        return
    if canonical.content != facts.stored.content:
        yield "determinism_bug: its record has another content digest"
    first_seen: dict[str, Any] = parse(facts.stored.outcome)["first_seen"]
    verdict = verify(record, canonical.nanos, policy)
    again = outcome_bytes(
        verdict,
        pcs_id=record["pcs_id"],
        policy_version=policy.version,
        region=first_seen["region"],
        hlc=first_seen["hlc"],
    )
    if again != facts.stored.outcome or verdict.status != facts.stored.status:
        yield "determinism_bug: its record and policy give another outcome now"


def describe(frame: Frame, facts: Facts, path: Path, *, body: bool = False) -> dict[str, Any]:
    """Give one frame as a JSON object for people and programs."""
    tenant, pcs_id = facts.key
    document: dict[str, Any] = {
        "seq": frame.seq,
        "position": position(facts.stored),
        "hlc": f"{frame.hlc:016x}",
        "tenant": tenant,
        "pcs_id": pcs_id,
        "kid": facts.kid,
        "sig_v": facts.sig_v,
        "status": facts.stored.status,
        "content": facts.stored.content,
        "policy_version": facts.policy_version,
        "outcome": parse(facts.stored.outcome),
        "file": path.name,
        "offset": frame.offset,
        "bytes": frame.end - frame.offset,
    }
    if body:
        document["body"] = frame.body.decode()
    return document
