"""Read how far a region is replicated: the watermark of an answer, and the status of a region.

    >>> watermark_of([("PCS-Replicated", "eu1/open/1/42")])
    Position(region='eu1', placement='open', region_epoch=1, seq=42)

Bytes in, values out, no socket (spec/formats.md 12.14-12.17). What cannot be read says nothing:
`None`, never an error, because the answer that it came with stands on its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from .canonical import MAX_SAFE_INTEGER, parse_value
from .errors import APIError, ValidationError
from .http import Request, build_request, join_headers
from .outcome import Position
from .secret import Secret

STATUS_PATH: Final = "/v1/region/status"

_REGION: Final = re.compile(r"[a-z0-9]{3}\Z")
_PLACEMENT: Final = re.compile(r"[a-z0-9-]{1,64}\Z")


class StreamStatus(NamedTuple):
    """One stream: its watermark, and the last seq that stands of each earlier region_epoch."""

    watermark: Position
    closed: Mapping[int, int]


class RegionStatus(NamedTuple):
    """What a region says of the streams that it writes."""

    streams: tuple[StreamStatus, ...]


def status_request(endpoint: str, *, agent: str, token: Secret, tenant: str | None) -> Request:
    """Build `GET /v1/region/status`, which needs the tenant's read token."""
    return build_request("GET", endpoint, STATUS_PATH, agent=agent, token=token, tenant=tenant)


def watermark_of(fields: Iterable[tuple[str, str]]) -> Position | None:
    """Read `PCS-Replicated` of any answer, or give None if it has none that is a position."""
    text = join_headers(fields).get("pcs-replicated")
    if text is None:
        return None
    try:
        return Position.parse(text)
    except APIError:
        return None


def read_region_status(body: bytes) -> RegionStatus | None:
    """Read the answer to a status request, or give None if it is none; more members are ignored."""
    try:
        members = parse_value(body, max_bytes=len(body))
    except ValidationError:
        return None
    region, streams = _of(members, "region"), _of(members, "streams")
    if not _is_text(region, _REGION) or not isinstance(streams, list):
        return None
    found = [_stream(region, each) for each in streams]
    known = tuple(each for each in found if each is not None)
    return RegionStatus(known) if len(known) == len(found) else None


def _stream(region: str, members: Any) -> StreamStatus | None:
    placement, closed = _of(members, "placement"), _of(members, "closed")
    counts = [_of(members, name) for name in ("region_epoch", "replicated", "durable")]
    if not _is_text(placement, _PLACEMENT) or not isinstance(closed, list):
        return None
    ends = [(_of(each, "region_epoch"), _of(each, "seq")) for each in closed]
    if not all(map(_is_count, [*counts, *(count for end in ends for count in end)])):
        return None
    lowest: dict[int, int] = {}
    for region_epoch, seq in ends:
        lowest[region_epoch] = min(seq, lowest.get(region_epoch, seq))
    return StreamStatus(Position(region, placement, counts[0], counts[1]), lowest)


def _of(members: Any, name: str) -> Any:
    return members.get(name) if isinstance(members, dict) else None


def _is_text(value: Any, form: re.Pattern[str]) -> bool:
    return isinstance(value, str) and form.match(value) is not None


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_SAFE_INTEGER
