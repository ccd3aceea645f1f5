"""Recipes: one table row is one YAML file. Resolves what a cell (row x data set, in a tier) runs.

Imports no torch: the Snakefile reads the matrix of cells from here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from bench.config import Config, Tier, read_yaml
from bench.datasets import registry
from bench.errors import UserError, nearest
from bench.paths import RECIPES
from bench.schema import check

SECTIONS = ("model", "training", "evaluation")


@dataclass(frozen=True)
class Recipe:
    """A row as its file states it; ``tiers`` names its cells.

    ``oracle``: independent implementation -> where the row is held against it, or "none" -> what it is held against.
    """

    id: str
    row: str
    group: str
    family: str
    source: str
    notes: tuple[str, ...]
    tiers: Mapping[str, Mapping]
    published: Mapping[str, Mapping]
    content: Mapping[str, object]
    oracle: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One row on one data set under one tier, with every setting resolved."""

    row: str
    dataset: str
    recipe: Recipe
    model: Mapping[str, object]
    training: Mapping[str, object]
    evaluation: Mapping[str, object]
    notes: tuple[str, ...]
    whole: int | None = None  # the steps of the recipe, where this cell is to take fewer

    def shortened(self, steps: int) -> Cell:
        """The same cell with a schedule compressed to ``steps``; one that takes no more stays as it is."""
        whole = self.training["steps"]
        if steps >= whole:
            return self
        halve = self.training.get("halve_every")
        schedule = {"steps": steps} | ({"halve_every": max(1, round(halve * steps / whole))} if halve else {})
        return replace(self, training={**self.training, **schedule}, whole=whole)

    def settings(self) -> dict:
        """What determines the cell's numbers, apart from code and data; hashed into the record."""
        return {"family": self.recipe.family, **{name: dict(getattr(self, name)) for name in SECTIONS}}


def merge(*layers: Mapping) -> dict:
    """Deep merge of mappings, later over earlier."""
    out: dict = {}
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
            out[key] = merge(out[key], value) if both else value
    return out


@cache
def recipes(folder: Path = RECIPES) -> dict[str, Recipe]:
    """Every recipe by its id (the file's stem), validated."""
    raw = {path.stem: read_yaml(path) for path in sorted(folder.glob("*.yaml"))}
    return {name: _recipe(name, raw) for name in raw}


def _recipe(name: str, raw: Mapping[str, dict]) -> Recipe:
    content = _extended(name, raw, ())
    where = f"recipes/{name}.yaml"
    check(content, "recipe", where)
    tiers = content.get("tiers", {})
    levels = [("", content)] + [(f"tiers.{t}.", c) for t, c in tiers.items()]
    levels += [(f"{at}datasets.{d}.", c) for at, level in levels[1:] for d, c in level["datasets"].items()]
    for at, level in levels:
        for section in ("training", "evaluation"):
            check(level.get(section, {}), section, f"{where}: {at}{section}")
    return Recipe(
        id=name,
        row=content["row"],
        group=content["group"],
        family=content["family"],
        source=content["source"],
        notes=tuple(content.get("notes", ())),
        tiers={tier: level | {"datasets": _with_parts(level["datasets"])} for tier, level in tiers.items()},
        published=content.get("published", {}),
        content=content,
        oracle=content.get("oracle", {}),
    )


def _with_parts(datasets: Mapping[str, Mapping]) -> dict[str, Mapping]:
    """A data set without some of its columns has the cells of the whole, by the same settings unless it has its own."""
    inherited = {part: settings for name, settings in datasets.items() for part in registry.parts(name)}
    return inherited | datasets


def _extended(name: str, raw: Mapping[str, dict], children: tuple[str, ...]) -> dict:
    """The file's content over that of the recipe it extends; the matrix of cells is not inherited."""
    content = raw[name]
    parent = content.get("extends")
    if parent is None:
        return content
    if parent in children:
        raise UserError(f"recipes/{name}.yaml: extends: {parent} extends this recipe in turn; break the circle")
    if parent not in raw:
        raise UserError(f"recipes/{name}.yaml: extends: {nearest(parent, raw, 'recipe')}")
    inherited = _extended(parent, raw, (*children, name))
    tiers = {
        tier: {k: v for k, v in level.items() if k != "datasets"} for tier, level in inherited.get("tiers", {}).items()
    }
    base = {k: v for k, v in inherited.items() if k not in ("published", "notes", "tiers")}
    base["tiers"] = {tier: tiers.get(tier, {}) for tier in content.get("tiers", {})}
    shared = {t: _inherited_datasets(inherited, t, level) for t, level in content.get("tiers", {}).items()}
    merged = merge(base, content)
    for tier, datasets in shared.items():
        merged["tiers"][tier]["datasets"] = datasets
    return merged


def _inherited_datasets(parent: Mapping, tier: str, level: Mapping) -> dict:
    """The cells that the child names, each over the parent's settings for the same data set."""
    above = parent.get("tiers", {}).get(tier, {}).get("datasets", {})
    return {name: merge(above.get(name) or {}, own or {}) for name, own in level.get("datasets", {}).items()}


def recipe(name: str) -> Recipe:
    known = recipes()
    if name not in known:
        raise nearest(name, known, "row")
    return known[name]


def cell(row: str, dataset: str, tier: Tier) -> Cell:
    """Resolve a cell: the recipe, its tier section, its data-set entry, then the tier's own overrides."""
    found = recipe(row)
    section = found.tiers.get(tier.recipes)
    if section is None or dataset not in section["datasets"]:
        cells = sorted(section["datasets"]) if section else []
        has = f"it has {', '.join(cells)}" if cells else "it has none"
        raise UserError(
            f"row {row!r} has no cell on {dataset!r} in tier {tier.name!r} ({has}); add it to recipes/{row}.yaml"
        )
    own = section["datasets"][dataset] or {}
    tier_level = {"training": tier.training, "evaluation": tier.evaluation}
    settings = {
        s: merge(*(level.get(s) or {} for level in (found.content, section, own, tier_level))) for s in SECTIONS
    }
    notes = (*found.notes, *section.get("notes", ()), *own.get("notes", ()))
    return Cell(row, dataset, found, notes=notes, **settings)


def called_for(record: Mapping, tier: Tier) -> bool:
    """Whether the recipes and the tier still ask for this run: results of removed cells and further seeds lie about."""
    run = record["run"]
    found = recipes().get(run["row"])
    cells = found.tiers.get(tier.recipes, {}).get("datasets", {}) if found else {}
    return run["dataset"] in cells and run["seed"] in tier.seeds


def matrix(config: Config, available: Mapping[str, bool]) -> list[Cell]:
    """All cells of the tier whose data can be had here; ``available`` says so of each known data set."""
    tier = config.tier
    cells = []
    for name, found in recipes().items():
        for dataset in found.tiers.get(tier.recipes, {}).get("datasets", {}):
            if dataset not in available:
                raise UserError(
                    f"recipes/{name}.yaml: tiers.{tier.recipes}.datasets: {nearest(dataset, available, 'data set')}"
                )
            wanted = (tier.rows is None or name in tier.rows) and (tier.datasets is None or dataset in tier.datasets)
            if wanted and available[dataset]:
                cells.append(cell(name, dataset, tier))
    return cells


def digest(content: object) -> str:
    """sha256 of canonical JSON: the identity of a configuration."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=list).encode()).hexdigest()
