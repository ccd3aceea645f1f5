"""(c) DiffFlow against a plain flow and DDPM on data with sharp boundaries; and what DiffFlow costs to train."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from bench.claims.base import MIN_SEEDS, Claim, Dots, Evidence, Finding
from bench.claims.rules import Comparison, Side, claim, one_sided
from bench.claims.statistics import logs, stratified
from bench.records import values

SHARP = ("rings", "two-spirals", "checkerboard")
DIFFFLOW = Side("DiffFlow", ("diffflow",))
FLOW = Side("normalizing flow", ("realnvp",))
DDPM = Side("DDPM", ("ddpm-simple", "ddpm"))
THEME = "(c) DiffFlow on sharp boundaries, and its cost"
STEPS = 10
SERIES = "mass_outside_by_steps"
OUTSIDE = "mass outside the support"


def at_steps(record: dict, steps: float) -> float | None:
    """The series at that many sampling steps, linear in log steps; None outside what was measured."""
    series = record["series"].get(SERIES)
    if record["status"] != "ok" or not series:
        return None
    points = sorted((x, y) for x, y in zip(series["x"], series["y"], strict=True) if y is not None)
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        if x0 <= steps <= x1:
            return y0 + (y1 - y0) * (math.log(steps / x0) / math.log(x1 / x0))
    return None


def decide_at_few_steps(records: Sequence[dict]) -> Finding:
    arms, shown = [], []
    for dataset in SHARP:
        cells = [_with_series(records, dataset, side) for side in (DIFFFLOW, DDPM)]
        if all(cells):
            arms.append(tuple([v for r in cell if (v := at_steps(r, STEPS)) is not None] for cell in cells))
            shown += [_curve(cell, dataset) for cell in cells]
    arms = [(a, b) for a, b in arms if a and b]
    if not arms:
        return Finding("not run", detail="no data set has the curve of both sides")
    seeds = min(len(arm) for both in arms for arm in both)
    evidence = Evidence("mass outside the support", tuple(shown), "sampling steps")
    if seeds < MIN_SEEDS:
        return Finding("inconclusive", seeds=seeds, detail="fewer than three seeds", evidence=evidence)
    effect = stratified(arms)
    detail = f"averaged over {len(arms)} of {len(SHARP)} data sets"
    return Finding(one_sided(-effect, 0), effect, "share of samples", seeds, detail, evidence)


def _with_series(records: Sequence[dict], dataset: str, side: Side) -> list[dict]:
    for row in side.rows:
        found = [
            r for r in records if r["run"]["dataset"] == dataset and r["run"]["row"] == row and SERIES in r["series"]
        ]
        if found:
            return found
    return []


def _curve(cell: Sequence[dict], dataset: str) -> Dots:
    run, grid = cell[0]["run"], sorted({x for r in cell for x in r["series"][SERIES]["x"]})
    points = [(x, [v for r in cell if (v := at_steps(r, x)) is not None]) for x in grid]
    points = [(x, statistics.fmean(found)) for x, found in points if found]
    return Dots(dataset, run["name"], run["group"], tuple(y for _, y in points), tuple(x for x, _ in points))


def _has_nats(record: dict) -> bool:
    """A GAN's loss does not converge in nats."""
    return record["likelihood"] is not None and record["likelihood"]["kind"] != "none"


def decide_slowest(records: Sequence[dict]) -> Finding:
    """DiffFlow's seconds to converge over those of the slowest other row, on each data set both ran on."""
    metric, pairs, shown, slowest = "seconds_to_within", [], [], []
    for dataset in SHARP:
        here = [r for r in records if r["run"]["dataset"] == dataset and _has_nats(r)]
        own = values([r for r in here if r["run"]["row"] == "diffflow"], metric)
        others = {r["run"]["row"] for r in here} - {"diffflow"}
        timed = {row: t for row in others if (t := values([r for r in here if r["run"]["row"] == row], metric))}
        if own and timed:
            row = max(sorted(timed), key=lambda name: statistics.fmean(timed[name]))
            pairs.append((logs(own), logs(timed[row])))
            slowest.append(f"{row} on {dataset}")
            for name in ("diffflow", *sorted(timed)):
                cell = [r for r in here if r["run"]["row"] == name]
                shown.append(
                    Dots(dataset, cell[0]["run"]["name"], cell[0]["run"]["group"], tuple(values(cell, metric)))
                )
    if not pairs:
        return Finding("not run", detail="no data set has training times of DiffFlow and of another row")
    seeds = min(len(arm) for both in pairs for arm in both)
    evidence = Evidence("seconds to within .1 nat of its end", tuple(shown), log=True)
    if seeds < MIN_SEEDS:
        return Finding("inconclusive", seeds=seeds, detail="fewer than three seeds", evidence=evidence)
    effect = stratified(pairs)
    return Finding(
        one_sided(effect, 0), effect.exp(), "×", seeds, f"the slowest others: {', '.join(slowest)}", evidence
    )


CLAIMS = (
    claim(
        "diffflow-sharper-than-nf",
        THEME,
        "DiffFlow draws sharper boundaries than a normalizing flow.",
        "the survey, section 7, expressivity",
        Comparison(DIFFFLOW, FLOW, "mass_outside", OUTSIDE, "share of samples", SHARP, shown=(DDPM,)),
    ),
    claim(
        "diffflow-sharper-than-ddpm",
        THEME,
        "DiffFlow draws sharper boundaries than DDPM.",
        "the survey, section 7, expressivity",
        Comparison(DIFFFLOW, DDPM, "mass_outside", OUTSIDE, "share of samples", SHARP, shown=(FLOW,)),
    ),
    Claim(
        "diffflow-few-steps",
        THEME,
        "DiffFlow needs fewer sampling steps than DDPM: it is better when both take few.",
        "the survey, section 7, sampling efficiency",
        f"DiffFlow and DDPM (ddpm-simple or ddpm) on {', '.join(SHARP)}, each sampled with several numbers of steps",
        f"mass outside the support at {STEPS} sampling steps, DiffFlow minus DDPM; mean over seeds and data sets",
        "supported if the 95 % interval lies below 0, refuted if above",
        decide_at_few_steps,
    ),
    Claim(
        "diffflow-slowest",
        THEME,
        "Of all the families DiffFlow is the slowest to train.",
        "the survey, section 7, training speed",
        f"DiffFlow and every other row on {', '.join(SHARP)}",
        "ratio of seconds to within .1 nat of the end, DiffFlow / slowest other row; geometric mean",
        "supported if the 95 % interval lies above 1, refuted if below",
        decide_slowest,
    ),
    claim(
        "diffflow-slower-than-ddpm",
        THEME,
        "DiffFlow trains more slowly than DDPM.",
        "the survey, section 7, training speed, after the DiffFlow paper's factor of 6 in two dimensions",
        Comparison(
            DIFFFLOW, DDPM, "seconds_to_within", "seconds to within .1 nat of its end", "×", SHARP,
            expected="higher", ratio=True, shown=(FLOW,),
        ),
    ),
)  # fmt: skip
