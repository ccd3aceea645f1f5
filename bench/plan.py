"""Which cells fill the tables best in a given time: ``relaxbench plan``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from bench.config import Config
from bench.datasets import describe
from bench.datasets.info import Info
from bench.device import select_device, synchronised_seconds
from bench.recipes import Cell
from bench.training import Trainer, Training
from bench.training.ensemble import side_by_side
from bench.training.recording import WARM_STEPS
from models.registry import DataSpec, build

TIMED = 5
"""Steps that are timed; one, where a step takes more than ``SLOW`` seconds."""
SLOW = 1.0


@dataclass(frozen=True)
class Estimate:
    """The training of one cell on this machine: the seeds that are left, to the last step of the recipe."""

    cell: Cell
    seconds_per_step: float  # of those seeds
    seconds: float
    published: bool  # is there a figure in print that it stands beside?
    done: int  # seeds that have a record already


def estimates(
    cells: Sequence[Cell], config: Config, report: Callable[[str], None] = lambda line: None
) -> Iterator[Estimate]:
    """An estimate for each cell, from a few steps on random numbers of its data's shape; nothing is fetched."""
    device = select_device(config.device)
    for cell in cells:
        report(f"timing {cell.row} on {cell.dataset}")
        done = sum(
            (config.cell_folder(cell.row, cell.dataset) / f"seed{seed}.json").exists() for seed in config.tier.seeds
        )
        left = len(config.tier.seeds) - done
        per_step = seconds_per_step(cell, describe(cell.dataset), device, left) if left else 0.0
        yield Estimate(cell, per_step, cell.training["steps"] * per_step, cell.dataset in cell.recipe.published, done)


def ordered(found: Sequence[Estimate]) -> list[Estimate]:
    """Cells that are not complete: those beside a figure in print first, then the quickest."""
    return sorted((e for e in found if e.seconds), key=lambda e: (not e.published, e.seconds, e.cell.dataset))


def seconds_per_step(cell: Cell, info: Info, device: torch.device, seeds: int) -> float:
    """One optimiser step of ``seeds`` seeds, side by side if they train so."""
    training = Training(**cell.training)
    rows = _rows(info, training.batch).to(device)
    torch.manual_seed(0)
    models = [build(cell.recipe.family, _spec(info), **cell.model).to(device) for _ in range(seeds)]
    together = seeds > 1 and side_by_side(models[0], rows)
    models = models if together else models[:1]
    streams = [{"batch order": i, "noise": i, "evaluation": i} for i in range(len(models))]
    trainer = Trainer(models, training, rows, rows, streams)

    def step() -> float:
        started = synchronised_seconds(device)
        trainer.advance()
        return synchronised_seconds(device) - started

    first = step()  # allocates and initialises
    for _ in range(WARM_STEPS if device.type == "cuda" and first < SLOW else 0):
        step()
    best = min(step() for _ in range(1 if first > SLOW else TIMED))
    return best if together else seeds * best


def _spec(info: Info) -> DataSpec:
    moments = torch.tensor(0.5) if info.levels else torch.ones(info.shape)
    energy = getattr(info.density() if info.density else None, "energy", None)
    return DataSpec(info.shape, levels=info.levels, mean=moments, std=moments, energy=energy)


def _rows(info: Info, n: int) -> torch.Tensor:
    return torch.randint(0, info.levels, (n, *info.shape)) if info.levels else torch.randn(n, *info.shape)


def lines(found: Sequence[Estimate], budget: float) -> Iterator[str]:
    """The order as a table: what fits into ``budget`` seconds whole, and what would be ``reduced``."""
    yield "row                 data set                    ms/step      cell   in all  beside print  fits"
    total = 0.0
    for estimate in found:
        total += estimate.seconds
        yield (
            f"{estimate.cell.row:<19} {estimate.cell.dataset:<26} {1e3 * estimate.seconds_per_step:>8.1f} "
            f"{duration(estimate.seconds):>9} {duration(total):>8}  {'yes' if estimate.published else 'no':<12}  "
            f"{'yes' if total <= budget else 'no'}"
        )


def duration(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
