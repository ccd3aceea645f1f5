"""Our figures beside those in print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.datasets import registry
from bench.recipes import Recipe
from bench.tables.layout import Cell, Section
from bench.tables.summary import GROUPS, SIGNS, Marks, likelihood_kind, number, summarise, with_spread
from bench.tables.verdict import compare

TABULAR = ("power", "gas", "hepmass", "miniboone", "bsds300")
METRICS = {"nats": "log_likelihood", "bits/dim": "bits_per_dim"}
HEADER = ("row", "family", "data set", "unit", "ours", "published", "difference", "verdict", "ours without its atom")
Cells = Mapping[tuple[str, str], Sequence[dict]]


def section(
    cells: Cells, recipes: Mapping[str, Recipe], tier: str, tabular: bool, marks: Marks
) -> tuple[Section, list]:
    """Every published figure of the recipes, with our verdict on it, and the long-form rows of the same."""
    rows, data = [], []
    for dataset, row, recipe, published in _figures(recipes, tabular):
        records = cells.get((dataset, row), ())
        line, datum = _line(dataset, row, recipe, published, records, tier, marks)
        rows.append((*line, _without_atom(dataset, row, cells, marks)) if tabular else line)
        data.append(datum)
    header = HEADER if tabular else HEADER[:-1]
    return Section("Against the published figures", header, tuple(rows), text_columns=4), data


def _without_atom(dataset: str, row: str, cells: Cells, marks: Marks) -> Cell:
    """The same row on the same data less the columns where a density has no upper bound."""
    for part in registry.parts(dataset):
        if records := cells.get((part, row)):
            sign = SIGNS.get(likelihood_kind(records), "")
            note = marks.note(
                f"{part}: trained anew on the other columns; densities of different dimension do not compare"
            )
            return Cell(with_spread(summarise(records, METRICS["nats"]), 2, sign), marks=(note,))
    return Cell("—" if registry.parts(dataset) else "")


def _figures(recipes: Mapping[str, Recipe], tabular: bool) -> list[tuple[str, str, Recipe, Mapping]]:
    figures = [
        (dataset, row, recipe, published)
        for row, recipe in recipes.items()
        for dataset, published in recipe.published.items()
        if (dataset in TABULAR) == tabular
    ]
    known = list(TABULAR)
    return sorted(
        figures, key=lambda f: (known.index(f[0]) if f[0] in known else 9, f[0], GROUPS.index(f[2].group), f[1])
    )


def _line(dataset: str, row: str, recipe: Recipe, published: Mapping, records: Sequence[dict], tier: str, marks: Marks):
    metric, digits = METRICS[published["unit"]], 3 if published["unit"] == "bits/dim" else 2
    ours = summarise(records, metric)
    flags = records[0]["comparability"]["flags"] if records else ()
    result = compare(ours, published, tier, flags, bool(records))
    kind = likelihood_kind(records) if records else ""
    sign = SIGNS.get(kind, "").replace("≥", "≤" if published["unit"] == "bits/dim" else "≥")
    where = f"{recipe.row}, {dataset}: "
    noted = marks.of(records, where) + ((marks.note(f"{where}{', '.join(flags)}"),) if flags else ())
    line = (
        Cell(recipe.row),
        Cell(recipe.group),
        Cell(dataset),
        Cell(published["unit"]),
        Cell(with_spread(ours, digits, sign), marks=noted),
        Cell(_in_print(published), marks=(marks.note(_source(published)),)),
        Cell("—" if result.difference is None else number(result.difference, digits)),
        Cell(result.verdict, tone=result.verdict.replace(" ", "-")),
    )
    datum = {
        "dataset": dataset, "row": row, "name": recipe.row, "group": recipe.group, "metric": metric,
        "unit": published["unit"], "better": "higher" if metric == "log_likelihood" else "lower", "likelihood": kind,
        "mean": ours and ours.mean, "sd_over_seeds": ours and ours.sd, "seeds": ours.n if ours else 0,
        "best_of_class": False, "published": published["value"], "published_error": published.get("error"),
        "published_error_kind": published.get("kind"), "difference": result.difference,
        "tolerance": result.tolerance, "verdict": result.verdict,
    }  # fmt: skip
    return line, datum


def _in_print(published: Mapping) -> str:
    error = published.get("error")
    return number(published["value"], 2) + ("" if error is None else f" ± {number(error, 2)}")


def _source(published: Mapping) -> str:
    kind = f"; ± is {published['kind']}" if published.get("error") is not None and published.get("kind") else ""
    dequantization = f"; {published['dequantization']} dequantization" if published.get("dequantization") else ""
    return f"{published['source']}{kind}{dequantization}"
