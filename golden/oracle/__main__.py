"""Write the vector files, or check that what is there is what would be written.

python -m golden.oracle build
python -m golden.oracle check
"""

from __future__ import annotations

import sys

from golden.oracle.manifest import build, check


def main(arguments: list[str]) -> int:
    if arguments == ["build"]:
        count = build()
        sys.stdout.write(f"{count} cases written\n")
        return 0
    if arguments == ["check"]:
        problems = check()
        for problem in problems:
            sys.stderr.write(problem + "\n")
        sys.stdout.write("vectors: " + ("as generated\n" if not problems else "not as generated\n"))
        return 1 if problems else 0
    sys.stderr.write(__doc__ or "")
    return 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
