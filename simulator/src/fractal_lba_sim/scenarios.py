"""Find a scenario by name: those of the simulator, those of the server's drills, or a file.

The invariant of this file: a scenario that comes with a package is named by its name alone, so
that what is printed and written is the same on every machine.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Final

from fractal_lba_server.drill.scenario import FOLDER as DRILLS
from fractal_lba_server.drill.scenario import Scenario, ScenarioError, load_scenario
from fractal_lba_server.drill.scenario import shipped as names_in

_HERE: Final = Path(__file__).resolve()
FOLDERS: Final = (_HERE.parent / "scenarios", _HERE.parents[2] / "scenarios")
"""In an installed package, and in a source tree."""


def shipped() -> list[str]:
    """Name the simulator's own scenarios."""
    return names_in(FOLDERS)


def drills() -> list[str]:
    """Name the scenarios of the server's drills."""
    return names_in((DRILLS,))


def find_scenario(name: str, *, short: bool = False, control: bool = False) -> Scenario:
    """Read a scenario by its name or from a file.

    Raises ScenarioError if there is none, DocumentError for a faulty one, OSError for a file
    that cannot be read.
    """
    known = [*shipped(), *drills()]
    if name not in known and not Path(name).is_file():
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "`flk-sim list` names those there are"
        message = f"no scenario is called {name!r}, and no file; {hint}"
        raise ScenarioError(message)
    return load_scenario(name, short=short, control=control, folders=(*FOLDERS, DRILLS))
