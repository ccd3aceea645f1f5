"""The run's configuration: ``config/config.yaml``, then one file per tier, then what the user sets.

Read by the Snakefile and the command line alike, so it imports neither torch nor numpy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from bench.datasets.raw.store import Store
from bench.errors import UserError, nearest
from bench.paths import CONFIG
from bench.schema import check


@dataclass(frozen=True)
class Tier:
    """What one tier runs: which section of the recipes, how many repetitions, how thorough."""

    name: str
    recipes: str  # the section of a recipe's ``tiers`` that names this tier's cells
    seeds: tuple[int, ...]
    rows: tuple[str, ...] | None = None  # None: every row that has cells
    datasets: tuple[str, ...] | None = None
    training: Mapping[str, object] = field(default_factory=dict)  # overrides every recipe (smoke: few steps)
    evaluation: Mapping[str, object] = field(default_factory=dict)
    sizes: str = "published"  # or "reduced": how many rows of a published set are prepared


@dataclass(frozen=True)
class Config:
    """The whole configuration, resolved."""

    tier: Tier
    device: str = "auto"
    mirror: Path | None = None
    network: bool = False
    seed: int = 0
    variant: str | None = None
    data: Path = Path("data")
    results: Path = Path("results")

    @property
    def run_folder(self) -> Path:
        return self.results / self.tier.name

    def cell_folder(self, row: str, dataset: str) -> Path:
        return self.run_folder / "cells" / dataset / row

    @property
    def prepared_folder(self) -> Path:
        """Prepared arrays, a folder per data set; reduced ones lie apart from those of published size."""
        return self.data / "prepared" / self.tier.sizes

    def prepared(self, dataset: str) -> Path:
        return self.prepared_folder / dataset

    @property
    def store(self) -> Store:
        """Where raw files are, and where they may be taken from."""
        return Store(self.data / "raw", self.mirror, self.network, self.variant)


def tiers() -> list[str]:
    return sorted(p.stem for p in CONFIG.glob("*.yaml") if p.stem != "config")


# Eight times as fast, where the library was built with it: every process reads every recipe.
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: Path) -> dict:
    """A YAML mapping; UserError with file and line if it is not one."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}:{line} not valid YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping of keys, found {type(content).__name__}")
    return content


def load(overrides: Mapping[str, object] | None = None) -> Config:
    """Defaults, then ``overrides`` (the command line's options or Snakemake's ``--config``)."""
    merged = read_yaml(CONFIG / "config.yaml") | {k: v for k, v in (overrides or {}).items() if v is not None}
    check(merged, "config", "configuration")
    tier = load_tier(str(merged.pop("tier")))
    if (seeds := merged.pop("seeds", None)) is not None:
        tier = dataclasses.replace(tier, seeds=tuple(range(int(seeds))))
    paths = {k: Path(str(merged[k])).expanduser() for k in ("mirror", "data", "results") if merged.get(k)}
    config = Config(tier, **{**merged, **paths})
    if config.mirror and not config.mirror.is_dir():
        raise UserError(
            f"configuration: mirror: there is no folder {config.mirror}; give the folder that holds the raw files"
        )
    return config


def load_tier(name: str) -> Tier:
    if name not in tiers():
        raise nearest(name, tiers(), "tier")
    path = CONFIG / f"{name}.yaml"
    content = read_yaml(path)
    check(content, "tier", f"config/{path.name}")
    sequences = {k: tuple(content[k]) for k in ("seeds", "rows", "datasets") if content.get(k) is not None}
    return Tier(name=name, **{**content, **sequences})
