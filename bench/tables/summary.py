"""What a table cell says of its records: mean over seeds, spread, comparability class, what went wrong."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bench.records import values

GROUPS = (
    "baseline", "normalizing flow", "continuous flow", "autoregressive", "VAE", "diffusion", "score-based",
    "flow matching", "SurVAE flow", "stochastic normalizing flow", "DiffFlow", "GAN",
)  # fmt: skip
SIGNS = {"exact": "", "lower_bound": "≥ ", "importance_bound": "≥ ", "ode": "≈ ", "none": ""}
FLIPPED = {"≥ ": "≤ "}
LIKELIHOOD_NAMES = {
    "exact": "exact", "lower_bound": "lower bound", "importance_bound": "importance bound", "ode": "ODE estimate",
    "none": "none",
}  # fmt: skip
SPREAD = "Mean over seeds ± standard deviation over seeds; the number of seeds in brackets or in its own column."
SIGN_LEGEND = "≥ and ≤: a bound; ≈: an ODE estimate; no sign: exact."


@dataclass(frozen=True)
class Summary:
    """Mean over the seeds that ended well; ``sd`` over seeds (None for one seed)."""

    mean: float
    sd: float | None
    n: int
    unit: str
    better: str | None
    evaluation_error: float | None

    @property
    def standard_error(self) -> float | None:
        """Of the mean: over seeds, and no less than the finite test set leaves."""
        seeds = 0.0 if self.sd is None else self.sd / self.n**0.5
        return max(seeds, self.evaluation_error or 0.0) if self.sd is not None else self.evaluation_error


@dataclass(frozen=True)
class Standing:
    """A row in its comparability class: how far ``behind`` the best, the metric's unit, 0 for the best itself.

    ``error`` is the standard error of that difference, of the ``kind`` named; a row that is not ranked has neither.
    """

    behind: float | None = None
    error: float | None = None
    kind: str | None = None
    bold: bool = False


UNRANKED = Standing()


def summarise(records: Sequence[dict], metric: str) -> Summary | None:
    found = values(records, metric)
    if not found:
        return None
    meta = next((r["metrics"][metric] for r in records if r["status"] == "ok" and metric in r["metrics"]), {})
    errors = [e for r in records if (e := _error(r, metric)) is not None]
    return Summary(
        mean=statistics.fmean(found),
        sd=statistics.stdev(found) if len(found) > 1 else None,
        n=len(found),
        unit=meta.get("unit", ""),
        better=meta.get("better"),
        evaluation_error=statistics.fmean(errors) if errors else None,
    )


def _error(record: dict, metric: str) -> float | None:
    spread = (record["metrics"].get(metric) or {}).get("uncertainty")
    return spread["value"] if spread and "standard error" in spread["kind"] else None


def number(value: float, digits: int) -> str:
    """Fixed digits, with a true minus sign and no negative zero."""
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def with_spread(
    summary: Summary | None, digits: int, sign: str = "", scale: float = 1.0, seeds: int | None = None
) -> str:
    """``≤ 0.148 ± 0.006 (3)``; without the number of seeds where it is the one a column already shows."""
    if summary is None:
        return "—"
    spread = "" if summary.sd is None else f" ± {number(scale * summary.sd, digits)}"
    count = "" if summary.n == seeds else f" ({summary.n})"
    return f"{sign}{number(scale * summary.mean, digits)}{spread}{count}"


def ended_well(records: Sequence[dict]) -> int:
    return sum(r["status"] == "ok" for r in records)


def compact(value: float | None) -> str:
    """Three significant digits, thousands separated; for costs."""
    if value is None:
        return "—"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def likelihood_kind(records: Sequence[dict]) -> str:
    kinds = {r["likelihood"]["kind"] for r in records if r["likelihood"]}
    return kinds.pop() if len(kinds) == 1 else "none"


def order(records: Iterable[dict]) -> tuple:
    """Families in the survey's order, rows by name within, numbers in a name by value."""
    run = next(iter(records))["run"]
    name = tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", run["row"]))
    return (GROUPS.index(run["group"]) if run["group"] in GROUPS else len(GROUPS), name)


def comparability(records: Sequence[dict], samples_only: bool = False) -> tuple[tuple[str, str], ...]:
    """What two cells must share to be ranked. How a density was computed does not matter to its samples.

    Where seeds differ in it, as those that a budget stops do in their steps, every one's is said.
    """
    fields = ("tier", "flags", "budget") if samples_only else tuple(sorted(records[0]["comparability"]))
    by_seed = sorted(records, key=lambda record: record["run"]["seed"])
    return tuple((name, " / ".join(dict.fromkeys(_said(r["comparability"][name]) for r in by_seed))) for name in fields)


def _said(value: object) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)


def failures(records: Sequence[dict]) -> list[str]:
    """One line for each gate that failed and each seed that did not end well."""
    n = len(records)
    lines = []
    for gate in sorted({name for r in records for name in r["gates"]}):
        failed = [r for r in records if gate in r["gates"] and not r["gates"][gate]["passed"]]
        if failed:
            lines.append(f"gate `{gate}` failed in {len(failed)} of {n} seeds: {failed[0]['gates'][gate]['detail']}")
    for status in ("failed", "diverged", "skipped"):
        ended = [r for r in records if r["status"] == status]
        if ended:
            lines.append(f"{status} in {len(ended)} of {n} seeds: {ended[0]['reason'] or 'no reason recorded'}")
    return lines


@dataclass
class Marks:
    """Superscripts of one table: letters for comparability classes, numbers for notes."""

    classes: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def letter(self, records: Sequence[dict]) -> str:
        text = "; ".join(f"{name} {value or 'none'}" for name, value in comparability(records))
        return self._mark(self.classes, text, lambda i: chr(ord("a") + i) if i < 26 else f"z{i - 25}")

    def note(self, text: str) -> str:
        return self._mark(self.notes, text, lambda i: str(i + 1))

    def of(self, records: Sequence[dict], prefix: str = "") -> tuple[str, ...]:
        """The notes on a cell's failures."""
        return tuple(self.note(f"{prefix}{line}") for line in failures(records))

    @staticmethod
    def _mark(known: dict[str, str], text: str, name) -> str:
        for mark, present in known.items():
            if present == text:
                return mark
        mark = name(len(known))
        known[mark] = text
        return mark


COLUMNS = (
    "dataset", "row", "name", "group", "axis", "metric", "unit", "better", "likelihood", "mean", "sd_over_seeds",
    "seeds", "best_of_class", "behind_best", "behind_best_error", "behind_best_error_kind", "class", "published",
    "published_error", "published_error_kind", "difference", "tolerance", "verdict", "failures",
)  # fmt: skip


def datum(records: Sequence[dict], metric: str, place: Standing = UNRANKED, mark: str = "", axis: str = "") -> dict:
    """The long-form CSV row of one number."""
    run, found = records[0]["run"], summarise(records, metric)
    return {
        "dataset": run["dataset"], "row": run["row"], "name": run["name"], "group": run["group"], "axis": axis,
        "metric": metric, "unit": found and found.unit, "better": found and found.better,
        "likelihood": likelihood_kind(records), "mean": found and found.mean, "sd_over_seeds": found and found.sd,
        "seeds": found.n if found else 0, "best_of_class": place.bold, "behind_best": place.behind,
        "behind_best_error": place.error, "behind_best_error_kind": place.kind, "class": mark,
        "failures": "; ".join(failures(records)),
    }  # fmt: skip
