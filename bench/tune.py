"""Which learning rate a cell trains best with, judged by its validation rows alone: ``relaxbench tune``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from bench.cell import Run, build_model, load_data, trainer_of
from bench.config import Config
from bench.device import select_device
from bench.errors import UserError
from bench.recipes import Cell
from bench.training import Training

RATES = (1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2)


@dataclass(frozen=True)
class Trial:
    """One learning rate: the best validation score of each seed in nats, infinite where training diverged."""

    rate: float
    nats: tuple[float, ...]
    seconds: float

    @property
    def mean(self) -> float:
        return fmean(self.nats)


def trials(cell: Cell, config: Config, rates: Sequence[float]) -> Iterator[Trial]:
    """Train the cell's seeds once per rate, everything else as its recipe says; the test rows are not looked at."""
    data, device = load_data(config, cell.dataset), select_device(config.device)
    for rate in rates:
        tried = replace(cell, training={**cell.training, "lr": rate})
        runs = [Run(tried, config, data, repetition, device) for repetition in config.tier.seeds]
        found = [_validation(run) for run in runs]
        yield Trial(rate, tuple(nats for nats, _ in found), sum(seconds for _, seconds in found))


def rate_of(cell: Cell) -> float:
    return Training(**cell.training).lr


def _validation(run: Run) -> tuple[float, float]:
    model = build_model(run)
    if model.likelihood.kind == "none":
        raise UserError(f"{run.cell.row} has no likelihood to choose by; give its learning rate in the recipe")
    (outcome,) = trainer_of([run], [model]).run()
    nats = math.inf if outcome.diverged else min(outcome.curve.nats, default=math.inf)
    return nats, outcome.seconds


def lines(found: Sequence[Trial], own: float) -> Iterator[str]:
    """The trials as a table; ``own`` is the recipe's rate."""
    best = min(found, key=lambda trial: trial.mean)
    yield "learning rate  validation, nats  seconds"
    for trial in found:
        marks = ["best"] * (trial is best and math.isfinite(best.mean)) + ["the recipe's"] * (trial.rate == own)
        yield f"{trial.rate:<13g}  {trial.mean:>16.3f}  {trial.seconds:>7.1f}  {', '.join(marks)}".rstrip()
