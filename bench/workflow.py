"""What the Snakefile needs to know and torch does not: cells, their data, and what each result depends on."""

from __future__ import annotations

import fcntl
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench import config as configuration
from bench import recipes, sources
from bench.config import Config
from bench.datasets.raw.pins import read_pin
from bench.datasets.raw.store import available, nowhere, select
from bench.datasets.registry import describe, loader_file, names
from bench.errors import UserError, nearest
from bench.paths import ROOT

TABLES = ("tabular", "images", "toys", "axes", "claims")


@dataclass(frozen=True)
class Plan:
    """The static graph of a run: its cells, and for each result a digest of what it depends on besides its inputs.

    The digests are parameters of the rules. Listing some hundred sources as inputs of every rule would say the same,
    slower, and would retrain a family for a change to another.
    """

    config: Config
    options: str  # what the user set, as the command line's options
    cells: Mapping[tuple[str, str], recipes.Cell]

    def records(self) -> list[str]:
        return [self.record(row, dataset, seed) for row, dataset in self.cells for seed in self.config.tier.seeds]

    def record(self, row: str, dataset: str, seed: int | str) -> str:
        return f"{self.config.cell_folder(row, dataset).as_posix()}/seed{seed}.json"

    def stamp(self, dataset: str) -> list[str]:
        """The file that says a data set's raw files are here; none where the data ship with the dependencies."""
        here = f"{self.config.data.as_posix()}/raw/.{dataset}.fetched"
        return [here] if describe(dataset).needs == "published" else []

    def fetching(self, dataset: str) -> str:
        """Digest of the pins of the raw files that the data set is made from here."""
        variant = select(describe(dataset), self.config.store)
        return recipes.digest([variant.name, *(read_pin(pin).digest for pin in variant.pins)])

    def preparing(self, dataset: str) -> str:
        """Digest of what a prepared data set depends on besides its raw files: code and the seed of its split."""
        return recipes.digest([sources.digest(*_data_files(dataset)), self.config.seed])

    def training(self, row: str, dataset: str) -> str:
        """Digest of what a cell depends on besides its data: its settings, its family's code, the harness, the seed."""
        cell = self.cells[row, dataset]
        family = sources.families()[cell.recipe.family].path
        code = sources.digest(ROOT / "bench" / "cell.py", family, *_data_files(dataset))
        return recipes.digest([code, cell.settings(), cell.recipe.row, cell.recipe.group, self.config.seed])

    def rendering(self, *packages: str) -> str:
        """Digest of what a page depends on besides the records: recipes, the code and templates of these packages."""
        files = sorted(file for name in packages for file in (ROOT / "bench" / name).rglob("*.*"))
        code = sources.digest(*(file for file in files if file.suffix == ".py"))
        templates = {file.name: file.read_text(encoding="utf-8") for file in files if file.suffix in (".j2", ".css")}
        return recipes.digest([code, templates, [cell.recipe.content for cell in self.cells.values()]])


def plan(overrides: Mapping[str, object]) -> Plan:
    """Everything checked that can be checked before the first job starts; UserError otherwise."""
    # Snakemake reads numbers after --config, and True, but leaves YAML's true a word.
    words = {"true": True, "false": False}
    overrides = {key: words.get(value, value) if isinstance(value, str) else value for key, value in overrides.items()}
    config = configuration.load(overrides)
    check_device(config)
    available = availability(config)
    cells = recipes.matrix(config, available)
    known = recipes.recipes()
    for given, valid, what in ((config.tier.rows, known, "row"), (config.tier.datasets, available, "data set")):
        for name in given or ():
            if name not in valid:
                raise UserError(f"config/{config.tier.name}.yaml: {nearest(name, valid, what)}")
    for cell in cells:
        check_family(cell)
    if not cells:
        raise UserError(f"tier {config.tier.name!r}: no recipe has a cell whose data can be had; see `relaxbench list`")
    return Plan(config, options(overrides), {(cell.row, cell.dataset): cell for cell in cells})


def availability(config: Config) -> dict[str, bool]:
    """Every known data set -> can it be had here?

    UserError where the published recipes are asked for and there is nowhere to take published data from.
    """
    store = config.store
    here = {name: available(describe(name), store) for name in names()}
    if config.tier.recipes == "paper" and not (config.network or config.mirror):
        rows = recipes.recipes().values()
        wanted = {name for row in rows for name in row.tiers.get("paper", {}).get("datasets", {})} & set(here)
        missing = sorted(name for name in wanted if not here[name])
        if missing:
            raise UserError(f"tier paper: {nowhere(describe(missing[0]), store)}")
    return here


def check_family(cell: recipes.Cell) -> None:
    """The recipe names a family, and hyperparameters that it has."""
    where = f"recipes/{cell.row}.yaml"
    known = sources.families()
    if cell.recipe.family not in known:
        raise UserError(f"{where}: family: {nearest(cell.recipe.family, known, 'family')}")
    accepted = known[cell.recipe.family].hyperparameters
    for name in cell.model if accepted is not None else ():
        if name not in accepted:
            raise UserError(f"{where}: model ({cell.dataset}): {nearest(name, accepted, 'hyperparameter')}")


def check_device(config: Config) -> None:
    """device=cuda without a GPU ends here; torch, slow to import, is asked only then."""
    if config.device == "cuda":
        from bench.device import select_device

        select_device("cuda")


def gpus(config: Config) -> int:
    """How many GPUs a training job takes: one, if it will use any."""
    return int(config.device == "cuda" or (config.device == "auto" and Path("/proc/driver/nvidia/gpus").is_dir()))


def options(overrides: Mapping[str, object]) -> str:
    """The user's settings as options of ``python -m bench``, quoted for a shell."""
    given: list[str] = []
    for key, value in overrides.items():
        if isinstance(value, bool):
            given.append(f"--{key}" if value else f"--no-{key}")
        elif value is not None:
            given += [f"--{key}", str(value)]
    return shlex.join(given)


def lone_run(folder: Path = Path(".snakemake")) -> int:
    """Refuse a second run in the same folder, by a lock that the kernel drops when this process ends, however it ends.

    Snakemake's own lock is a file that outlives a killed run and has to be removed by hand. Keep what is returned.
    """
    folder.mkdir(exist_ok=True)
    handle = os.open(folder / "relaxbench.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"another run is at work in {folder.resolve().parent}; wait for it or end it") from None
    return handle


def _data_files(dataset: str) -> list[Path]:
    """What makes the data set: its loader, and the densities, which loaders name in a way that no parser sees."""
    folder = ROOT / "bench" / "datasets"
    densities = sorted((folder / "densities").glob("*.py")) if describe(dataset).density else []
    return [loader_file(dataset), folder / "preparation.py", *densities]
