"""Drives the ingest machine with a list: events in, effects out, nothing carried out by itself."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from typing import Any, Final

from region import HMAC_KEYS, tenants_document

from fractal_lba_server.contract import record_shape
from fractal_lba_server.core.first_write import Apply, Origin, Stored
from fractal_lba_server.core.ingest import Ingest, Settings
from fractal_lba_server.core.ingest_events import (
    Answer,
    Append,
    Ask,
    BodyReceived,
    Effect,
    FrameSynced,
    Refuse,
    StoreAnswered,
)
from fractal_lba_server.core.policy import PolicyBook
from fractal_lba_server.core.streams import StreamStart
from fractal_lba_server.core.tenants import Directory, directory_of

NOW_NS: Final = 1_768_478_400_000_000_000
MS: Final = 1_000_000
ORIGIN: Final = Origin("loc", "open", 1)


def directory(document: dict[str, Any] | None = None) -> Directory:
    """Build the directory of a tenants file whose secrets are the test's keys."""
    document = tenants_document() if document is None else document
    secrets = {
        f"/tenants/{i}/keys/{j}": HMAC_KEYS[key["secret"]["file"].removesuffix(".key")]
        for i, tenant in enumerate(document["tenants"])
        for j, key in enumerate(tenant["keys"])
        if "secret" in key
    }
    return directory_of(document, secrets)


DIRECTORY: Final = directory()


class Machine:
    """One machine and the effects that nobody has carried out yet."""

    def __init__(
        self, *, kind: type[Ingest] = Ingest, policies: PolicyBook | None = None,
        next_seq: int = 1, last_hlc: int = 0, streams: Sequence[StreamStart] = (), **settings: Any,
    ) -> None:  # fmt: skip
        self.core = kind(
            Settings("loc", **settings),
            check=record_shape().check,
            directory=DIRECTORY,
            policies=policies or PolicyBook(),
            streams=streams or (StreamStart(next_seq=next_seq),),
            last_hlc=last_hlc,
            rank=("loc", "eu1", "us1").index,
        )
        self.now_ns = NOW_NS
        self._tokens = itertools.count()

    def feed(self, event: object) -> list[Effect]:
        """Give one event; get the effects."""
        return self.core.on_event(event, self.now_ns)

    def one(self, event: object) -> Any:
        """Give one event that has exactly one effect."""
        (effect,) = self.feed(event)
        return effect

    def submit(self, body: bytes, token: Hashable = None, **facts: Any) -> list[Effect]:
        """Submit a record; the store knows of no id."""
        token = next(self._tokens) if token is None else token
        effects = self.feed(BodyReceived(token, body, **facts))
        if effects and isinstance(effects[0], Ask):
            return self.feed(StoreAnswered(effects[0].key, None))
        return effects

    def refused(self, body: bytes, **facts: Any) -> str:
        """Submit a record that is refused; give the code."""
        (effect,) = self.submit(body, **facts)
        assert isinstance(effect, Refuse)
        return effect.code

    def recorded(self, body: bytes, **facts: Any) -> Stored:
        """Submit a record, make it durable, and give what is stored."""
        (append,) = self.submit(body, **facts)
        assert isinstance(append, Append)
        apply, answer = self.feed(FrameSynced(append.seq))
        assert isinstance(apply, Apply)
        assert isinstance(answer, Answer)
        assert answer.stored == apply.stored
        return answer.stored
