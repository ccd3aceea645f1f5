"""Tables, rendered from records alone: the same records give the same bytes on every machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench.errors import nearest
from bench.paths import write_text
from bench.recipes import Recipe
from bench.recipes import recipes as all_recipes
from bench.records import identity
from bench.tables import axes, claims, images, tabular, toys
from bench.tables.layout import FORMATS, WRITERS, Table

Builder = Callable[[Sequence[dict], str, Mapping[str, Recipe]], Table]
BUILDERS: Mapping[str, Builder] = {
    "tabular": tabular.build,
    "images": images.build,
    "toys": toys.build,
    "axes": axes.build,
    "claims": claims.build,
}
NAMES = tuple(BUILDERS)

__all__ = ["FORMATS", "NAMES", "build", "render", "write_all"]


def build(name: str, records: Sequence[dict], tier: str, recipes: Mapping[str, Recipe] | None = None) -> Table:
    """The table as data. ``recipes`` give the published figures (default: the repository's)."""
    if name not in BUILDERS:
        raise nearest(name, NAMES, "table")
    return BUILDERS[name](sorted(records, key=identity), tier, all_recipes() if recipes is None else recipes)


def render(
    name: str, records: Sequence[dict], tier: str, fmt: str = "md", recipes: Mapping[str, Recipe] | None = None
) -> str:
    """One of ``NAMES`` in one of ``FORMATS``: md, csv, tex, html (a fragment)."""
    if fmt not in WRITERS:
        raise nearest(fmt, FORMATS, "table format")
    return WRITERS[fmt](build(name, records, tier, recipes))


def write_all(
    records: Sequence[dict], folder: Path, tier: str, recipes: Mapping[str, Recipe] | None = None
) -> list[Path]:
    """Every table as ``{folder}/{name}.md`` and ``.csv``; returns the paths."""
    paths = []
    for name in NAMES:
        table = build(name, records, tier, recipes)
        for fmt in ("md", "csv"):
            path = folder / f"{name}.{fmt}"
            write_text(path, WRITERS[fmt](table))
            paths.append(path)
    return paths
