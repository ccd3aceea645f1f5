"""Two kinds of drift: committed tables against committed records, and a fresh run against the frozen one."""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import freeze, records
from bench.errors import UserError
from bench.paths import PAPER_TABLES

# What a mean over seeds may differ by on another machine, whatever its spread; fixed before any comparison.
FLOORS: Mapping[str, float] = {
    "log_likelihood": 0.05, "log_likelihood_importance_bound": 0.05, "log_likelihood_lower_bound": 0.05,
    "log_likelihood_ode": 0.05, "kl_to_truth": 0.02, "bits_per_dim": 0.02, "bits_per_dim_importance_bound": 0.02,
    "bits_per_dim_lower_bound": 0.02, "bits_per_dim_ode": 0.02, "mass_outside": 0.01, "modes_missed": 1.0,
    "total_variation": 0.02, "integral": 0.01, "frechet_distance": 1.0, "ess": 0.03, "log_z_error": 0.05,
    "free_energy_bias": 0.1, "free_energy_bias_reweighted": 0.1,
}  # fmt: skip
OTHER_FLOOR = 0.05
STANDARD_ERRORS = 4.0
RULE = (
    f"a score has changed if |difference of means| > max(floor, {STANDARD_ERRORS:g} sd_frozen sqrt(1/n_frozen + "
    "1/n_fresh)), the floor by metric in bench/drift.py; times are not compared"
)


@dataclass(frozen=True)
class Drift:
    """What a fresh run says of the frozen one, one line each.

    ``elsewhere``: frozen cells whose data this machine has not. ``data``: cells whose splits differ in content, which
    another CPU's rounding suffices for; the scores then decide.
    """

    changed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    compared: int = 0

    @property
    def drifted(self) -> bool:
        """New cells are no drift, nor are cells whose data are not here."""
        return bool(self.changed or self.missing)

    def lines(self) -> list[str]:
        out = [f"{self.compared} cells compared; {RULE}"]
        titles = {"elsewhere": "not run here (data not available)", "data": "other data content (no drift by itself)"}
        for name in ("changed", "missing", "new", "elsewhere", "data"):
            found = getattr(self, name)
            out += [f"{titles.get(name, name)}: {len(found)}", *(f"  {line}" for line in found)]
        return out


def check(run_folder: Path, tier: str, target: Path = PAPER_TABLES) -> tuple[list[str], bool]:
    """Both kinds: lines to print, and whether anything drifted. A tier never frozen has nothing to drift from."""
    if not freeze.records_folder(tier, target).is_dir():
        return [f"tier {tier} was never frozen; `relaxbench freeze` makes the records to compare with"], False
    differences = rendered(tier, target)
    lines = [f"committed tables that differ from their records: {len(differences)}", *(f"  {d}" for d in differences)]
    if not (run_folder / "cells").is_dir():
        return [*lines, f"no run in {run_folder}; scores were not compared"], bool(differences)
    found = scores(tier, run_folder, target)
    return lines + found.lines(), bool(differences) or found.drifted


def rendered(tier: str, target: Path = PAPER_TABLES) -> list[str]:
    """Render from the committed records elsewhere and compare bytes; one line per file that differs."""
    committed = target / tier
    with tempfile.TemporaryDirectory() as scratch:
        fresh = {path.name: path.read_bytes() for path in freeze.render(tier, target, Path(scratch))}
    present = {p.name: p.read_bytes() for suffix in ("md", "csv") for p in committed.glob(f"*.{suffix}")}
    lines = [f"{name}: not committed" for name in sorted(fresh.keys() - present.keys())]
    lines += [f"{name}: committed, and no table makes it" for name in sorted(present.keys() - fresh.keys())]
    both = sorted(fresh.keys() & present.keys())
    return lines + [f"{name}: {_first(present[name], fresh[name])}" for name in both if present[name] != fresh[name]]


def _first(committed: bytes, fresh: bytes) -> str:
    a, b = committed.decode(errors="replace").splitlines(), fresh.decode(errors="replace").splitlines()
    for number, (old, new) in enumerate(zip(a, b, strict=False), 1):
        if old != new:
            return f"line {number} is {old[:80]!r}, the records say {new[:80]!r}"
    return f"{len(a)} lines, the records make {len(b)}"


@dataclass
class _Lists:
    changed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    data: list[str] = field(default_factory=list)


def scores(tier: str, run_folder: Path, target: Path = PAPER_TABLES) -> Drift:
    """Compare a fresh run's cells with the frozen ones under ``RULE``; changed, missing and new apart."""
    frozen = records.by_cell(records.read_all(freeze.records_folder(tier, target)))
    fresh = records.by_cell(records.read_all(run_folder / "cells"))
    out = _Lists()
    datasets = {dataset for dataset, _ in fresh}
    for cell in sorted(frozen.keys() - fresh.keys()):
        absent = cell[0] not in datasets and _published(cell[0])
        (out.elsewhere if absent else out.missing).append(_name(cell))
    out.new = [_name(cell) for cell in sorted(fresh.keys() - frozen.keys())]
    shared = sorted(frozen.keys() & fresh.keys())
    for cell in shared:
        _compare(_name(cell), frozen[cell], fresh[cell], out)
    return Drift(*(tuple(found) for found in (out.changed, out.missing, out.new, out.elsewhere, out.data)), len(shared))


def _name(cell: tuple[str, str]) -> str:
    return f"{cell[1]} on {cell[0]}"


def _published(dataset: str) -> bool:
    """Whether the data set needs a network or a mirror."""
    from bench.datasets import describe

    try:
        return describe(dataset).needs == "published"
    except UserError:  # a data set that no longer exists is missing for good
        return False


def _compare(name: str, old: Sequence[dict], new: Sequence[dict], out: _Lists) -> None:
    ran = {r["run"]["seed"] for r in new}
    again = [r for r in old if r["run"]["seed"] in ran]  # a run may repeat some of the frozen seeds only
    for what, of in (("settings", _settings), ("status", _status), ("failed gates", _gates)):
        if of(again) != of(new):
            out.changed.append(f"{name}: {what}, {of(again)} frozen, {of(new)} now")
    if _data(old) != _data(new):
        out.data.append(f"{name}: md5 {_data(old)} frozen, {_data(new)} now")
    metrics = [sorted({m for r in cell for m in r["metrics"]}) for cell in (old, new)]
    out.missing += [f"{name}: {m}" for m in metrics[0] if m not in metrics[1]]
    out.new += [f"{name}: {m}" for m in metrics[1] if m not in metrics[0]]
    for metric in metrics[0]:
        if metric in metrics[1]:
            out.changed += _moved(name, metric, records.values(old, metric), records.values(new, metric))


def _moved(name: str, metric: str, old: Sequence[float], new: Sequence[float]) -> list[str]:
    if not old or not new:
        return [f"{name}: {metric}, {len(old)} values frozen, {len(new)} now"] if bool(old) != bool(new) else []
    difference = statistics.fmean(new) - statistics.fmean(old)
    allowed = tolerance(metric, old, new)
    if abs(difference) <= allowed:
        return []
    before, now = statistics.fmean(old), statistics.fmean(new)
    return [f"{name}: {metric} {before:.4g} frozen, {now:.4g} now, difference {difference:+.4g}, allowed {allowed:.2g}"]


def tolerance(metric: str, old: Sequence[float], new: Sequence[float]) -> float:
    """max(floor, 4 sd_frozen sqrt(1/n_frozen + 1/n_fresh)); a single seed has no spread and gets the floor."""
    # The fresh run's own spread has no say: one broken seed would widen it, and so excuse itself.
    spread = statistics.stdev(old) * math.sqrt(1 / len(old) + 1 / len(new)) if len(old) > 1 else 0.0
    return max(FLOORS.get(metric, OTHER_FLOOR), STANDARD_ERRORS * spread)


def _settings(cell: Sequence[dict]) -> str:
    return ", ".join(sorted({r["settings_sha256"][:8] for r in cell}))


def _data(cell: Sequence[dict]) -> str:
    return ", ".join(sorted({r["data"]["md5"][:8] for r in cell}))


def _status(cell: Sequence[dict]) -> str:
    return ", ".join(r["status"] for r in sorted(cell, key=records.identity))


def _gates(cell: Sequence[dict]) -> str:
    return ", ".join(sorted({g for r in cell for g, v in r["gates"].items() if not v["passed"]})) or "none"
