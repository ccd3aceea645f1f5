"""What the commands of ``relaxbench`` share: their options, durations, and errors of one line."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable

import click

from bench.errors import UserError


class OneLineErrors(click.Group):
    """A user's mistake is one line on stderr and exit code 2, whichever command met it."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except UserError as error:
            raise_one_line(str(error))
        except OSError as error:
            if error.errno in (None, errno.EPIPE):
                raise
            place = f"{error.filename}: " if error.filename else ""
            raise_one_line(f"{place}{error.strerror}; nothing half-written was kept")


def raise_one_line(message: str) -> None:
    click.echo(f"relaxbench: {message}", err=True)
    raise SystemExit(2)


def seconds_of(text: str | None) -> float:
    """A duration such as 90s, 10m or 2h in seconds; without one, infinity."""
    if text is None:
        return math.inf
    number, unit = text[:-1], {"s": 1, "m": 60, "h": 3600}.get(text[-1:])
    try:
        seconds = float(number) * unit
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 < seconds < math.inf:
        raise UserError(f"--budget is {text!r}; give a time such as 90s, 10m or 2h")
    return seconds


def rates_of(text: str | None) -> list[float]:
    """Learning rates such as 1e-3,5e-3; without a text, none."""
    try:
        rates = [float(part) for part in text.split(",")] if text is not None else []
    except ValueError:
        rates = [-1.0]
    if not all(0 < rate < math.inf for rate in rates):
        raise UserError(f"--rates is {text!r}; give positive numbers such as 1e-3,5e-3")
    return rates


def run_options(function: Callable) -> Callable:
    """The options that mirror ``config/config.yaml``; what is not given keeps its default there."""
    options = [
        click.option("--tier", help="smoke, quick or paper (default: quick)."),
        click.option("--device", help="auto, cpu or cuda (default: auto)."),
        click.option("--mirror", type=click.Path(), help="Folder that holds published raw files."),
        click.option("--network/--no-network", default=None, help="Fetch raw files from their published addresses."),
        click.option("--variant", help="published, rebuilt or sample: take this one where a data set has several."),
        click.option("--seed", type=int, help="The number all seeds derive from (default: 0)."),
        click.option("--seeds", type=int, help="How many repetitions, instead of the tier's."),
        click.option("--data", type=click.Path(), help="Where raw and prepared data lie (default: data)."),
        click.option("--results", type=click.Path(), help="Where runs are written (default: results)."),
    ]
    for option in reversed(options):
        function = option(function)
    return function
