"""Print what plan predicts of every public incident; with --write, put it into their files.

To be run when the engine changes, and to be committed with that change: then a reader of the
history sees that a prediction moved with the model, and not with what was observed.
"""

from __future__ import annotations

import re
import sys

from fractal_lba_sim.incidents import fresh, load_incident, shipped_incidents
from fractal_lba_sim.scenarios import FOLDERS

LINE = re.compile(r"^predicted: .*$", re.MULTILINE)


def main(words: list[str]) -> None:
    for name in shipped_incidents():
        incident = load_incident(name)
        found = fresh(incident, incident.scenario)
        line = f"predicted: {{p5_s: {found.p5_s}, p50_s: {found.p50_s}, p95_s: {found.p95_s}}}"
        print(f"{name}: {line} ratio {found.ratio:.1f}")
        path = next(p for p in (f / "incidents" / f"{name}.yaml" for f in FOLDERS) if p.is_file())
        if words == ["--write"]:
            text, count = LINE.subn(line, path.read_text(encoding="utf-8"))
            assert count == 1
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
