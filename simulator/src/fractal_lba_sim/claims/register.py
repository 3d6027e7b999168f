"""Read the claims register: `spec/claims/*.yaml`, a file for each topic.

The invariant of this file: the register holds C001 to C158, each once, each valid by
spec/schemas/claims.json, and each with a check that fits it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fractal_lba_server.core.faults import DocumentError, Fault
from fractal_lba_server.schema_faults import schema_faults
from fractal_lba_server.yaml_document import Document, read_document

from .verdicts import COMPUTED, NOT_BUILT, NOT_CHECKABLE

CLAIMS: Final = tuple(f"C{number:03d}" for number in range(1, 159))
"""Every claim there is."""

UNCHECKED: Final = (NOT_BUILT, NOT_CHECKABLE)
"""What a claim may be that nothing checks here, and no other."""

_PACKAGE: Final = Path(__file__).resolve().parents[1]
_HOMES: Final = (_PACKAGE / "spec", _PACKAGE.parents[2] / "spec")


@dataclass(frozen=True, slots=True)
class Claim:
    """One promise, and how it is checked."""

    id: str
    topic: str
    seed: tuple[str, ...]
    """Where it stands: the stem of the source file, and the section."""
    words: str
    mechanism: str
    check: str
    expected: str
    command: str
    missing: str = ""
    """What of the mechanism is not built, by name."""
    why: str = ""
    """Why it is not checked in this process."""
    measured: str = ""
    """What a committed measurement says, and where it stands."""
    headline: str = ""
    """Of the results that come first: what it shows, in a sentence."""
    metric: str = ""
    """Of a simulated claim: what is looked at, and its bound."""

    @property
    def status(self) -> str:
        """Say whether the mechanism is there."""
        return f"not built: {self.missing}" if self.missing else "built"


@dataclass(frozen=True, slots=True)
class Topic:
    """The claims of one file."""

    name: str
    title: str
    claims: tuple[Claim, ...]


def spec_folder(*parts: str) -> Path:
    """Find a file of `spec/`: in the wheel, or in a checkout beside it."""
    for home in _HOMES:
        if home.joinpath(*parts).exists():
            return home.joinpath(*parts)
    raise FileNotFoundError(f"spec/{'/'.join(parts)}")


def load_topics(folder: Path | None = None) -> list[Topic]:
    """Read every file of a folder; raises DocumentError for what is not a register."""
    files = sorted((folder or spec_folder("claims")).glob("*.yaml"))
    documents = [read_document(path) for path in files]
    topics = [_topic(document) for document in documents]
    _refuse_holes(documents, topics)
    return sorted(topics, key=lambda topic: topic.claims[0].id)


def claims_of(topics: list[Topic]) -> dict[str, Claim]:
    """Give every claim by its id, in order."""
    found = {claim.id: claim for topic in topics for claim in topic.claims}
    return dict(sorted(found.items()))


def _topic(document: Document) -> Topic:
    faults = schema_faults("claims", document.value)
    if faults:
        raise document.error(faults)
    name, rows = document.path.stem, document.value["claims"]
    faults = [fault for place, row in enumerate(rows) for fault in _row_faults(place, row)]
    if faults:
        raise document.error(faults)
    claims = tuple(_claim(name, row) for row in rows)
    return Topic(name, document.value["title"], claims)


def _claim(topic: str, row: dict[str, Any]) -> Claim:
    return Claim(topic=topic, **{**row, "seed": tuple(row["seed"])})


def _row_faults(place: int, row: dict[str, Any]) -> list[Fault]:
    """Find what the schema cannot: words that do not fit each other."""
    own = f"flk-sim check {row['id']}"
    at, computed, faults = f"/claims/{place}", row["check"] in COMPUTED, []
    if computed and row["command"] != own:
        faults.append(Fault(f"{at}/command", "it is computed by flk-sim", f"write: {own}"))
    if row["check"] == "live" and row["command"].startswith("flk-sim check"):
        faults.append(Fault(f"{at}/command", "a live check runs something else", "name it"))
    if row["check"] == "not-here" and "why" not in row:
        faults.append(Fault(at, "says not why it is not checked here", "add why"))
    if (row["check"] == "not-here") != (row["expected"] in UNCHECKED):
        words = " or ".join(UNCHECKED)
        faults.append(Fault(f"{at}/expected", "does not fit the check", f"not-here: {words}"))
    if row["check"] == "simulated" and "metric" not in row:
        faults.append(Fault(at, "says not what is looked at", "add metric"))
    if row["expected"] == "not built" and "missing" not in row:
        faults.append(Fault(at, "says not what is not built", "add missing"))
    return faults


def _refuse_holes(documents: list[Document], topics: list[Topic]) -> None:
    ids = [claim.id for topic in topics for claim in topic.claims]
    problems = [f"{id} is there twice" for id in sorted({id for id in ids if ids.count(id) > 1})]
    problems += [f"{id} is not there" for id in CLAIMS if id not in ids]
    if problems:
        fault = Fault("/claims", "; ".join(problems), "each of C001 to C158 once")
        if not documents:
            raise DocumentError([fault])
        raise documents[0].error([fault])
