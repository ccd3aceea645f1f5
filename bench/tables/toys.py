"""The table of analytic densities: how far each row is from a truth that is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.recipes import Recipe
from bench.records import by_cell
from bench.tables.grid import Column, section
from bench.tables.layout import Table
from bench.tables.ranking import RANKING
from bench.tables.summary import COLUMNS, SIGN_LEGEND, SPREAD, Marks

DENSITIES = (
    Column("kl_to_truth", "KL to truth, nats ↓", 3, signed="upper"),
    Column("mass_outside", "mass outside, % ↓", 2, samples=True, scale=100),
    Column("modes_missed", "modes missed ↓", 1, samples=True),
    Column("total_variation", "total variation ↓", 3, samples=True),
    Column("parameters", "parameters", cost=True),
)
ENERGIES = (
    Column("ess", "ESS, % ↑", 1, samples=True, scale=100),
    Column("log_z_error", "error of log Z, nats", 3, samples=True),
    Column("free_energy_bias", "free-energy bias, kT", 3, samples=True),
    Column("free_energy_bias_reweighted", "reweighted, kT", 3, samples=True),
    Column("total_variation", "total variation ↓", 3, samples=True),
    Column("modes_missed", "modes missed ↓", 1, samples=True),
    Column("energy_evaluations_per_sample", "energy evaluations per sample", cost=True),
    Column("ess_per_second", "ESS per second", cost=True),
    Column("parameters", "parameters", cost=True),
)
CAPTION = (
    "KL(truth ‖ model) in nats, an upper bound where the likelihood is a lower bound; mass outside: share of samples "
    "outside the support of the truth (its high-density region where the support is the plane); total variation: "
    "between 2-D histograms of samples and of the truth (a perfect sampler's finite sample scores above 0). "
    "ESS: effective sample size of importance weights, as a share."
)


def build(records: Sequence[dict], tier: str, recipes: Mapping[str, Recipe]) -> Table:
    marks = Marks()
    sections, data = [], []
    for kind, columns in (("toy", DENSITIES), ("energy", ENERGIES)):
        cells = by_cell(r for r in records if r["data"]["kind"] == kind)
        for dataset in sorted({d for d, _ in cells}):
            grid, rows = section(
                dataset, {row: found for (d, row), found in cells.items() if d == dataset}, columns, marks
            )
            sections.append(grid)
            data += rows
    return Table(
        name="toys",
        title=f"Known densities and energies ({tier} tier)",
        caption=f"{CAPTION} {SPREAD} {SIGN_LEGEND} {RANKING}",
        sections=tuple(sections),
        columns=COLUMNS,
        data=tuple(data),
        classes=marks.classes,
        notes=marks.notes,
    )
