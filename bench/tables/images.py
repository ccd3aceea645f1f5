"""The table of image density estimation: bits per dimension, and what the samples are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.recipes import Recipe
from bench.records import by_cell
from bench.tables import published
from bench.tables.grid import Column, section
from bench.tables.layout import Table
from bench.tables.ranking import RANKING
from bench.tables.summary import COLUMNS, SIGN_LEGEND, SPREAD, Marks
from bench.tables.verdict import RULE

SHOWN = (
    Column("bits_per_dim", "bits/dim ↓", 3, signed="upper"),
    Column("bits_per_dim_importance_bound", "importance bound ↓", 3, signed="upper"),
    Column("frechet_distance", "Fréchet distance ↓", 2, samples=True),
    Column("sampling_passes", "passes per sample", cost=True),
    Column("seconds_per_1000_samples", "ms per sample", cost=True),
    Column("train_seconds", "training, s", cost=True),
    Column("parameters", "parameters", cost=True),
)
CAPTION = (
    "Bits per dimension of the integer data, lower is better. The Fréchet distance is in the features of a classifier "
    "trained here: it is not an FID and compares only within this table."
)


def build(records: Sequence[dict], tier: str, recipes: Mapping[str, Recipe]) -> Table:
    cells = by_cell(r for r in records if r["data"]["kind"] == "image")
    marks = Marks()
    sections, data = [], []
    for dataset in sorted({d for d, _ in cells}):
        grid, rows = section(dataset, {row: found for (d, row), found in cells.items() if d == dataset}, SHOWN, marks)
        sections.append(grid)
        data += rows
    against, lines = published.section(cells, recipes, tier, tabular=False, marks=marks)
    return Table(
        name="images",
        title=f"Image density estimation ({tier} tier)",
        caption=f"{CAPTION} {SPREAD} {SIGN_LEGEND} {RANKING} {RULE}",
        sections=(*sections, against),
        columns=COLUMNS,
        data=(*data, *lines),
        classes=marks.classes,
        notes=marks.notes,
    )
