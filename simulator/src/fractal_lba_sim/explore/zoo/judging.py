"""Planted: what was decided is decided anew, or what a peer says is not judged at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

from google_crc32c import extend

from fractal_lba.canonical import canonicalize, parse
from fractal_lba.estimate import DEFAULT_PARAMETERS
from fractal_lba_server.core import hlc
from fractal_lba_server.core.facts import read_facts, write_facts
from fractal_lba_server.core.first_write import Origin
from fractal_lba_server.core.policy import Policy, PolicyBook
from fractal_lba_server.core.replay import Replay, VerifiedFrame
from fractal_lba_server.core.segment import HEADER_BYTES, Frame
from fractal_lba_server.core.verify import outcome_bytes, verify

from ...exact.inbound import Batch, Inbound
from ...exact.node import Node
from .bug import bug, enter

# --- the policy of a frame

STRICTER: Final = Policy(replace(DEFAULT_PARAMETERS, tol_D=DEFAULT_PARAMETERS.tol_D / 2))
"""What is rolled out: under it an outcome has other bytes."""


class RollsOutAPolicy(Node):
    """Comes back with a policy that was rolled out meanwhile, and makes its index from its logs.

    The former policy is kept for replay.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        if self.region.starts > 1:
            former = {one.version: one for one in self.world.policies.policies()}
            self.world.policies = PolicyBook(STRICTER, former)

    def _take_up(self) -> Any:
        self.index = self.disk.kept["index"] = self.world.parts.index()
        return super()._take_up()


class Rejudged:
    """A stream whose outcomes are those that a policy gives today."""

    def __init__(self, segments: Any, policy: Policy) -> None:
        self._segments = segments
        self._policy = policy

    def frames(self, *stream: Any) -> Iterator[tuple[Origin, Frame]]:
        """Give the frames, each with another outcome."""
        for origin, frame in self._segments.frames(*stream):
            yield origin, frame._replace(meta=self._facts(frame, origin))

    def _facts(self, frame: Frame, origin: Origin) -> bytes:
        facts, record = read_facts(frame, origin), parse(frame.body)
        verdict = verify(record, canonicalize(record).nanos, self._policy)
        outcome = outcome_bytes(
            verdict, pcs_id=record["pcs_id"], policy_version=self._policy.version,
            region=origin.region, hlc=hlc.text(frame.hlc),
        )  # fmt: skip
        return write_facts(
            content=facts.stored.content, kid=facts.kid, outcome=outcome,
            policy_version=self._policy.version, sig_v=facts.sig_v, status=verdict.status,
            tenant=facts.key[0],
        )  # fmt: skip


@bug(
    "policy-not-pinned-on-replay", "a log that is replayed is judged under the policy of today",
    hazard="H47", part="node", beside={"node": RollsOutAPolicy},
    kinds=("process-restart", "process-kill", "region-down", "delay"), found_by=("answers",),
)  # fmt: skip
class JudgesAnew(RollsOutAPolicy):
    """Takes the outcomes of its index from the policy that it came up with."""

    def _follow(self, region: str, placement: str, segments: Any) -> None:
        super()._follow(region, placement, Rejudged(segments, self.world.policies.default))


# --- the word of a peer

GARBLED_SHARE: Final = 0.25
"""Part of the batches in which a bit is another one when they arrive."""


class Garbled(Inbound):
    """Is sent batches in which a bit has changed on the way: now and then, behind the header."""

    def receive(self, batch: Batch, answer: Callable[[Any], None]) -> None:
        chance = self.node.world.streams.of("garbled", self.node.code, self.region)
        if chance.random() < GARBLED_SHARE and len(batch.body) > HEADER_BYTES:
            body = bytearray(batch.body)
            body[chance.randrange(HEADER_BYTES, len(body))] ^= 1 << chance.randrange(8)
            batch = batch._replace(body=bytes(body))
        super().receive(batch, answer)


class AnyChecksum(int):
    """Is the checksum of whatever it is compared with."""

    __hash__ = int.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


def sum_of_anything(checksum: int, data: bytes) -> AnyChecksum:
    """Give a checksum that fits any bytes."""
    return AnyChecksum(extend(checksum, data))


class TrustingReplay(Replay):
    """Takes what a peer says for true: nothing is verified again."""

    def verify(self, frame: Frame, origin: Origin) -> VerifiedFrame:
        return VerifiedFrame(frame, read_facts(frame, origin))


enter(
    "applied-without-verification", "what a peer sends is applied as it comes, damaged or not",
    {
        "replay": TrustingReplay,
        "rules": {
            "fractal_lba_server.core.receiver:signature_holds": lambda *_: True,
            "fractal_lba_server.core.segment:extend": sum_of_anything,
        },
    },
    beside={"inbound": Garbled}, kinds=("delay", "bandwidth", "process-restart"),
    found_by=("digests_equal", "accounting", "answers", "phantom", "machine"),
)  # fmt: skip
