"""The table of judges: what is always asked of a trace, and what a scenario may promise.

Names are those of `promises` in spec/schemas/scenario.json.
"""

from __future__ import annotations

from typing import Final

from . import conduct, verdicts
from .check import Judge

ALWAYS: Final[dict[str, Judge]] = {
    "complete": verdicts.complete,
    "effects": verdicts.effects,
    "accounting": verdicts.accounting,
    "answers": verdicts.answers,
    "phantom": verdicts.phantom,
    "resurrected": verdicts.resurrected,
    "first_write": verdicts.first_write,
}

NEED_CONTENT: Final = frozenset({"answers", "first_write"})
"""What is not asked of a trace of runs alone, which carry neither contents nor stamps."""

PROMISES: Final[dict[str, Judge]] = {
    "rto_s": verdicts.rto_s,
    "rpo_s": verdicts.rpo_s,
    "rpo_work_s": verdicts.rpo_work_s,
    "rpo_records": verdicts.rpo_records,
    "no_loss_at_level": verdicts.no_loss_at_level,
    "no_loss_end_to_end": verdicts.no_loss_end_to_end,
    "linearizable": verdicts.linearizable,
    "digests_equal": verdicts.digests_equal,
    "single_writer": conduct.single_writer,
    "canary": conduct.canary,
    "displaced_max": conduct.displaced_max,
    "displaced_min": conduct.displaced_min,
    "recovered_late_min": conduct.recovered_late_min,
    "stale_read_ms_max": conduct.stale_read_ms_max,
    "success_share_min": conduct.success_share_min,
    "errors_max": conduct.errors_max,
    "write_pause_ms_max": conduct.write_pause_ms_max,
    "lag_p99_ms_max": conduct.lag_p99_ms_max,
    "hlc_ahead_ms_max": conduct.hlc_ahead_ms_max,
    "refused_min": conduct.refused_min,
    "residency": conduct.residency,
}
