"""One data set as a grid: its rows by what was measured of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.tables.layout import Cell, Section
from bench.tables.ranking import standings
from bench.tables.summary import (
    LIKELIHOOD_NAMES,
    SIGNS,
    UNRANKED,
    Marks,
    Standing,
    compact,
    datum,
    ended_well,
    likelihood_kind,
    order,
    summarise,
    with_spread,
)  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A metric or cost as a column. ``signed``: a likelihood bound makes it an ``upper`` bound of the truth.

    ``samples``: judged from samples alone, so ranked whatever the likelihood; ``cost``: shown, never ranked.
    """

    metric: str
    title: str
    digits: int = 3
    signed: str | None = None
    samples: bool = False
    cost: bool = False
    scale: float = 1.0


def section(
    dataset: str, rows: Mapping[str, Sequence[dict]], columns: Sequence[Column], marks: Marks
) -> tuple[Section, list]:
    """The grid of one data set and the long-form rows of the same; columns without a value are left out."""
    shown = [c for c in columns if any(summarise(found, c.metric) for found in rows.values())]
    unranked = dict.fromkeys(rows, UNRANKED)
    places = {c.metric: unranked if c.cost else standings(rows, c.metric, c.samples) for c in shown}
    ranked = sorted(rows, key=lambda row: order(rows[row]))
    lines = [_line(rows[row], shown, places, marks) for row in ranked]
    data = [datum(rows[r], c.metric, places[c.metric][r], marks.letter(rows[r])) for r in ranked for c in shown]
    header = ("row", "family", "likelihood", *(c.title for c in shown), "seeds")
    return Section(dataset, header, tuple(lines), text_columns=3), data


def _line(
    records: Sequence[dict], columns: Sequence[Column], places: Mapping[str, Mapping[str, Standing]], marks: Marks
) -> tuple[Cell, ...]:
    run, kind = records[0]["run"], likelihood_kind(records)
    noted = marks.of(records, f"{run['name']}, {run['dataset']}: ")
    ended = any(r["status"] == "ok" for r in records)
    name = Cell(run["name"], marks=(marks.letter(records), *noted), tone="failed" if noted else "")
    lead = (name, Cell(run["group"]), Cell(LIKELIHOOD_NAMES[kind] if ended else records[0]["status"]))
    return (*lead, *(value(records, c, places[c.metric][run["row"]].bold) for c in columns), seeds(records))


def seeds(records: Sequence[dict]) -> Cell:
    """How many ended well; of how many, where some did not."""
    ended = ended_well(records)
    return Cell(str(ended) if ended == len(records) else f"{ended} of {len(records)}")


def value(records: Sequence[dict], column: Column, bold: bool = False) -> Cell:
    found = summarise(records, column.metric)
    if found is None:
        return Cell("—", tone="absent")
    if column.cost:
        return Cell(compact(column.scale * found.mean))
    return Cell(with_spread(found, column.digits, _sign(records, column), column.scale, ended_well(records)), bold)


def _sign(records: Sequence[dict], column: Column) -> str:
    if column.signed is None:
        return ""
    return SIGNS[likelihood_kind(records)].replace("≥", "≤" if column.signed == "upper" else "≥")
