"""Confidence intervals over seeds. Everything is a weighted sum of arms' means, with Welch's degrees of freedom."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

LEVEL = 0.95
Arm = Sequence[float]
"""One value per seed."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its two-sided 95 % confidence interval."""

    estimate: float
    low: float
    high: float

    def __neg__(self) -> Interval:
        return Interval(-self.estimate, -self.high, -self.low)

    def exp(self) -> Interval:
        return Interval(*(math.exp(v) for v in (self.estimate, self.low, self.high)))


def contrast(terms: Sequence[tuple[float, Arm]]) -> Interval:
    """Σ w_k mean_k with the t interval of Welch and Satterthwaite:

    var = Σ w² s² / n, degrees of freedom = var² / Σ (w² s² / n)² / (n - 1). At least two seeds in each arm.
    Arms without any spread give an interval of no width.
    """
    estimate = sum(w * statistics.fmean(arm) for w, arm in terms)
    parts = [(w * w * statistics.variance(arm) / len(arm), len(arm) - 1) for w, arm in terms]
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return Interval(estimate, estimate, estimate)
    freedom = variance**2 / sum(part**2 / n for part, n in parts)
    half = float(stdtrit(freedom, 0.5 + LEVEL / 2)) * math.sqrt(variance)
    return Interval(estimate, estimate - half, estimate + half)


def mean(arm: Arm) -> Interval:
    return contrast([(1.0, arm)])


def difference(a: Arm, b: Arm) -> Interval:
    """mean(a) - mean(b)."""
    return contrast([(1.0, a), (-1.0, b)])


def stratified(pairs: Sequence[tuple[Arm, Arm]]) -> Interval:
    """The mean over data sets of mean(a) - mean(b)."""
    share = 1 / len(pairs)
    return contrast([term for a, b in pairs for term in ((share, a), (-share, b))])


def logs(arm: Arm) -> list[float]:
    """Of positive quantities; what a clock could not resolve counts as a nanosecond."""
    return [math.log(max(v, 1e-9)) for v in arm]


def slope(x: Sequence[float], y: Sequence[float]) -> Interval:
    """Least-squares slope of y on x with its t interval (n - 2 degrees of freedom). At least three points."""
    n, mx, my = len(x), statistics.fmean(x), statistics.fmean(y)
    sxx = sum((v - mx) ** 2 for v in x)
    estimate = sum((v - mx) * (w - my) for v, w in zip(x, y, strict=True)) / sxx
    rest = sum((w - my - estimate * (v - mx)) ** 2 for v, w in zip(x, y, strict=True))
    half = float(stdtrit(n - 2, 0.5 + LEVEL / 2)) * math.sqrt(rest / (n - 2) / sxx)
    return Interval(estimate, estimate - half, estimate + half)
