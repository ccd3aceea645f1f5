"""A table as data, and its four renderings. CSV is long and tidy; the others are for reading."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

FORMATS = ("md", "csv", "tex", "html")


@dataclass(frozen=True)
class Cell:
    """What stands in one cell: text, whether it is best of its class, and its superscript marks."""

    text: str
    bold: bool = False
    marks: tuple[str, ...] = ()
    tone: str = ""  # a css class in html: verdicts, absent values


@dataclass(frozen=True)
class Section:
    """One grid with a heading; ``text_columns`` are left-aligned, the others are numbers."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    text_columns: int = 1
    wrap: bool = False
    spans: tuple[tuple[str, int], ...] = ()  # headings over groups of columns, in html


@dataclass(frozen=True)
class Table:
    """A rendered table: grids for the reader, ``data`` (one row per number) for programs."""

    name: str
    title: str
    caption: str
    sections: tuple[Section, ...]
    columns: tuple[str, ...]
    data: tuple[Mapping[str, object], ...]
    classes: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


def to_csv(table: Table) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows([_field(row.get(column)) for column in table.columns] for row in table.data)
    return out.getvalue()


def _field(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def to_md(table: Table) -> str:
    parts = [f"# {table.title}", table.caption]
    for section in table.sections:
        parts += [f"## {section.title}", _md_grid(section)]
    parts += ["\n".join(_md_legend(title, legend)) for title, legend in _legends(table) if legend]
    return "\n\n".join(parts) + "\n"


def _legends(table: Table) -> tuple[tuple[str, Mapping[str, str]], ...]:
    return (("Comparability classes", table.classes), ("Notes", table.notes))


def _md_legend(title: str, legend: Mapping[str, str]) -> list[str]:
    return [f"{title}:", "", *(f"- <sup>{mark}</sup> {_md_text(text)}" for mark, text in legend.items())]


def _md_grid(section: Section) -> str:
    if not section.rows:
        return "No cells yet."
    grid = [[_md_text(text) for text in section.header], *([_md_cell(cell) for cell in row] for row in section.rows)]
    widths = [max(3, *(len(row[i]) for row in grid)) for i in range(len(section.header))]
    if section.wrap:
        widths = [3] * len(widths)
    left = [i < section.text_columns for i in range(len(widths))]
    rule = [("-" * w) if l else "-" * (w - 1) + ":" for w, l in zip(widths, left, strict=True)]
    lines = [
        [text.ljust(w) if l else text.rjust(w) for text, w, l in zip(row, widths, left, strict=True)] for row in grid
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], rule, *lines[1:]])


def _md_cell(cell: Cell) -> str:
    text = _md_text(cell.text)
    text = f"**{text}**" if cell.bold else text
    return f"{text}<sup>{','.join(cell.marks)}</sup>" if cell.marks else text


def _md_text(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def to_html(table: Table) -> str:
    """A fragment: no page around it, classes for the report's style sheet."""
    summary = "<summary>How to read this table</summary>"
    caption = f"<details class='caption'>{summary}<p>{html.escape(table.caption)}</p></details>"
    sections = "\n".join(f"<h3>{html.escape(s.title)}</h3>\n{_html_grid(s)}" for s in table.sections)
    legends = "\n".join(_html_legend(title, legend) for title, legend in _legends(table) if legend)
    return f"<section class='table' id='table-{table.name}'>\n{caption}\n{sections}\n{legends}\n</section>\n"


def _html_grid(section: Section) -> str:
    if not section.rows:
        return "<p class='absent'>No cells yet.</p>"
    kinds = ["text" if i < section.text_columns else "number" for i in range(len(section.header))]
    titles = [html.escape(title).replace(" ↓", "&nbsp;↓").replace(" ↑", "&nbsp;↑") for title in section.header]
    head = "".join(f"<th class='{k}'>{title}</th>" for title, k in zip(titles, kinds, strict=True))
    if section.spans:
        over = "".join(f"<th colspan='{n}'>{html.escape(title)}</th>" for title, n in section.spans)
        head = f"{over}</tr><tr>{head}"
    rows = "\n".join(
        "<tr>" + "".join(_html_cell(cell, k) for cell, k in zip(row, kinds, strict=True)) + "</tr>"
        for row in section.rows
    )
    return f"<div class='scroll'><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>"


def _html_cell(cell: Cell, kind: str) -> str:
    text = html.escape(cell.text)
    text = f"<strong>{text}</strong>" if cell.bold else text
    text += f"<sup>{','.join(cell.marks)}</sup>" if cell.marks else ""
    tone = f" {cell.tone}" if cell.tone else ""
    return f"<td class='{kind}{tone}'>{text}</td>"


def _html_legend(title: str, legend: Mapping[str, str]) -> str:
    items = "".join(f"<li><sup>{mark}</sup> {html.escape(text)}</li>" for mark, text in legend.items())
    return f"<details class='legend'><summary>{title} ({len(legend)})</summary><ul>{items}</ul></details>"


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_", "$": r"\$", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "≤": r"$\le$", "≥": r"$\ge$",
    "≈": r"$\approx$", "−": "$-$", "—": "---", "–": "--", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "·": r"$\cdot$",
    "×": r"$\times$", "√": r"$\surd$", "²": r"$^2$", "→": r"$\to$", "<": r"$<$", ">": r"$>$", "|": r"$|$",
}  # fmt: skip


def _tex_text(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text)


def to_tex(table: Table) -> str:
    """One booktabs table per section."""
    return "\n".join(_tex_section(table, section) for section in table.sections) or "% no cells yet\n"


def _tex_section(table: Table, section: Section) -> str:
    count = len(section.header)
    spec = "l" * min(section.text_columns, count) + "r" * max(0, count - section.text_columns)
    used = {mark for row in section.rows for cell in row for mark in cell.marks}
    legend = [(m, t) for _, marks in _legends(table) for m, t in marks.items() if m in used]
    lines = [
        r"\begin{table}",
        rf"\caption{{{_tex_text(f'{table.title}: {section.title}. {table.caption}')}}}",
        rf"\begin{{tabular}}{{{spec}}}",
        r"\toprule",
        " & ".join(map(_tex_text, section.header)) + r" \\",
        r"\midrule",
        *(" & ".join(map(_tex_cell, row)) + r" \\" for row in section.rows),
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\footnotesize\textsuperscript{{{m}}} {_tex_text(t)}" for m, t in legend),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _tex_cell(cell: Cell) -> str:
    text = _tex_text(cell.text)
    text = rf"\textbf{{{text}}}" if cell.bold else text
    return text + (rf"\textsuperscript{{{','.join(cell.marks)}}}" if cell.marks else "")


WRITERS = {"md": to_md, "csv": to_csv, "tex": to_tex, "html": to_html}


def plain(texts: Sequence[str]) -> tuple[Cell, ...]:
    return tuple(Cell(text) for text in texts)
