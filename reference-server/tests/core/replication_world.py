"""Two regions that ship to each other over a network and disks that do what they like.

The machines are those that the server runs. The network loses, doubles, reorders, delays and
tears; a crash forgets what was not synced, and leaves any part of it. Every step is an action
that a chooser picks: Hypothesis, or a random number generator with a seed.

The judge knows the disks and the history, not the machines: what is acknowledged is durable at
the peer; a mirror is a prefix of what its origin has made durable; frames are merged in order,
once genuine; and when the world is kind again everything arrives.
"""

# tidy: long because the world and the judge of it are read together

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from shipping_frames import NOW_NS, REGION_KEYS, batch_signature

from fractal_lba.merkle import MerkleRoot
from fractal_lba_server.core import receiver as take
from fractal_lba_server.core import replication as ship
from fractal_lba_server.core.facts import Facts
from fractal_lba_server.core.first_write import Origin, Stored
from fractal_lba_server.core.receiver import Held, Receiver
from fractal_lba_server.core.replay import ReplayFault, VerifiedFrame
from fractal_lba_server.core.replication import NOTHING, Mark, Shipper
from fractal_lba_server.core.segment import (
    FOOTER_BYTES,
    GENESIS,
    HEADER_BYTES,
    Footer,
    Frame,
    Header,
    SegmentError,
    encode_frame,
    frames,
    payload_of,
    read_frame,
    read_header,
    scan,
)

FORGED: Final = b"forged"
STEP_NS: Final = 20_000_000
FLIGHT_MAX: Final = 6
"""Messages on the way at once; more only make histories longer."""


class LostError(AssertionError):
    """What the judge says of a history that must not be."""


def expect(holds: bool, rule: str) -> None:
    """State a rule of the world."""
    if not holds:
        raise LostError(rule)


class FastReplay:
    """Judges a frame by its first bytes; the real one has tests of its own."""

    def verify(self, frame: Frame, origin: Origin) -> VerifiedFrame:
        if frame.body.startswith(FORGED):
            raise ReplayFault("signature_invalid", "forged", frame.seq)
        stored = Stored(frame.seq, "", 200, b"", origin, frame.hlc)
        return VerifiedFrame(frame, Facts(("t", "p"), stored, "kid", 2, ""))


class TrustingReplay(FastReplay):
    """A planted bug: what a peer says is true."""

    def verify(self, frame: Frame, origin: Origin) -> VerifiedFrame:
        stored = Stored(frame.seq, "", 200, b"", origin, frame.hlc)
        return VerifiedFrame(frame, Facts(("t", "p"), stored, "kid", 2, ""))


@dataclass(slots=True)
class File:
    """A segment on a disk: what is there, and how much of it was synced."""

    data: bytearray = field(default_factory=bytearray)
    synced: int = 0
    sealed: bool = False


class Log:
    """The origin's side: segments that grow, and what of them is durable."""

    def __init__(self, region: str) -> None:
        self.region = region
        self.files: dict[int, File] = {}
        self.seq = 0
        self.synced_seq = 0
        self.written = 0

    def first(self) -> int:
        return max(self.files, default=0)

    def append(self, *, forged: bool) -> None:
        """Write a frame; it is not durable yet."""
        if not self.files or self.files[self.first()].sealed:
            header = Header(self.seq + 1, self.prev(), 0, 1)
            self.files[self.seq + 1] = File(bytearray(header.to_bytes()))
        self.seq += 1
        self.written += 1
        body = FORGED if forged else b"%s-%d-%d" % (self.region.encode(), self.seq, self.written)
        self.files[self.first()].data += encode_frame(self.seq, NOW_NS // 10**6 << 16, b"", body)

    def prev(self) -> bytes:
        return bytes(self.files[self.first()].data[-32:]) if self.files else GENESIS

    def sync(self) -> None:
        if self.files:
            file = self.files[self.first()]
            file.synced = len(file.data)
            self.synced_seq = self.seq

    def seal(self) -> None:
        """Close the open segment, all of it durable."""
        first = self.first()
        file = self.files[first]
        root, data = MerkleRoot(), bytes(file.data)
        found = list(frames(data, first))
        for frame in found:
            root.add(payload_of(data[frame.offset : frame.end]))
        data += Footer(len(found), root.digest(), bytes(32)).to_bytes()[:-32]
        file.data = bytearray(data + hashlib.sha256(data).digest())
        file.sealed = True
        self.sync()

    def crash(self, chance: random.Random) -> None:
        """Lose what was not synced, or any of its whole frames from the end on."""
        if not self.files:
            return
        first = self.first()
        file = self.files[first]
        if not file.sealed:
            end = chance.randint(file.synced, len(file.data))
            del file.data[end:]
            whole = scan(bytes(file.data)) if end >= HEADER_BYTES else None
            if whole is None or not whole.frames:
                del self.files[first]
                self.seq = first - 1
            else:
                del file.data[whole.end :]
                self.seq = whole.frames[-1].seq
        self.sync()  # a start syncs what it takes up (store/wal.py)
        self.synced_seq = self.seq

    def event(self, first: int) -> ship.TailGrown | ship.SegmentSealed:
        """Say how far a segment is durable, as the log does."""
        file = self.files[first]
        found = list(frames(bytes(file.data[: file.synced]), first))
        if file.sealed:
            return ship.SegmentSealed(first, len(file.data), found[-1].seq)
        return ship.TailGrown(first, file.synced, found[-1].seq)

    def durable(self) -> bytes:
        return b"".join(bytes(f.data[: f.synced]) for _, f in sorted(self.files.items()))

    def durable_frames(self) -> list[Frame]:
        return _frames_of({first: bytes(f.data[: f.synced]) for first, f in self.files.items()})


def _frames_of(files: dict[int, bytes]) -> list[Frame]:
    found: list[Frame] = []
    for first in sorted(files):
        if len(files[first]) > HEADER_BYTES:
            found += frames(files[first], first)
    return found


class MirrorDisk:
    """The receiver's side: files of which a crash keeps what was synced and any part of the rest."""

    def __init__(self) -> None:
        self.files: dict[int, File] = {}

    def write(self, effect: take.AppendMirror) -> None:
        file = self.files.setdefault(effect.first_seq, File())
        del file.data[effect.offset :]
        file.data += effect.data

    def sync(self, effect: take.AppendMirror) -> None:
        file = self.files[effect.first_seq]
        file.synced = len(file.data)
        file.sealed = effect.seal

    def crash(self, chance: random.Random) -> None:
        for first, file in list(self.files.items()):
            del file.data[chance.randint(file.synced, len(file.data)) :]
            if len(file.data) > file.synced and chance.random() < 0.3:
                file.data[-1] ^= 0xFF
            if not file.data:
                del self.files[first]

    def durable(self) -> bytes:
        return b"".join(bytes(f.data[: f.synced]) for _, f in sorted(self.files.items()))

    def read(self, first: int, offset: int, size: int) -> bytes:
        file = self.files.get(first)
        return b"" if file is None else bytes(file.data[offset : offset + size])

    def recover(self) -> Held:
        """Take up the files as `store/mirror.py` does: cut a torn tail, refuse nothing else."""
        held = Held()
        for first in sorted(self.files):
            file = self.files[first]
            data = bytes(file.data)
            if file.sealed:
                seq = scan(data).frames[-1].seq
                mark = Mark(first, len(data), seq, sealed=True)
                held = Held(mark, data[-32:], 1, sealed={**held.sealed, first: (seq, 1)})
                continue
            found = scan(data) if len(data) >= HEADER_BYTES and _header_holds(data) else None
            if found is None or not found.frames:
                del self.files[first]
                continue
            del file.data[found.end :]
            file.synced = len(file.data)
            mark = Mark(first, found.end, found.frames[-1].seq, sealed=False)
            held = held._replace(mark=mark, region_epoch=1, open_data=data[: found.end])
        return held


def _header_holds(data: bytes) -> bool:
    try:
        read_header(data)
    except SegmentError:
        return False
    return True


class Message(NamedTuple):
    """On its way between two lives of two nodes."""

    stream: str
    kind: str
    token: int
    life: int
    content: Any


@dataclass(frozen=True, slots=True)
class Parts:
    """What the world is made of; a planted bug replaces one part."""

    shipper: type[Shipper] = Shipper
    receiver: type[Receiver] = Receiver
    mirror: type[MirrorDisk] = MirrorDisk
    replay: Callable[[], FastReplay] = FastReplay
    says_durable_early: bool = False


class Stream:
    """One stream: its log and shipper in one node, its mirror and receiver in the other."""

    def __init__(self, region: str, parts: Parts) -> None:
        self.region = region
        self.log = Log(region)
        self.kept = NOTHING
        """The watermark as last set, and below as last made durable."""
        self.flushed = NOTHING
        self.mirror = parts.mirror()
        self.merged: dict[int, bytes] = {}
        self.acked_seq = 0
        self.shipper: Shipper
        self.receiver: Receiver
        self.timer: ship.SetTimer | None = None
        self.writing: take.AppendMirror | None = None
        self.applying: take.ApplyFrames | None = None
        self.asked: dict[int, tuple[int, int]] = {}
        """By the receiver's token: the sender's token and life."""
        self.alarms: list[str] = []
        self.region_epoch = 1
        """Of the origin, durable; below `fence` the peer takes nothing, and holds `fenced_seq`."""
        self.fence = 0
        self.fenced_seq = 0


class World:
    """Everything that happens, one action at a time."""

    def __init__(self, chance: random.Random, parts: Parts | None = None) -> None:
        self.chance = chance
        self.parts = Parts() if parts is None else parts
        self.now_ns = NOW_NS + 10**9
        self.lives = {"eu1": 0, "us1": 0}
        self.flight: list[Message] = []
        self.tokens = 0
        self.forgeries = 0
        self.kind = False
        """Whether faults are over: every message then arrives whole."""
        self.streams = {code: Stream(code, self.parts) for code in self.lives}
        for code, stream in self.streams.items():
            self._start_receiver(stream)
            self._start_shipper(stream)
            assert code == stream.region

    # --- actions

    def write(self, region: str, count: int, *, forged: bool = False) -> None:
        """Write frames; durable with the next sync."""
        stream = self.streams[region]
        for _ in range(count):
            stream.log.append(forged=forged)
            self.forgeries += forged
        if self.parts.says_durable_early:
            first = stream.log.first()
            data = bytes(stream.log.files[first].data)
            self._feed_shipper(stream, ship.TailGrown(first, len(data), stream.log.seq))

    def sync(self, region: str) -> None:
        """Make what was written durable, and say so."""
        stream = self.streams[region]
        if stream.log.seq > stream.log.synced_seq:
            stream.log.sync()
            self._feed_shipper(stream, stream.log.event(stream.log.first()))

    def seal(self, region: str) -> None:
        """Close the open segment."""
        stream = self.streams[region]
        self.sync(region)
        if stream.log.files and not stream.log.files[stream.log.first()].sealed:
            stream.log.seal()
            self._feed_shipper(stream, stream.log.event(stream.log.first()))

    def deliver(self, index: int) -> None:
        """Let a message arrive, whichever."""
        if self.flight:
            self._arrive(self.flight.pop(index % len(self.flight)))

    def lose(self, index: int) -> None:
        """Lose a message."""
        if self.flight and not self.kind:
            self.flight.pop(index % len(self.flight))

    def double(self, index: int) -> None:
        """Let a message arrive twice."""
        if self.flight and len(self.flight) < FLIGHT_MAX:
            self.flight.append(self.flight[index % len(self.flight)])

    def tear(self, index: int) -> None:
        """Cut a batch, or change a byte of it."""
        if not self.flight:
            return
        at = index % len(self.flight)
        message = self.flight[at]
        if message.kind == "batch" and message.content.body:
            body = bytearray(message.content.body)
            if self.chance.random() < 0.5:
                del body[self.chance.randrange(len(body)) :]
            else:
                body[self.chance.randrange(len(body))] ^= 1 << self.chance.randrange(8)
            torn = message.content._replace(body=bytes(body))
            self.flight[at] = message._replace(content=torn)

    def give_up(self, region: str) -> None:
        """Let a sender's patience end: its request came to nothing, as far as it knows."""
        stream = self.streams[region]
        awaiting = stream.shipper._awaiting
        if awaiting is not None:
            self._feed_shipper(stream, ship.PeerFailed(awaiting.token, "unreachable"))

    def pass_time(self) -> None:
        """Let time pass, and timers fire."""
        self.now_ns += STEP_NS
        for stream in self.streams.values():
            timer = stream.timer
            if timer is not None and timer.at_ns <= self.now_ns:
                stream.timer = None
                self._feed_shipper(stream, ship.TimerFired(timer.token))

    def disk(self, region: str) -> None:
        """Let the disk of a stream's mirror finish what it was given."""
        stream = self.streams[region]
        effect, stream.writing = stream.writing, None
        if effect is not None:
            stream.mirror.sync(effect)
            self._feed_receiver(stream, take.MirrorWritten(effect.token))

    def merge(self, region: str) -> None:
        """Let the frames of a stream be merged at the peer."""
        stream = self.streams[region]
        effect, stream.applying = stream.applying, None
        if effect is not None:
            self._merge_frames(stream, [one.frame for one in effect.frames])
            self._feed_receiver(stream, take.FramesApplied(effect.token, ()))

    def flush(self, region: str) -> None:
        """Make the watermark durable."""
        stream = self.streams[region]
        stream.flushed = stream.kept

    def raise_fence(self, region: str) -> None:
        """Fence a stream at the peer: what its origin sends below the next epoch is refused."""
        stream = self.streams[region]
        self.disk(region)  # a fence waits for what is being written
        stream.fence = stream.region_epoch + 1
        stream.fenced_seq = stream.receiver.mark.seq
        self._feed_receiver(stream, take.Fenced(stream.fence))

    def adopt(self, region: str) -> None:
        """Let a region take up the epoch that its peer wants."""
        stream = self.streams[region]
        if stream.fence > stream.region_epoch:
            stream.region_epoch = stream.fence
            self._feed_shipper(stream, ship.EpochAdopted(stream.region_epoch))

    def crash(self, node: str) -> None:
        """Kill a node: its log, its mirror of the other's stream, and all it had in mind."""
        self.lives[node] += 1
        for stream in self.streams.values():
            if stream.region == node:
                stream.log.crash(self.chance)
                stream.kept = stream.flushed
                self._start_shipper(stream)
            else:
                stream.mirror.crash(self.chance)
                self._start_receiver(stream)

    # --- the nodes

    def _start_shipper(self, stream: Stream) -> None:
        stream.timer = None
        stream.shipper = self.parts.shipper(region_epoch=stream.region_epoch, acked=stream.kept)
        for first in sorted(stream.log.files):
            self._feed_shipper(stream, stream.log.event(first))
        if not stream.log.files:
            self._carry_shipper(stream, stream.shipper._go_on(self.now_ns))

    def _start_receiver(self, stream: Stream) -> None:
        stream.writing = stream.applying = None
        stream.asked.clear()
        held = stream.mirror.recover()._replace(fenced_epoch=stream.fence)
        stream.receiver = self.parts.receiver(
            region=stream.region,
            placement="open",
            public_key=REGION_KEYS[stream.region].public_key,
            replay=self.parts.replay(),  # type: ignore[arg-type]  # it answers the same call
            held=held,
        )
        stream.merged.clear()
        files = {first: bytes(file.data) for first, file in stream.mirror.files.items()}
        self._merge_frames(stream, _readable_frames(files))

    def _feed_shipper(self, stream: Stream, event: object) -> None:
        self._carry_shipper(stream, stream.shipper.on_event(event, self.now_ns))

    def _carry_shipper(self, stream: Stream, effects: list[ship.Effect]) -> None:
        life = self.lives[stream.region]
        for effect in effects:
            match effect:
                case ship.Send():
                    self._send(stream, effect)
                case ship.AskPeer(token):
                    self.flight.append(Message(stream.region, "ask", token, life, None))
                case ship.SetTimer():
                    stream.timer = effect
                case ship.PersistWatermark(mark):
                    stream.kept = mark
                case ship.Acknowledged(seq):
                    stream.acked_seq = max(stream.acked_seq, seq)
                    self._judge_acknowledged(stream)
                case ship.RaiseAlarm(code):
                    stream.alarms.append(code)

    def _send(self, stream: Stream, effect: ship.Send) -> None:
        try:
            batch = self._batch(stream, effect)
        except SegmentError:
            failed = ship.PeerFailed(effect.token, "local_unreadable")
            self._feed_shipper(stream, failed)
            return
        life = self.lives[stream.region]
        self.flight.append(Message(stream.region, "batch", effect.token, life, batch))

    def _batch(self, stream: Stream, effect: ship.Send) -> take.BatchReceived:
        data = bytes(stream.log.files[effect.first_seq].data[effect.offset : effect.until])
        at = HEADER_BYTES if effect.offset == 0 else 0
        for _ in range(self.chance.randint(1, 4)):
            if at == len(data):
                break
            if len(data) - at == FOOTER_BYTES and data[at : at + 4] == b"WORM":
                at = len(data)
            else:
                at = read_frame(data, at).end
        place = (effect.region_epoch, effect.first_seq, effect.offset)
        signature = batch_signature(stream.region, "open", *place, data[:at])
        return take.BatchReceived(0, *place, data[:at], signature)

    def _feed_receiver(self, stream: Stream, event: object) -> None:
        for effect in stream.receiver.on_event(event, self.now_ns):
            match effect:
                case take.AppendMirror():
                    stream.mirror.write(effect)
                    stream.writing = effect
                case take.ApplyFrames():
                    stream.applying = effect
                case take.Ack() | take.Refuse():
                    self._answer(stream, effect)
        self._judge_mirror(stream)

    def _answer(self, stream: Stream, effect: take.Ack | take.Refuse) -> None:
        token, life = stream.asked.pop(effect.token)
        answer: object
        if isinstance(effect, take.Ack):
            answer = ship.PeerAcked(token, effect.mark, effect.displaced)
        else:
            answer = ship.PeerFailed(token, *effect[1:5])
        self.flight.append(Message(stream.region, "answer", token, life, answer))

    def _arrive(self, message: Message) -> None:
        stream = self.streams[message.stream]
        if message.kind == "answer":
            if message.life == self.lives[message.stream]:
                self._feed_shipper(stream, message.content)
        elif message.kind == "ask":
            answer = ship.PeerHolds(
                message.token, stream.receiver.mark, stream.receiver.fenced_epoch
            )
            back = message._replace(kind="answer", content=answer)
            self.flight.append(back)
        else:
            self.tokens += 1
            stream.asked[self.tokens] = (message.token, message.life)
            batch = message.content
            held = b""
            mark = stream.receiver.mark
            if (batch.first_seq, batch.offset) < mark[:2]:
                size = len(batch.body)
                if batch.first_seq == mark.first_seq:
                    size = min(size, mark.offset - batch.offset)
                held = stream.mirror.read(batch.first_seq, batch.offset, size)
            self._feed_receiver(stream, batch._replace(token=self.tokens, held=held))

    # --- the judge

    def _merge_frames(self, stream: Stream, found: list[Frame]) -> None:
        genuine = {frame.seq: frame.body for frame in stream.log.durable_frames()}
        for frame in found:
            expect(not frame.body.startswith(FORGED), "a forged frame is merged nowhere")
            expect(genuine.get(frame.seq) == frame.body, "what is merged is what was written")
            expect(
                frame.seq in stream.merged or frame.seq == len(stream.merged) + 1,
                "frames are merged in order, without a gap",
            )
            stream.merged[frame.seq] = frame.body

    def _judge_acknowledged(self, stream: Stream) -> None:
        files = {first: bytes(f.data[: f.synced]) for first, f in stream.mirror.files.items()}
        there = {frame.seq for frame in _readable_frames(files)}
        expect(
            there >= set(range(1, stream.acked_seq + 1)),
            "what is acknowledged is durable at the peer",
        )

    def _judge_mirror(self, stream: Stream) -> None:
        expect(
            stream.log.durable().startswith(stream.mirror.durable()),
            "a mirror is a prefix of what its origin has made durable",
        )
        expect(
            stream.region_epoch >= stream.fence or stream.receiver.mark.seq <= stream.fenced_seq,
            "nothing of a region below its fence is taken",
        )

    def judge_end(self) -> None:
        """Be kind for long enough, then look whether all has arrived."""
        self.kind = True
        self.flight.clear()
        for stream in self.streams.values():
            self.adopt(stream.region)
            self.give_up(stream.region)
        for _ in range(4_000):
            for region in self.streams:
                self.disk(region)
                self.merge(region)
            if self.flight:
                self.deliver(0)
            else:
                if all(self._is_done(stream) for stream in self.streams.values()):
                    break
                self.pass_time()
        for stream in self.streams.values():
            self._judge_mirror(stream)
            self._judge_acknowledged(stream)
            forged = [f.seq for f in stream.log.durable_frames() if f.body.startswith(FORGED)]
            if forged:
                expect(
                    len(stream.merged) == forged[0] - 1 and stream.shipper.acked.seq < forged[0],
                    "the stream goes up to a forged frame, and stands there",
                )
                expect("frame_refused" in stream.alarms, "a forged frame raises an alarm")
                continue
            expect(
                stream.mirror.durable() == stream.log.durable(), "at the end everything is there"
            )
            expect(stream.shipper.acked.seq == stream.log.synced_seq, "and acknowledged")
            expect(len(stream.merged) == stream.log.synced_seq, "and merged")
            hostile = {"fork", "gap", "local_log_lost", "peer_log_lost"}
            expect(hostile.isdisjoint(stream.alarms), "no stream was stopped")

    def _is_done(self, stream: Stream) -> bool:
        forged = [f.seq for f in stream.log.durable_frames() if f.body.startswith(FORGED)]
        if forged:
            return "frame_refused" in stream.alarms and len(stream.merged) == forged[0] - 1
        return stream.shipper.acked.progress == stream.shipper.tail.progress


def _readable_frames(files: dict[int, bytes]) -> list[Frame]:
    found: list[Frame] = []
    for first in sorted(files):
        data = files[first]
        if len(data) >= HEADER_BYTES and _header_holds(data):
            found += scan(data).frames
    return found


ACTIONS: Final[tuple[tuple[int, Callable[[World, random.Random], None]], ...]] = (
    (6, lambda world, chance: world.write(_region(chance), chance.randint(1, 4))),
    (6, lambda world, chance: world.sync(_region(chance))),
    (2, lambda world, chance: world.seal(_region(chance))),
    (24, lambda world, chance: world.deliver(chance.randrange(8))),
    (3, lambda world, chance: world.lose(chance.randrange(8))),
    (3, lambda world, chance: world.double(chance.randrange(8))),
    (2, lambda world, chance: world.tear(chance.randrange(8))),
    (3, lambda world, chance: world.give_up(_region(chance))),
    (8, lambda world, chance: world.pass_time()),
    (12, lambda world, chance: world.disk(_region(chance))),
    (12, lambda world, chance: world.merge(_region(chance))),
    (2, lambda world, chance: world.flush(_region(chance))),
    (2, lambda world, chance: world.crash(_region(chance))),
    (1, lambda world, chance: world.raise_fence(_region(chance))),
    (2, lambda world, chance: world.adopt(_region(chance))),
)
"""How often each action is taken, and the action."""


def _region(chance: random.Random) -> str:
    return chance.choice(("eu1", "us1"))


def history(seed: int, parts: Parts | None = None, *, steps: int = 120) -> World:
    """Run one history and judge it; raises LostError."""
    chance = random.Random(seed)
    world = World(chance, parts)
    weights = [weight for weight, _ in ACTIONS]
    forged_at = chance.randrange(steps) if chance.random() < 0.15 else None
    for step in range(steps):
        _, action = chance.choices(ACTIONS, weights)[0]
        action(world, chance)
        if step == forged_at:
            world.write(_region(chance), 1, forged=True)
    world.judge_end()
    return world
