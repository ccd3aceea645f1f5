"""Which learning rate a cell trains best with, judged by its validation rows alone: ``relaxbench tune``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from bench.cell import Run, attempt, build_model, load_data, trainer_of
from bench.config import Config
from bench.device import select_device
from bench.errors import UserError
from bench.recipes import Cell
from bench.training import Training

RATES = (1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2)


@dataclass(frozen=True)
class Trial:
    """One learning rate: the least validation score of each seed, nats; infinite where it diverged or failed."""

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
    trainer = trainer_of([run], [model])
    outcomes, _ = attempt(run, trainer.run)
    if outcomes is None or outcomes[0].diverged:
        return math.inf, trainer.seconds
    return min(outcomes[0].curve.nats, default=math.inf), trainer.seconds


def lines(found: Iterable[Trial], own: float) -> Iterator[str]:
    """The trials as a table, each line as it ends, and the best one; ``own`` is the recipe's rate."""
    yield "learning rate  -log likelihood, validation, nats  seconds"
    best: Trial | None = None
    for trial in found:
        mark = "  the recipe's" if trial.rate == own else ""
        yield f"{trial.rate:<13g}  {trial.mean:>33.3f}  {trial.seconds:>7.1f}{mark}"
        best = trial if best is None or trial.mean < best.mean else best
    if best and math.isfinite(best.mean):
        yield f"best: {best.rate:g}"
    else:
        yield "none: training diverged or failed at every rate"
