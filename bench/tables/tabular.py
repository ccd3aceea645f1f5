"""The table of tabular density estimation: test log-likelihood in nats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.recipes import Recipe
from bench.records import by_cell
from bench.tables import published
from bench.tables.layout import Cell, Section, Table
from bench.tables.ranking import RANKING, standings
from bench.tables.summary import (
    COLUMNS,
    SIGN_LEGEND,
    SIGNS,
    SPREAD,
    UNRANKED,
    Marks,
    datum,
    likelihood_kind,
    order,
    summarise,
    with_spread,
)  # fmt: skip
from bench.tables.verdict import RULE

METRIC = "log_likelihood"


def build(records: Sequence[dict], tier: str, recipes: Mapping[str, Recipe]) -> Table:
    cells = by_cell(r for r in records if r["data"]["kind"] == "tabular")
    marks = Marks()
    ours, data = _matrix(cells, marks)
    against, lines = published.section(cells, recipes, tier, tabular=True, marks=marks)
    return Table(
        name="tabular",
        title=f"Tabular density estimation ({tier} tier)",
        caption=f"Test log-likelihood, nats, higher is better. {SPREAD} {SIGN_LEGEND} {RANKING} {RULE}",
        sections=(ours, against),
        columns=COLUMNS,
        data=(*data, *lines),
        classes=marks.classes,
        notes=marks.notes,
    )


def _matrix(cells: Mapping[tuple[str, str], list[dict]], marks: Marks) -> tuple[Section, list[dict]]:
    """Rows by data sets."""
    datasets = sorted({dataset for dataset, _ in cells}, key=lambda d: (d not in ("breast-cancer", "photo-patches"), d))
    rows = sorted({row: order(found) for (_, row), found in cells.items()}.items(), key=lambda item: item[1])
    places = {d: standings({row: found for (at, row), found in cells.items() if at == d}, METRIC) for d in datasets}
    lines, data = [], []
    for row, _ in rows:
        of_row = {d: cells[d, row] for d in datasets if (d, row) in cells}
        run = next(iter(of_row.values()))[0]["run"]
        line = [Cell(run["name"]), Cell(run["group"])]
        for dataset in datasets:
            place = places[dataset].get(row, UNRANKED)
            line.append(_cell(of_row.get(dataset), place.bold, marks))
            if dataset in of_row:
                letter = marks.letter(of_row[dataset])
                data.append(datum(of_row[dataset], METRIC, place, letter))
        lines.append(tuple(line))
    return Section("Ours, by data set", ("row", "family", *datasets), tuple(lines), text_columns=2), data


def _cell(records: list[dict] | None, bold: bool, marks: Marks) -> Cell:
    if records is None:
        return Cell("", tone="absent")
    run = records[0]["run"]
    noted = marks.of(records, f"{run['name']}, {run['dataset']}: ")
    found = summarise(records, METRIC)
    if found is None:
        kind = likelihood_kind(records)
        text = "no likelihood" if kind == "none" and records[0]["status"] == "ok" else records[0]["status"]
        return Cell(text, marks=noted, tone="failed")
    sign = SIGNS[likelihood_kind(records)]
    return Cell(with_spread(found, 3, sign), bold, (marks.letter(records), *noted))
