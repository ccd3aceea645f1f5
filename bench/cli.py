"""``relaxbench``: the one way in; the Snakemake rules call the same commands."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import click
from tqdm import tqdm

from bench import config as configuration
from bench.config import Config
from bench.errors import UserError, nearest
from bench.options import OneLineErrors, rates_of, run_options, seconds_of


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="relaxbench")
def cli() -> None:
    """Normalizing flows and their relaxations, reproduced.

    A cell is a ROW (a model's recipe) on a DATASET. `relaxbench train realnvp checkerboard` trains one;
    `snakemake --cores all` trains them all, tests the survey's claims and renders the tables.

    Start with `relaxbench doctor`, then `relaxbench list` (rows and their data sets), `train`, `sample`, `table`.
    """


@cli.command(name="list")
@click.argument("what", type=click.Choice(["systems", "datasets", "tables", "claims"]), default="systems")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable; the keys are stable.")
@run_options
def list_(what: str, as_json: bool, **options: object) -> None:
    """What there is: systems (rows and their cells), datasets, tables or claims.

    Long values are cut; --json has them whole.
    """
    from bench import listing

    rows = listing.LISTINGS[what](configuration.load(options))
    click.echo(json.dumps(rows, indent=1) if as_json else listing.as_text(rows))


@cli.command()
@click.argument("datasets", nargs=-1, required=True, metavar="DATASET...")
@run_options
def fetch(datasets: tuple[str, ...], **options: object) -> None:
    """Bring raw files, from a mirror folder or (--network) their addresses, and verify them."""
    from bench.datasets import fetch as bring

    config = configuration.load(options)
    for name in datasets:
        found = [f"{name}: {file.path} ({file.origin}, verified)" for file in bring(name, config.store)]
        click.echo("\n".join(found) or f"{name}: comes with the dependencies, nothing to fetch")


@cli.command()
@click.argument("dataset")
@run_options
def prepare(dataset: str, **options: object) -> None:
    """Make a data set's splits, ready to be mapped into memory."""
    config = configuration.load(options)
    click.echo(f"prepared {_prepare(dataset, config)}")


@cli.command()
@click.argument("datasets", nargs=-1, metavar="[DATASET]...")
@click.option("--out", type=click.Path(file_okay=False), help="Folder of the cards (default: data/cards here).")
@run_options
def card(datasets: tuple[str, ...], out: str | None, **options: object) -> None:
    """Write data-set cards: source, licence, raw files, variants, hazards. No name: of every data set.

    What the arrays show is taken from those of published size (`relaxbench prepare DATASET --tier paper`), or else
    from the card as it was.
    """
    from bench.datasets import cards, names

    config = configuration.load(options)
    for name in datasets or names():
        prepared = config.data / "prepared" / "published" / name
        click.echo(f"card: {cards.write(name, prepared, Path(out) if out else cards.FOLDER)}")


@cli.command()
@click.argument("row")
@click.argument("dataset")
@click.option(
    "--budget", callback=lambda _, __, text: seconds_of(text), help="Training time of the cell: 90s, 10m, 2h."
)
@click.option("--steps", type=click.IntRange(min=1), help="Take so many, the recipe's schedule compressed.")
@run_options
def train(row: str, dataset: str, budget: float, steps: int | None, **options: object) -> None:
    """Train and evaluate ROW on DATASET, once per seed; write one record per run.

    `relaxbench list` names rows and data sets. Records: RESULTS/TIER/cells/DATASET/ROW/seedN.json. An interrupted
    run goes on where it stopped and ends in the same record as an uninterrupted one. A run that --budget stops is
    flagged `reduced`, with its steps; the next, with a larger budget, goes on from there. So is one of fewer --steps.
    """
    from bench.datasets import describe
    from bench.recipes import cell

    config = configuration.load(options)
    describe(dataset)
    wanted = cell(row, dataset, config.tier)
    from bench.cell import train_cell
    from bench.progress import progress_of

    _one_thread()
    _prepare_if_new(dataset, config)
    train_cell(wanted.shortened(steps) if steps else wanted, config, progress_of, click.echo, budget)


@cli.command()
@click.argument("row")
@click.argument("dataset")
@click.option(
    "--rates",
    callback=lambda _, __, text: rates_of(text),
    help="Learning rates to try, such as 1e-3,5e-3 (default: eight from 1e-3 to 0.2).",
)
@run_options
def tune(row: str, dataset: str, rates: list[float], **options: object) -> None:
    """Try learning rates for ROW on DATASET and print the validation score of each.

    Every other setting is the recipe's, the test rows are not looked at, and no record or recipe is written: put the
    best rate into recipes/ROW.yaml yourself.
    """
    from bench.datasets import describe
    from bench.recipes import cell

    config = configuration.load(options)
    describe(dataset)
    wanted = cell(row, dataset, config.tier)
    from bench import tune as tuning

    _one_thread()
    _prepare_if_new(dataset, config)
    for line in tuning.lines(tuning.trials(wanted, config, rates or tuning.RATES), tuning.rate_of(wanted)):
        click.echo(line)


def _prepare_if_new(dataset: str, config: Config) -> None:
    from bench.datasets import is_prepared

    if not is_prepared(dataset, config.prepared(dataset), config.store):
        _prepare(dataset, config)


def _one_thread() -> None:
    """Unless the user says otherwise: these networks are small, and a second thread costs more than it brings."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)


@cli.command()
@click.argument("row")
@click.argument("dataset")
@click.option("-n", "count", type=click.IntRange(min=1), default=16, show_default=True, help="How many samples.")
@click.option("--repetition", type=int, default=0, show_default=True, help="Which seed's model.")
@click.option("--out", type=click.Path(dir_okay=False), help="A .npy file; default: print as CSV.")
@run_options
def sample(row: str, dataset: str, count: int, repetition: int, out: str | None, **options: object) -> None:
    """Draw samples from a trained ROW on DATASET (train it first)."""
    import numpy as np

    from bench.cell import sample_trained
    from bench.paths import replacing
    from bench.recipes import cell

    config = configuration.load(options)
    drawn = sample_trained(cell(row, dataset, config.tier), config, repetition, count)
    if out:
        with replacing(Path(out)) as part, part.open("wb") as file:
            np.save(file, drawn)
        click.echo(f"{out}: {count} samples of shape {drawn.shape[1:]}")
    else:
        np.savetxt(sys.stdout, drawn.reshape(count, -1), delimiter=",", fmt="%.6g")


@cli.command()
@click.argument("name")
@click.option("--format", "fmt", type=click.Choice(["md", "csv", "tex", "html"]), default="md", show_default=True)
@click.option("--frozen", is_flag=True, help="From the committed records instead of this machine's run.")
@run_options
def table(name: str, fmt: str, frozen: bool, **options: object) -> None:
    """Print a table: tabular, images, toys, axes or claims."""
    from bench import tables

    config = configuration.load(options)
    if name not in tables.NAMES:
        raise nearest(name, tables.NAMES, "table")
    click.echo(tables.render(name, _records(config, frozen), config.tier.name, fmt), nl=False)


@cli.command()
@click.option("--format", "fmt", type=click.Choice(["md", "json"]), default="md", show_default=True)
@click.option("--frozen", is_flag=True, help="From the committed records instead of this machine's run.")
@run_options
def claims(fmt: str, frozen: bool, **options: object) -> None:
    """The survey's claims with their rule, evidence and verdict."""
    from bench import tables
    from bench.claims import evaluate_all

    config = configuration.load(options)
    found = _records(config, frozen)
    if fmt == "json":
        click.echo(json.dumps([result.to_json() for result in evaluate_all(found)], indent=1))
    else:
        click.echo(tables.render("claims", found, config.tier.name, "md"), nl=False)


@cli.command()
@run_options
def render(**options: object) -> None:
    """Write every table of a run into its folder."""
    from bench import tables

    config = configuration.load(options)
    tables.write_all(_records(config, frozen=False), config.run_folder / "tables", config.tier.name)
    click.echo(f"tables: {config.run_folder / 'tables'}")


@cli.command()
@run_options
def report(**options: object) -> None:
    """Write the run's HTML page: tables, claims, curves, densities and samples."""
    from bench import report as page

    config = configuration.load(options)
    out = config.run_folder / "report" / "index.html"
    click.echo(f"report: {page.write(config.run_folder, out, config.prepared_folder, _wanted(config))}")


@cli.command()
@click.argument("rows", nargs=-1, metavar="[ROW]...")
@click.option("--budget", default="30m", show_default=True, callback=lambda _, __, text: seconds_of(text))
@click.option("--dataset", "only", multiple=True, help="Only cells on this data set; may be given again.")
@run_options
def plan(rows: tuple[str, ...], budget: float, only: tuple[str, ...], **options: object) -> None:
    """In which order to train the cells of a tier, so that a given time fills most of the tables.

    A few steps of each cell are timed on this machine; cells beside a published figure come first, then the quickest.
    Without --tier: the paper tier. `relaxbench train ROW DATASET --tier paper --budget 10m` trains one.
    """
    from bench import plan as planning
    from bench import workflow
    from bench.recipes import matrix, recipe

    _one_thread()
    config = configuration.load(options | {"tier": options["tier"] or "paper"})
    for row in rows:
        recipe(row)
    available = workflow.availability(config)
    for name in only:
        if name not in available:
            raise nearest(name, available, "data set")
    cells = [
        c for c in matrix(config, available) if c.row in (rows or (c.row,)) and c.dataset in (only or (c.dataset,))
    ]
    if not cells:
        raise UserError(f"tier {config.tier.name!r}: none of these cells has its data at hand; see `relaxbench list`")
    with tqdm(total=len(cells), leave=False, disable=not sys.stderr.isatty()) as bar:
        found = []
        for estimate in planning.estimates(cells, config, bar.set_description):
            found.append(estimate)
            bar.update()
    click.echo("\n".join(planning.lines(planning.ordered(found), budget)))


@cli.command()
@click.argument("rows", nargs=-1, metavar="[ROW]...")
@click.option("--dims", default="6,21,63", show_default=True, help="Numbers of features.")
@click.option("--peer", "peers", multiple=True, help="Only this library (zuko, nflows); may be given again.")
@click.option("--batch", type=click.IntRange(min=2), default=512, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=7, show_default=True, help="Turns; the best one counts.")
@click.option("--check", is_flag=True, help="Copy weights to the peers and compare densities and samples instead.")
@click.option("--seeds", type=click.IntRange(min=2), help="Time this many seeds trained together beside one instead.")
@click.option("--format", "fmt", type=click.Choice(["md", "csv"]), default="md", show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
def speed(
    rows: tuple[str, ...],
    dims: str,
    peers: tuple[str, ...],
    check: bool,
    seeds: int | None,
    fmt: str,
    **options: object,
) -> None:
    """Time each ROW's training step beside other libraries and beside its dense matrix products alone.

    One process, one thread, in turns: the ratios hold where the milliseconds do not. Without ROW: all of them.
    """
    from bench.speed import report

    _one_thread()
    if check:
        click.echo(report.fidelity(rows, fmt), nl=False)
        return
    if seeds:
        lines = report.seed_timings(rows, dims, seeds, fmt=fmt, **options)
    else:
        lines = report.timings(rows, dims, peers, fmt=fmt, **options)
    for line in lines:
        click.echo(line)


@cli.command()
@click.option("--add", is_flag=True, help="Keep the frozen cells that this run has not.")
@run_options
def freeze(add: bool, **options: object) -> None:
    """Promote a run's records to paper_tables/ and render the committed tables from them."""
    from bench.freeze import freeze as promote

    config = configuration.load(options)
    for line in promote(config.run_folder, config.tier.name, keep=_wanted(config), add=add):
        click.echo(line)


@cli.command()
@run_options
def drift(**options: object) -> None:
    """Compare a run and the committed tables with the frozen records; exit 1 if they differ."""
    from bench import drift as compare

    config = configuration.load(options)
    lines, drifted = compare.check(config.run_folder, config.tier.name)
    for line in lines:
        click.echo(line)
    sys.exit(1 if drifted else 0)


@cli.command()
@run_options
def doctor(**options: object) -> None:
    """Is this machine ready? Exit 2 if something needed is missing."""
    from bench.doctor import examine

    config = configuration.load(options)
    ready = True
    for passed, line in examine(config):
        click.echo(f"{'ok  ' if passed else 'FAIL'}  {line}")
        ready &= passed
    sys.exit(0 if ready else 2)


def _prepare(dataset: str, config: Config) -> Path:
    from bench import datasets

    return datasets.prepare(
        dataset, store=config.store, out=config.prepared(dataset), seed=config.seed, size=config.tier.sizes
    )


def _wanted(config: Config) -> Callable[[dict], bool]:
    """Leaves out what an earlier configuration left in the results: further seeds, cells that were removed."""
    from bench.recipes import called_for

    return partial(called_for, tier=config.tier)


def _records(config: Config, frozen: bool) -> list[dict]:
    from bench import records
    from bench.paths import PAPER_TABLES

    folder = PAPER_TABLES / "records" / config.tier.name if frozen else config.run_folder / "cells"
    found = records.read_all(folder, _wanted(config)) if folder.is_dir() else []
    if not found:
        hint = "run `snakemake --cores all` first" if not frozen else "run `relaxbench freeze` first"
        raise UserError(f"there are no records in {folder}; {hint}")
    return found


def main(arguments: Iterable[str] | None = None) -> None:
    """Entry point. SIGTERM ends like Ctrl-C, so that temporary files are removed on the way out."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    cli.main(args=list(arguments) if arguments is not None else None, prog_name="relaxbench")


if __name__ == "__main__":
    main()
