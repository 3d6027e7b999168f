"""Judge the repository as a reader would, and say file, line and fix: `python -m tools.tidy`.

Every check yields findings; a soft finding is printed, any other fails the run. With names of
checks only those run. The mutants in `tools/tests/mutants/` show what each check must find.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tools import tidy_code, tidy_contract, tidy_other, tidy_text
from tools.tidy_tree import Finding, Tree

ROOT = Path(__file__).resolve().parent.parent

CHECKS: dict[str, Callable[[Tree], Iterator[Finding]]] = {
    **tidy_code.CHECKS,
    **tidy_text.CHECKS,
    **tidy_contract.CHECKS,
    **tidy_other.CHECKS,
}


def judge(tree: Tree, names: list[str] | None = None) -> list[Finding]:
    """Run the named checks, or all, and give what they find in order of file and line."""
    return sorted({finding for name in names or CHECKS for finding in CHECKS[name](tree)})


def proportion(tree: Tree) -> str:
    """Say how many lines of tests stand beside each line of source; printed, never enforced."""
    parts = []
    for part in ("sdk-python", "reference-server", "simulator", "golden", "tools"):
        sources = [s for s in tree.python if s.path.startswith(f"{part}/")]
        tests = sum(len(s.lines) for s in sources if s.is_test)
        lines = sum(len(s.lines) for s in sources if not s.is_test)
        parts.append(f"{part} {tests / max(lines, 1):.2f}")
    return "test lines per source line: " + ", ".join(parts)


def main(arguments: list[str]) -> int:
    """Print the findings and the proportion; fail on the first kind that is not soft."""
    unknown = sorted(set(arguments) - set(CHECKS))
    if unknown:
        sys.stderr.write(f"no check is called {', '.join(unknown)}; there are {sorted(CHECKS)}\n")
        return 2
    tree = Tree.of(ROOT)
    found = judge(tree, arguments)
    hard = sum(not finding.soft for finding in found)
    for finding in found:
        sys.stdout.write(f"{finding}\n")
    sys.stdout.write(f"{proportion(tree)}\n")
    sys.stdout.write(f"tidy: {len(tree.every)} files, {hard} findings, {len(found) - hard} notes\n")
    return 1 if hard else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
