"""Is a published figure reproduced? The rule, fixed before any run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from bench.tables.summary import Summary

Verdict = Literal["reproduced", "close", "not reproduced", "reduced", "not run"]
CLOSE = {"nats": 0.1, "bits/dim": 0.03}
REDUCING = ("reduced", "rebuilt")  # flags under which a score is not the published experiment
RULE = (
    "Verdict: with s the root of the summed squared standard errors of the two figures and r half a unit of the last "
    "printed digit, `reproduced` means |difference| ≤ 2 s + r, `close` up to .1 nat (.03 bits/dim) beyond that, else "
    "`not reproduced`; two-sided, because a better number is another number. Any tier but `paper`, and data that are "
    "reduced or rebuilt, can only be `reduced`."
)


@dataclass(frozen=True)
class Comparison:
    """Ours minus the published figure, the tolerance it is held to (same unit), and the verdict."""

    difference: float | None
    tolerance: float | None
    verdict: Verdict


def compare(ours: Summary | None, published: Mapping, tier: str, flags: Iterable[str], attempted: bool) -> Comparison:
    """Apply ``RULE``. ``attempted`` says that records exist, even if none of them ended well."""
    reduced = tier != "paper" or any(flag in REDUCING for flag in flags)
    if ours is None:
        failed: Verdict = "reduced" if reduced else "not reproduced"
        return Comparison(None, None, failed if attempted else "not run")
    difference = ours.mean - published["value"]
    tolerance = 2 * math.hypot(ours.standard_error or 0.0, published_standard_error(published)) + rounding(published)
    if reduced:
        return Comparison(difference, tolerance, "reduced")
    if abs(difference) <= tolerance:
        return Comparison(difference, tolerance, "reproduced")
    near = abs(difference) <= tolerance + CLOSE[published["unit"]]
    return Comparison(difference, tolerance, "close" if near else "not reproduced")


def published_standard_error(published: Mapping) -> float:
    """Of the kinds in print: "2 sd / sqrt(N) of one fit" is two standard errors, any other ± is taken as one."""
    error = published.get("error") or 0.0
    return error / 2 if str(published.get("kind", "")).startswith("2 ") else error


def rounding(published: Mapping) -> float:
    """Half a unit of the last digit in print; the tables of the field print at least two."""
    return 0.5 * 10.0 ** -max(2, *(_decimals(published.get(key)) for key in ("value", "error")))


def _decimals(value: float | None) -> int:
    text = "" if value is None else f"{value:.10g}"
    return len(text.partition(".")[2]) if "e" not in text else 0
