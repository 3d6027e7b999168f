"""Claims that the sources make about themselves: their own numbers, added up again.

C043, C093 to C096, C124 and C138. What a source says is quoted here, so that the sum is done anew.
"""

from __future__ import annotations

import re

from .checking import Run, checks
from .verdicts import HOLDS, NOT_ENOUGH, REFUTED, Finding

DEFERRED = (
    "CRR code", "dedup-migrate CLI", "cold tier driver", "audit queue workers",
    "execution of golden tests", "automated reconciliation", "cross-shard queries",
    "automated rebalancing", "compression", "demotion worker", "batch anchoring",
    "npm publication", "Go publication",
)  # fmt: skip
"""What section 6.1 of the report calls deferred, planned or a stub: 13 of its 14 points."""


@checks("C043")
def verified_migration(run: Run) -> Finding:
    """Hold section 0 of the report against its section 6.1."""
    deferred = [name for name in DEFERRED if "migrate" in name]
    return Finding(
        REFUTED if deferred else HOLDS,
        "section 0 says 'zero downtime verified', section 6.1 'dedup-migrate CLI documented, "
        "implementation planned': what is not there was not verified",
        change="run it: here 20 cutovers under load are measured (docs/performance.md, C040)",
    )


@checks("C093")
def test_counts(run: Run) -> Finding:
    """Add up the tests."""
    first, second, planned, total = 33, 15, 154, 202
    listed = {"3.1": 7 + 6 + 6 + 6 + 3, "3.2": 4 + 4 + 3, "3.3": 7 + 7}
    bullets = sum(listed.values())
    sums = first + second == 48 and first + second + planned == total
    return Finding(
        NOT_ENOUGH if sums else REFUTED,
        f"33 + 15 = {first + second} and 48 + 154 = {first + second + planned} add up; section 3 "
        f"lists {bullets} planned tests, not 154, and neither the 33 nor the 15 are in the sources",
        f"{planned - bullets} tests are nowhere",
        "list them, or say what ran",
        {"bullets": bullets},
    )


@checks("C094")
def lines_of_code(run: Run) -> Finding:
    """Add up the lines."""
    code = (220, 259, 231, 298)
    others = (150, 45, 20, 200)
    said, found = 1_523, sum(code)
    whole = found + sum(others)
    return Finding(
        HOLDS if said == found else REFUTED,
        f"{' + '.join(map(str, code))} = {found:,}, not {said:,}; with the listed documents and "
        f"configuration {whole:,}",
        f"{said - found} lines are not there",
        f"say {found:,}",
        {"found": found, "with_others": whole},
    )


@checks("C095")
def words_of_runbooks(run: Run) -> Finding:
    """Add up the words."""
    parts = (8_000, 7_000, 8_500, 6_500, 7_500)
    said, found = 38_000, sum(parts)
    return Finding(
        HOLDS if found >= said else REFUTED,
        f"the lower bounds of the five runbooks add up to {found:,}, not '38,000+'",
        f"off by {said - found}",
        f"say {found:,}+; the runbooks themselves are not in the sources",
        {"found": found},
    )


@checks("C096")
def completed(run: Run) -> Finding:
    """Hold 'all 7 packages completed' against what the report defers."""
    return Finding(
        REFUTED,
        f"section 6.1 defers {len(DEFERRED)} parts ({', '.join(DEFERRED[:5])}, ...), section 6.2 "
        "lists work packages 1 to 4, 6 and 7 as to be completed, and section 8 ticks 2, 3, 5 and "
        "the runbooks of 1",
        "6 of 7 packages are listed as unfinished",
        "say what is there",
        {"deferred": len(DEFERRED)},
    )


@checks("C124")
def three_alerts(run: Run) -> Finding:
    """Count the alerts that one page promises and lists."""
    promised = 3
    listed = ("anchor latency", "queue depth", "divergence > 0", "coverage < 100 %")
    other = ("coverage < 100 %", "anchor latency", "divergence > 0", "notary lag > 60 s")
    return Finding(
        HOLDS if promised == len(listed) else REFUTED,
        f"{promised} alerts are promised and {len(listed)} rules listed; the later page has "
        f"{len(other)}, together {len(set(listed) | set(other))}",
        change=f"promise the union: {len(set(listed) | set(other))} rules",
        facts={"listed": len(listed), "union": len(set(listed) | set(other))},
    )


PATCH = """\
diff --git a/impl/ledger-svc/app/config.py b/impl/ledger-svc/app/config.py
index 3b2a2a2..4d4d4d4 100644
--- a/impl/ledger-svc/app/config.py
+++ b/impl/ledger-svc/app/config.py
@@
 NOTARY_ENABLED = os.getenv("NOTARY_ENABLED", "true").lower() == "true"
"""
"""How the patch of the source begins."""

_HUNK = re.compile(r"@@ -\d+(,\d+)? \+\d+(,\d+)? @@.*")


@checks("C138")
def patch_applies(run: Run) -> Finding:
    """Ask whether the patch has hunks that say where they belong."""
    heads = [line for line in PATCH.splitlines() if line.startswith("@@")]
    bare = [head for head in heads if not _HUNK.fullmatch(head)]
    line = PATCH.splitlines().index(bare[0]) + 1 if bare else 0
    return Finding(
        REFUTED if bare else HOLDS,
        f"line {line} is '{bare[0] if bare else ''}': a hunk must name its lines, as in "
        "'@@ -1,3 +1,4 @@'; git apply says 'patch with only garbage at line 5'",
        "every hunk of the patch is written so",
        "write the ranges (git diff does)",
        {"line": line},
    )
