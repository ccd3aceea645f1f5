"""The survey's four axes, measured: one row per family on each data set that families share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.recipes import Recipe
from bench.records import by_cell
from bench.tables.grid import Column, seeds, value
from bench.tables.layout import Cell, Section, Table
from bench.tables.summary import (
    COLUMNS,
    GROUPS,
    LIKELIHOOD_NAMES,
    SPREAD,
    Marks,
    datum,
    likelihood_kind,
    number,
    summarise,
)

REPRESENTATIVES = {
    "baseline": ("gaussian",),
    "normalizing flow": ("rq-nsf-ar", "rq-nsf-c", "maf", "realnvp", "glow"),
    "continuous flow": ("ffjord",),
    "autoregressive": ("pixelcnn",),
    "VAE": ("vae",),
    "diffusion": ("ddpm", "ddpm-simple"),
    "score-based": ("score-sde-vp",),
    "flow matching": ("flow-matching",),
    "SurVAE flow": ("signed-abs-flow", "abs-flow", "max-pool-flow", "sort-flow"),
    "stochastic normalizing flow": ("snf-langevin", "snf-underdamped", "snf-metropolis"),
    "DiffFlow": ("diffflow",),
    "GAN": ("gan",),
}
"""Who stands for a family: the first of these that has a cell, whatever it scored; written down before the runs."""


@dataclass(frozen=True)
class Axis:
    """One of the survey's four axes and the columns that measure it."""

    name: str
    columns: tuple[Column, ...]


LIKELIHOOD = "likelihood tractability"
GAPS = ("gap_to_importance_bound", "gap_to_ode")
EXPRESSIVITY = {
    "toy": (
        Column("kl_to_truth", "KL to truth, nats", 3, signed="upper"),
        Column("total_variation", "total variation", 3),
        Column("mass_outside", "mass outside, %", 1, scale=100),
        Column("modes_missed", "modes missed", 1),
    ),
    "image": (Column("bits_per_dim", "bits/dim", 3, signed="upper"), Column("frechet_distance", "Fréchet distance", 2)),
    "energy": (Column("total_variation", "total variation", 3), Column("modes_missed", "modes missed", 1)),
}
SHARED = (
    Axis(
        "training speed",
        (
            Column("seconds_to_within", "converged, s", cost=True),
            Column("steps_to_within", "converged, steps", cost=True),
        ),
    ),
    Axis(
        "sampling efficiency",
        (
            Column("sampling_passes", "passes per sample", cost=True),
            Column("seconds_per_1000_samples", "ms per sample", cost=True),
            Column("ess", "ESS, %", 1, scale=100),
        ),
    ),
    Axis(
        LIKELIHOOD,
        (
            Column("likelihood_passes", "passes per likelihood", cost=True),
            Column("seconds_per_1000_likelihoods", "ms per likelihood", cost=True),
        ),
    ),
)
DATASETS = ("checkerboard", "eight-gaussians", "double-well", "digits", "mnist")
CAPTION = (
    "The survey compares families in words on four axes: expressivity, training speed, sampling efficiency and "
    "likelihood tractability. Here they are measured, on data sets that families share. A family is represented by "
    "the row named, chosen before the runs and not by its score (bench/tables/axes.py lists the order). Nothing is "
    "ranked: cells may differ in the kind of their likelihood. Converged: to within .1 nat of the best of its own "
    "validation losses, in seconds of training and in steps, to the resolution of the validations (ten a run, or as "
    "the recipe says). Times are of one machine under the load of the run, which an interval over seeds does not see. "
    "ms per sample and per likelihood are amortised over a batch. Gap: how much a lower bound gains when it is "
    "tightened, nats, on the same rows; 0 for an exact likelihood, and a dash where "
    "no tighter estimate exists. ≤: an upper bound; ≈: from an ODE estimate."
)


def build(records: Sequence[dict], tier: str, recipes: Mapping[str, Recipe]) -> Table:
    marks, data, sections = Marks(), [], []
    cells = by_cell(records)
    for dataset in DATASETS:
        found = {row: cell for (d, row), cell in cells.items() if d == dataset}
        if found:
            grid, rows = _section(dataset, found, marks)
            sections.append(grid)
            data += rows
    return Table(
        name="axes",
        title=f"The survey's four axes ({tier} tier)",
        caption=f"{CAPTION} {SPREAD}",
        sections=tuple(sections),
        columns=COLUMNS,
        data=tuple(data),
        notes=marks.notes,
    )


def representatives(rows: Mapping[str, list[dict]]) -> dict[str, str]:
    """Family -> the row that stands for it among ``rows``."""
    chosen = {}
    for group in GROUPS:
        members = sorted(row for row, found in rows.items() if found[0]["run"]["group"] == group)
        if members:
            chosen[group] = next((r for r in REPRESENTATIVES.get(group, ()) if r in members), members[0])
    return chosen


def _section(dataset: str, rows: Mapping[str, list[dict]], marks: Marks) -> tuple[Section, list[dict]]:
    chosen = {group: rows[row] for group, row in representatives(rows).items()}
    kind = next(iter(rows.values()))[0]["data"]["kind"]
    axes = (Axis("expressivity", EXPRESSIVITY.get(kind, ())), *SHARED)
    shown = [
        (axis.name, c) for axis in axes for c in axis.columns if any(summarise(f, c.metric) for f in chosen.values())
    ]
    lines, data = [], []
    for group, records in chosen.items():
        noted = marks.of(records, f"{records[0]['run']['name']}, {dataset}: ")
        gap, gap_datum = _gap(records)
        lines.append(
            (
                Cell(group),
                Cell(records[0]["run"]["name"], marks=noted, tone="failed" if noted else ""),
                *(value(records, c) for _, c in shown),
                Cell(LIKELIHOOD_NAMES[likelihood_kind(records)]),
                gap,
                seeds(records),
            )
        )
        data += [datum(records, c.metric, axis=axis) for axis, c in shown]
        data += [gap_datum] if gap_datum else []
    header = ("family", "row", *(c.title for _, c in shown), "likelihood", "gap, nats", "seeds")
    spans = [(name, sum(axis == name for axis, _ in shown)) for name in dict.fromkeys(axis for axis, _ in shown)]
    spans = [("", 2), *((name, count + 2 * (name == LIKELIHOOD)) for name, count in spans), ("", 1)]
    return Section(dataset, header, tuple(lines), text_columns=2, spans=tuple(spans)), data


def _gap(records: Sequence[dict]) -> tuple[Cell, dict | None]:
    """How far the headline bound lies below a tighter estimate of the same model on the same rows, nats."""
    if likelihood_kind(records) == "exact":
        return Cell("0"), None
    name = next((name for name in GAPS if summarise(records, name)), None)
    if name is None:
        return Cell("—", tone="absent"), None
    return Cell(number(summarise(records, name).mean, 3)), datum(records, name, axis=LIKELIHOOD)
