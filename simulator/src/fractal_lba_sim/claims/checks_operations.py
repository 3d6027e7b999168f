"""Claims about operation and privacy: noise, canaries, budgets, order of checks (C089 to C101)."""

from __future__ import annotations

import numpy as np

from .. import formulas as f
from .checking import Run, checks
from .models_shipping import SEED
from .verdicts import CONDITIONAL, REFUTED, DisagreementError, Finding, agree, duration


@checks("C089")
def noise(run: Run) -> Finding:
    """Draw Laplace noise, and hold it against its formula."""
    count, epsilon = run.trials(200_000, 50_000), 0.5
    scale = f.laplace_scale(1, epsilon)
    chance = np.random.Generator(np.random.PCG64(SEED))
    draws = np.sort(np.abs(chance.laplace(0, scale, count)))
    exact = 1 - np.exp(-draws / scale)
    ranks = np.arange(1, count + 1) / count
    gap = float(np.max(np.maximum(np.abs(ranks - exact), np.abs(ranks - 1 / count - exact))))
    if gap > 1.949 / count**0.5:
        message = f"noise is not Laplace's: distance {gap:.4f}"
        raise DisagreementError(message)
    p95 = f.laplace_error(scale, 0.95)
    agree("p95 of noise", found=float(draws[int(0.95 * count)]), exact=p95, within=0.1 * scale)
    return Finding(
        CONDITIONAL,
        f"no figure of utility is given. With epsilon {epsilon:g} and sensitivity 1 the error is "
        f"below {p95:.2f} in 95 % of exports (Laplace); averaging n exports takes sqrt(n) off it "
        "and must cost n epsilon",
        f"p95 = 3.00 x sensitivity / epsilon; distance from Laplace's {gap:.4f} in {count:,} draws",
        "name the error that is allowed: epsilon >= 3 x sensitivity / error",
        {"p95": round(p95, 4)},
    )


@checks("C090")
def canary(run: Run) -> Finding:
    """Ask how many requests a canary of 10 % spends until it is rolled back."""
    needed = f.detection_sample(0.01, 0.02, f.normal_quantile(0.95), f.normal_quantile(0.8))
    seconds = needed / (0.1 * 2_000)
    return Finding(
        CONDITIONAL,
        f"to see 2 % errors instead of 1 % takes {needed:,} requests of the canary "
        f"({duration(seconds)} of 10 % at 2,000/s), so about {0.02 * needed:.0f} fail before the "
        "rollback",
        "one-sided 5 %, power 80 %",
        f"hold each step for at least {needed:,} requests; core.ramp does the same for a region "
        "(C011)",
        {"requests": needed},
    )


@checks("C091")
def burn_rate(run: Run) -> Finding:
    """Ask how fast a budget burns, and when a rule sees it."""
    slo, errors, period_s = 0.999, 0.0144, f.MONTH_S
    burn = errors / (1 - slo)
    seen_s = 0.02 * period_s / burn
    return Finding(
        CONDITIONAL,
        f"1.44 % errors burn a budget of 0.1 % {burn:.1f} times too fast: 2 % of a month's budget "
        f"are gone after {duration(seen_s)}",
        "burn = errors / (1 - SLO); detection after share x period / burn",
        "choose the thresholds; the source has none",
        {"burn": round(burn, 3), "seen_s": round(seen_s, 1)},
    )


@checks("C101")
def order_of_checks(run: Run) -> Finding:
    """Follow one forged record through both orders of the same steps."""
    listed = ("append", "ship", "parse", "signature", "dedup")
    here = ("parse", "signature", "dedup", "append", "ship")
    reached = {
        name: [step for step in steps[: steps.index("signature")] if step in {"append", "ship"}]
        for name, steps in (("listed", listed), ("here", here))
    }
    return Finding(
        REFUTED if reached["listed"] else CONDITIONAL,
        f"'WAL before parse' comes before the signature: a forged record passes "
        f"{' and '.join(reached['listed'])} and lies in the other region's log, though not in its "
        "dedup state. Here a record is appended after its signature held, and verified again by "
        "the region that gets it (core.replay)",
        f"steps before the signature that leave the process: {len(reached['listed'])} listed, "
        f"{len(reached['here'])} here",
        "append after the check, or hold shipping until the verdict",
        {"listed": len(reached["listed"]), "here": len(reached["here"])},
    )
