"""What a claim is: a sentence, an experiment, a statistic, a rule fixed beforehand, and what was found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from bench.claims.statistics import Interval

Verdict = Literal["supported", "refuted", "inconclusive", "not run"]
MIN_SEEDS = 3


@dataclass(frozen=True)
class Dots:
    """One arm of an experiment in the evidence plot: a value per seed, or with ``x`` a curve."""

    panel: str
    label: str
    group: str
    y: tuple[float, ...]
    x: tuple[float, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """What the claim's figure shows."""

    y_label: str
    dots: tuple[Dots, ...] = ()
    x_label: str = ""
    reference: float | None = None
    log: bool = False


@dataclass(frozen=True)
class Finding:
    """The verdict and what it rests on. ``seeds``: the fewest in any arm."""

    verdict: Verdict
    effect: Interval | None = None
    unit: str = ""
    seeds: int = 0
    detail: str = ""
    evidence: Evidence = field(default_factory=lambda: Evidence(""))


@dataclass(frozen=True)
class Claim:
    """One testable sentence. ``theme`` groups claims in the report; ``section`` says where the survey makes it."""

    id: str
    theme: str
    sentence: str
    section: str
    experiment: str
    statistic: str
    rule: str
    decide: Callable[[Sequence[dict]], Finding]


@dataclass(frozen=True)
class Result:
    claim: Claim
    finding: Finding

    def effect_text(self) -> str:
        effect = self.finding.effect
        if effect is None:
            return "—"
        if self.finding.unit == "share of records":
            return f"{100 * effect.estimate:.0f} % of records"
        interval = f" [{_short(effect.low)}, {_short(effect.high)}]" if effect.low != effect.high else ""
        unit = f" {self.finding.unit}" if self.finding.unit else ""
        return f"{_short(effect.estimate)}{interval}{unit}"

    def to_json(self) -> dict:
        """The stable interface of ``relaxbench claims --format json``."""
        claim, finding = self.claim, self.finding
        names = ("id", "theme", "sentence", "section", "experiment", "statistic", "rule")
        effect = finding.effect
        return {
            **{name: getattr(claim, name) for name in names},
            "verdict": finding.verdict,
            "effect": effect and effect.estimate,
            "interval": effect and [effect.low, effect.high],
            "unit": finding.unit,
            "seeds": finding.seeds,
            "detail": finding.detail,
        }


def _short(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")
