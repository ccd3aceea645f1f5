"""How far a training is: a bar on a terminal, lines in a log file."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click
from tqdm import tqdm

from bench.cell import Progress, Run


def progress_of(runs: Sequence[Run]) -> Progress:
    """A bar with step, loss and time left on a terminal; a plain line now and then in a log file."""
    cell = runs[0].cell
    total = cell.training["steps"]
    title = f"{cell.row} on {cell.dataset}, seed {', '.join(str(run.repetition) for run in runs)}"
    if sys.stderr.isatty():
        bar = tqdm(total=total, desc=title, unit="step", dynamic_ncols=True, leave=False)

        def draw(step: int, loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
            bar.update(step - bar.n)
            if step == total:
                bar.close()

        return draw
    every = max(1, total // 10)
    printed = [0]

    def line(step: int, loss: float) -> None:
        if step - printed[0] >= every or step == total:
            printed[0] = step
            click.echo(f"{title}: step {step} of {total}, loss {loss:.4f}")

    return line
