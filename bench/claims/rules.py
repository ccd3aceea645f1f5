"""The decision rules that claims share. Each rule's words are made beside its code, so that they cannot part."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.claims.base import MIN_SEEDS, Claim, Dots, Evidence, Finding, Verdict
from bench.claims.statistics import Arm, Interval, contrast, difference, logs, stratified
from bench.records import values

Records = Sequence[dict]
Pairs = Mapping[str, tuple[Records, Records]]
"""Data set -> the records of both sides."""
LIKELIHOOD_METRICS = ("kl_to_truth", "bits_per_dim", "log_likelihood")


@dataclass(frozen=True)
class Side:
    """One side of a comparison: the first of ``rows`` that has the number stands for ``name``."""

    name: str
    rows: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name} ({' or '.join(self.rows)})"

    def records(self, records: Records, dataset: str, metric: str) -> list[dict]:
        for row in self.rows:
            found = [r for r in records if r["run"]["dataset"] == dataset and r["run"]["row"] == row]
            if values(found, metric):
                return found
        return []


def one_sided(interval: Interval, threshold: float) -> Verdict:
    """Is the quantity above the threshold? Decided only where the whole interval lies on one side."""
    if interval.low > threshold:
        return "supported"
    return "refuted" if interval.high < threshold else "inconclusive"


def inside(interval: Interval, low: float, high: float) -> Verdict:
    """Is the quantity within [low, high]? Supported if all of its interval is, refuted if none of it is."""
    if low <= interval.low and interval.high <= high:
        return "supported"
    return "refuted" if interval.low > high or interval.high < low else "inconclusive"


def invalid(records: Records, metric: str) -> list[str]:
    """Failed gates that void a likelihood-based number."""
    if not metric.startswith(LIKELIHOOD_METRICS):
        return []
    failed = {
        (r["run"]["row"], r["run"]["dataset"], g) for r in records for g, v in r["gates"].items() if not v["passed"]
    }
    return [f"gate `{gate}` failed for {row} on {dataset}" for row, dataset, gate in sorted(failed)]


def dots(records: Records, metric: str, panel: str = "") -> Dots:
    run = records[0]["run"]
    return Dots(panel or run["dataset"], run["name"], run["group"], tuple(values(records, metric)))


@dataclass(frozen=True)
class Comparison:
    """Is ``a`` better than ``b`` in ``metric``, averaged over the data sets that have both?

    The effect is a - b, or the ratio a / b where ``ratio``. ``expected``: which sign the claim predicts. ``margin``
    (in the effect's unit; for ratios a factor) is what counts as a difference. ``equal``: the claim is that there is
    none beyond ``margin``. ``no_larger``: void where ``a`` has more parameters than ``b``.
    """

    a: Side
    b: Side
    metric: str
    label: str
    unit: str
    datasets: tuple[str, ...]
    expected: str = "lower"
    margin: float = 0.0
    ratio: bool = False
    equal: bool = False
    shown: tuple[Side, ...] = ()
    no_larger: bool = False

    @property
    def experiment(self) -> str:
        return f"{self.a} and {self.b} on {', '.join(self.datasets)}"

    @property
    def statistic(self) -> str:
        sides = (self.a.name, self.b.name)
        over = "mean over seeds and data sets" if len(self.datasets) > 1 else "mean over seeds"
        if self.ratio:
            return f"ratio of {self.label}, {' / '.join(sides)}; geometric {over}"
        return f"{self.label}, {' minus '.join(sides)}; {over}"

    @property
    def rule(self) -> str:
        several = "; inconclusive if a single data set decides against the whole" if len(self.datasets) > 1 else ""
        if self.equal:
            within = f"±{self.margin:g} {self.unit}"
            return f"supported if the 95 % interval lies within {within}, refuted if wholly outside{several}"
        edge = self.margin or (1 if self.ratio else 0)
        sides = ("below", "above") if self.expected == "lower" else ("above", "below")
        size = f"; void where {self.a.name} has the more parameters" if self.no_larger else ""
        return f"supported if the 95 % interval lies {sides[0]} {edge:g}, refuted if {sides[1]}{several}{size}"

    def __call__(self, records: Records) -> Finding:
        found = {d: tuple(s.records(records, d, self.metric) for s in (self.a, self.b)) for d in self.datasets}
        pairs = {d: both for d, both in found.items() if all(both)}
        if not pairs:
            return Finding("not run", detail="no data set has records of both sides")
        arms = {d: (self._arm(a), self._arm(b)) for d, (a, b) in pairs.items()}
        seeds = min(len(arm) for both in arms.values() for arm in both)
        evidence = self._evidence(records, pairs)
        if seeds < MIN_SEEDS:
            return Finding("inconclusive", None, self.unit, seeds, "fewer than three seeds", evidence)
        overall = stratified(list(arms.values()))
        effects = {d: difference(a, b) for d, (a, b) in arms.items()}
        doubts = self._doubts(overall, effects, pairs)
        verdict = "inconclusive" if doubts else self._decide(overall)
        notes = [f"{d} {self._text(effect)}" for d, effect in effects.items()] if len(effects) > 1 else []
        absent = [d for d in self.datasets if d not in pairs]
        notes += doubts + ([f"no cells on {', '.join(absent)}"] if absent else [])
        unit = "×" if self.ratio else self.unit
        return Finding(verdict, self._scale(overall), unit, seeds, "; ".join(notes), evidence)

    def _doubts(self, overall: Interval, effects: Mapping[str, Interval], pairs: Pairs) -> list[str]:
        """What forbids a verdict: a data set that decides the other way, a failed gate, an unfair size."""
        used = [r for both in pairs.values() for side in both for r in side]
        opposed = {"supported": "refuted", "refuted": "supported"}.get(self._decide(overall))
        against = [d for d, effect in effects.items() if self._decide(effect) == opposed]
        otherwise = [f"{', '.join(against)} says otherwise"] if against else []
        return otherwise + self._lost(used) + invalid(used, self.metric) + self._oversized(pairs)

    def _lost(self, used: Records) -> list[str]:
        """Seeds without a value: leaving the worst out would flatter what is left."""
        lost = [r["run"] for r in used if not values([r], self.metric)]
        return [f"{run['row']} on {run['dataset']} has no value for seed {run['seed']}" for run in lost]

    def _oversized(self, pairs: Pairs) -> list[str]:
        if not self.no_larger:
            return []
        sizes = {d: [max(values(side, "parameters")) for side in both] for d, both in pairs.items()}
        return [
            f"{self.a.name} has {a:,.0f} parameters on {d}, {self.b.name} {b:,.0f}"
            for d, (a, b) in sizes.items()
            if a > b
        ]

    def _arm(self, records: Records) -> Arm:
        found = values(records, self.metric)
        return logs(found) if self.ratio else found

    def _decide(self, effect: Interval) -> Verdict:
        if self.equal:
            return inside(effect, -self.margin, self.margin)
        threshold = math.log(self.margin) if self.ratio and self.margin else self.margin
        return one_sided(effect, threshold) if self.expected == "higher" else one_sided(-effect, -threshold)

    def _scale(self, effect: Interval) -> Interval:
        return effect.exp() if self.ratio else effect

    def _text(self, effect: Interval) -> str:
        shown = self._scale(effect)
        return f"{shown.estimate:.3g} [{shown.low:.3g}, {shown.high:.3g}]".replace("-", "−")

    def _evidence(self, records: Records, pairs: dict) -> Evidence:
        plotted = []
        for dataset, (a, b) in pairs.items():
            extra = [side.records(records, dataset, self.metric) for side in self.shown]
            taken: set[str] = set()
            for found in (b, a, *extra):
                if found and found[0]["run"]["row"] not in taken:
                    taken.add(found[0]["run"]["row"])
                    plotted.append(dots(found, self.metric, dataset))
        unit = "" if self.unit in ("", "×", "modes", self.label) else f", {self.unit}"
        return Evidence(f"{self.label}{unit}", tuple(plotted), log=self.ratio)


@dataclass(frozen=True)
class Level:
    """Is ``metric`` of a side above a threshold, averaged over data sets?"""

    side: Side
    metric: str
    label: str
    unit: str
    datasets: tuple[str, ...]
    threshold: float

    @property
    def experiment(self) -> str:
        return f"{self.side} on {', '.join(self.datasets)}"

    @property
    def statistic(self) -> str:
        return f"mean over seeds of {self.label}"

    @property
    def rule(self) -> str:
        return f"supported if the 95 % interval lies above {self.threshold:g} {self.unit}, refuted if below".replace(
            "  ", " "
        )

    def __call__(self, records: Records) -> Finding:
        found = {d: self.side.records(records, d, self.metric) for d in self.datasets}
        found = {d: cell for d, cell in found.items() if cell}
        if not found:
            return Finding("not run", detail=f"no records of {' or '.join(self.side.rows)}")
        arms = [values(cell, self.metric) for cell in found.values()]
        seeds = min(map(len, arms))
        shown = tuple(dots(cell, self.metric) for cell in found.values())
        evidence = Evidence(
            f"{self.label}, {self.unit}" if self.unit != "modes" else self.label, shown, reference=self.threshold
        )
        if seeds < MIN_SEEDS:
            return Finding(
                "inconclusive", seeds=seeds, unit=self.unit, detail="fewer than three seeds", evidence=evidence
            )
        effect = contrast([(1 / len(arms), arm) for arm in arms])
        return Finding(one_sided(effect, self.threshold), effect, self.unit, seeds, evidence=evidence)


def claim(id: str, theme: str, sentence: str, section: str, test: Comparison | Level) -> Claim:
    """A claim whose words on experiment, statistic and rule come from the test that decides it."""
    return Claim(id, theme, sentence, section, test.experiment, test.statistic, test.rule, test)
