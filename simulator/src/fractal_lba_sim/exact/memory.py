"""Remember what pure functions gave for bytes that were seen before.

Parsing, canonicalizing, checking and verifying a record depend on its bytes and the policy alone.
Each region does it again for the same bytes; a world does it once. While a world runs these
functions stand in the place of those that they call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from fractal_lba import canonical, ids, sign
from fractal_lba_server.contract import record_shape
from fractal_lba_server.core import verify as verifying
from fractal_lba_server.core.policy import Policy

KNOWN_MAX: Final = 1 << 16
"""Records remembered; beyond it all are forgotten."""


class _Known:
    """What is known of one parsed record; it holds the record, so that its id stays its own."""

    __slots__ = ("canonical", "is_checked", "record", "verdicts")

    def __init__(self, record: Any) -> None:
        self.record = record
        self.canonical: canonical.Canonical | None = None
        self.is_checked = False
        self.verdicts: dict[str, verifying.Verdict] = {}


class Memory:
    """What one process remembers of records."""

    def __init__(self) -> None:
        self._parsed: dict[bytes, Any] = {}
        self._known: dict[int, _Known] = {}
        self._check = record_shape().check

    def parse(self, body: bytes, *args: Any, **more: Any) -> Any:
        """Parse bytes, or give what they were parsed to."""
        record = self._parsed.get(body)
        if record is None or args or more:
            record = canonical.parse(body, *args, **more)
            if len(self._parsed) >= KNOWN_MAX:
                self._parsed.clear()
                self._known.clear()
            self._parsed[body] = record
            self._known[id(record)] = _Known(record)
        return record

    def _of(self, record: Any) -> _Known | None:
        known = self._known.get(id(record))
        return known if known is not None and known.record is record else None

    def canonical_of(self, record: Any) -> canonical.Canonical:
        """Give the canonical form of a record."""
        known = self._of(record)
        if known is None:
            return canonical.canonicalize(record)
        if known.canonical is None:
            known.canonical = canonical.canonicalize(record)
        return known.canonical

    def check(self, record: Mapping[str, Any]) -> None:
        """Judge the shape of a record."""
        known = self._of(record)
        if known is not None and known.is_checked:
            return
        self._check(record)
        if known is not None:
            known.is_checked = True

    def verify(
        self, record: Mapping[str, Any], nanos: Mapping[str, int], policy: Policy
    ) -> verifying.Verdict:
        """Verify a record under a policy."""
        known = self._of(record)
        if known is None:
            return verifying.verify(record, nanos, policy)
        verdict = known.verdicts.get(policy.version)
        if verdict is None:
            verdict = known.verdicts[policy.version] = verifying.verify(record, nanos, policy)
        return verdict


MEMORY: Final = Memory()
_CORE: Final = "fractal_lba_server.core"
_check_signature: Callable[..., Any] = lru_cache(maxsize=KNOWN_MAX)(sign.check_signature)
_derive_pcs_id: Callable[..., Any] = lru_cache(maxsize=KNOWN_MAX)(ids.derive_pcs_id)

RULES: Final[Mapping[str, Any]] = {
    f"{_CORE}.{module}:{name}": function
    for module in ("ingest", "replay")
    for name, function in (
        ("parse", MEMORY.parse),
        ("canonicalize", MEMORY.canonical_of),
        ("verify", MEMORY.verify),
        ("check_signature", _check_signature),
        ("derive_pcs_id", _derive_pcs_id),
    )
}
"""What stands in the place of the pure functions of the core while a world runs."""
