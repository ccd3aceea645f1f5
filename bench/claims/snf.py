"""(b) What stochasticity buys a flow on the double well, and (f) whether it pays for its time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.claims.base import MIN_SEEDS, Claim, Dots, Evidence, Finding
from bench.claims.rules import Comparison, Side, claim, inside, one_sided
from bench.claims.statistics import slope
from bench.records import values

WELL = "double-well"
NONE = Side("flow without stochastic blocks", ("snf-none", "realnvp"))
METROPOLIS = Side("SNF with Metropolis blocks", ("snf-metropolis",))
OTHERS = (Side("Langevin", ("snf-langevin",)), Side("underdamped", ("snf-underdamped",)))
STEPS = {"snf-metropolis-2": 2, "snf-metropolis-5": 5, "snf-metropolis": 20}
ABLATION = "(b) Stochastic blocks on the double well"
EFFICIENCY = "(f) Does stochasticity pay for its time?"


def by_steps(records: Sequence[dict], metric: str) -> tuple[list[tuple[int, float]], tuple[Dots, ...], int]:
    """(Metropolis steps per block, value) of every seed, the same for the plot, and the fewest seeds of a variant."""
    points, shown, counts = [], [], []
    for row, steps in STEPS.items():
        cell = [r for r in records if r["run"]["row"] == row and r["run"]["dataset"] == WELL]
        found = values(cell, metric)
        if found:
            points += [(steps, v) for v in found]
            counts.append(len(found))
            run = cell[0]["run"]
            shown.append(Dots(WELL, run["name"], run["group"], tuple(found), (float(steps),) * len(found)))
    return points, tuple(shown), min(counts, default=0) if len(counts) > 1 else 0


def decide_more_is_better(records: Sequence[dict]) -> Finding:
    points, shown, seeds = by_steps(records, "total_variation")
    evidence = Evidence("total variation to the truth", shown, "Metropolis steps per block")
    if not seeds:
        return Finding("not run", detail="fewer than two of the step-count variants have records")
    if seeds < MIN_SEEDS:
        return Finding("inconclusive", seeds=seeds, detail="fewer than three seeds", evidence=evidence)
    effect = slope([math.log2(steps) for steps, _ in points], [v for _, v in points])
    return Finding(one_sided(-effect, 0), effect, "per doubling", seeds, evidence=evidence)


def decide_linear_cost(records: Sequence[dict]) -> Finding:
    """Exponent p of extra cost ~ steps^p, over the mean cost of the flow without blocks."""
    metric = "seconds_per_1000_samples"
    points, shown, seeds = by_steps(records, metric)
    plain = values(NONE.records(records, WELL, metric), metric)
    evidence = Evidence("ms per sample", shown, "Metropolis steps per block", log=True)
    if not seeds or not plain:
        return Finding("not run", detail="needs the step-count variants and the flow without blocks")
    base = sum(plain) / len(plain)
    extra = [(steps, v - base) for steps, v in points if v > base]
    if seeds < MIN_SEEDS or len({steps for steps, _ in extra}) < 2 or len(extra) < 3:
        return Finding(
            "inconclusive", seeds=seeds, detail="too few runs cost more than the flow without blocks", evidence=evidence
        )
    effect = slope([math.log(steps) for steps, _ in extra], [math.log(v) for _, v in extra])
    return Finding(inside(effect, 0.75, 1.25), effect, "exponent", seeds, evidence=evidence)


def _against_none(metric: str, label: str, unit: str, expected: str = "lower") -> Comparison:
    return Comparison(METROPOLIS, NONE, metric, label, unit, (WELL,), expected, shown=OTHERS)


ABLATION_CLAIMS = (
    claim(
        "snf-better-samples",
        ABLATION,
        "Stochastic blocks make a flow's samples of a two-mode target better.",
        "the survey, section 7, expressivity (SNF over NF)",
        _against_none("total_variation", "total variation to the truth", ""),
    ),
    claim(
        "snf-less-bias",
        ABLATION,
        "Reweighted estimates of a free-energy difference are less biased with stochastic blocks.",
        "after the SNF paper's double-well table",
        _against_none("free_energy_bias_reweighted", "error of ΔF, reweighted", "kT"),
    ),
    claim(
        "snf-more-ess",
        ABLATION,
        "Stochastic blocks raise the effective sample size.",
        "after the SNF paper; the survey, section 7, sampling efficiency",
        _against_none("ess", "effective sample size", "share", "higher"),
    ),
    claim(
        "snf-better-log-z",
        ABLATION,
        "Stochastic blocks improve the estimate of log Z.",
        "after the SNF paper",
        _against_none("log_z_error", "error of log Z", "nats"),
    ),
    Claim(
        "snf-more-noise",
        ABLATION,
        "The more stochastic steps, the better the samples.",
        "the survey, section 7 (is noise needed at all?)",
        f"Metropolis SNFs with {', '.join(map(str, STEPS.values()))} steps per block on {WELL}",
        "least-squares slope of total variation on log2(steps), over all seeds",
        "supported if the 95 % interval lies below 0, refuted if above",
        decide_more_is_better,
    ),
    Claim(
        "snf-linear-cost",
        ABLATION,
        "The extra cost of stochastic blocks is linear in their number of steps.",
        "the survey, section 7, training speed and sampling efficiency",
        f"Metropolis SNFs with {', '.join(map(str, STEPS.values()))} steps per block, and no blocks, on {WELL}",
        "least-squares exponent p of (ms per sample − that of the flow without blocks) ~ steps^p, over all seeds",
        "supported if the 95 % interval lies within [.75, 1.25], refuted if wholly outside",
        decide_linear_cost,
    ),
)

EFFICIENCY_CLAIMS = (
    claim(
        "snf-slower",
        EFFICIENCY,
        "An SNF samples more slowly than a normalizing flow.",
        "the survey, section 7, sampling efficiency",
        Comparison(
            METROPOLIS, NONE, "seconds_per_1000_samples", "ms per sample", "×", (WELL,), "higher",
            ratio=True, shown=OTHERS,
        ),
    ),
    claim(
        "snf-ess-per-second",
        EFFICIENCY,
        "Stochastic blocks pay for their time: more effective samples per second.",
        "the survey, section 7, sampling efficiency",
        Comparison(
            METROPOLIS, NONE, "ess_per_second", "effective samples per second", "×", (WELL,), "higher",
            ratio=True, shown=OTHERS,
        ),
    ),
)  # fmt: skip
