"""The run's page: one HTML file with everything in it, made from records and the arrays beside them."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import jinja2
import numpy as np
from matplotlib.figure import Figure

from bench import figures, records, tables
from bench.claims import Result, evaluate_all
from bench.errors import UserError
from bench.paths import write_text
from bench.tables.layout import to_html
from bench.tables.summary import GROUPS, failures

HERE = Path(__file__).parent
TABLES = {
    "axes": "The four axes, measured",
    "toys": "Known densities and energies",
    "images": "Images",
    "tabular": "Tabular data",
}
TRADEOFFS = ("checkerboard", "double-well")


def write(run_folder: Path, out: Path, prepared: Path, keep: records.Keep = records.everything) -> Path:
    """Render the records of ``run_folder`` that ``keep`` wants to the page ``out``.

    ``prepared`` holds the data sets, for their real images.
    """
    cells = run_folder / "cells"
    found = records.read_all(cells, keep) if cells.is_dir() else []
    if not found:
        raise UserError(f"there are no records in {cells}; run `snakemake --cores all` first")
    write_text(out, page(found, cells, prepared))
    return out


def page(found: Sequence[dict], cells: Path, prepared: Path) -> str:
    tier = found[0]["run"]["tier"]
    results = evaluate_all(found)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("page.html.j2").render(
        tier=tier,
        style=(HERE / "style.css").read_text(encoding="utf-8"),
        counts=_counts(found, results),
        colours={group: figures.COLOURS[group] for group in GROUPS if any(r["run"]["group"] == group for r in found)},
        tables=[(name, title, to_html(tables.build(name, found, tier))) for name, title in TABLES.items()],
        themes=_themes(results),
        tradeoffs=_pictures(found, lambda d: figures.tradeoff(d, found) if d in TRADEOFFS else None, vector=True),
        maps=_pictures(found, lambda d: figures.density_maps(d, found, cells) if _planar(found, d) else None),
        samples=_pictures(found, lambda d: figures.sample_grids(d, found, cells, _real(prepared / d))),
        curves=_pictures(found, lambda d: figures.curves(d, found), vector=True),
        trouble=_trouble(found),
        provenance=_provenance(found),
        data=_data(found),
    )


def _embedded(figure: Figure, vector: bool = False) -> str:
    kind, content = ("svg+xml", figures.svg(figure)) if vector else ("png", figures.png(figure))
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _pictures(found: Sequence[dict], draw, vector: bool = False) -> list[tuple[str, str]]:
    """(data set, image) for every data set that ``draw`` has a figure of."""
    drawn = ((dataset, draw(dataset)) for dataset in sorted({r["run"]["dataset"] for r in found}))
    return [(dataset, _embedded(figure, vector)) for dataset, figure in drawn if figure is not None]


def _planar(found: Sequence[dict], dataset: str) -> bool:
    return any(r["data"]["shape"] == [2] for r in found if r["run"]["dataset"] == dataset)


def _real(folder: Path) -> np.ndarray | None:
    """The first test images, where the prepared set is at hand."""
    path = folder / "test.npy"
    if not path.exists():
        return None
    images = np.load(path, mmap_mode="r", allow_pickle=False)
    return np.asarray(images[:36]) if images.ndim == 4 else None


def _themes(results: Sequence[Result]) -> list[tuple[str, list[dict]]]:
    themes: dict[str, list[dict]] = {}
    for result in results:
        figure = figures.evidence(result.finding.evidence)
        shown = {
            "effect": result.effect_text(),
            "figure": _embedded(figure, vector=True) if figure else None,
            "css": result.finding.verdict.replace(" ", "-"),
        }
        themes.setdefault(result.claim.theme, []).append({**result.to_json(), **shown})
    return list(themes.items())


def _counts(found: Sequence[dict], results: Sequence[Result]) -> dict[str, object]:
    verdicts = Counter(result.finding.verdict for result in results)
    return {
        "records": len(found),
        "cells": len({records.identity(r)[:2] for r in found}),
        "rows": len({r["run"]["row"] for r in found}),
        "datasets": len({r["run"]["dataset"] for r in found}),
        "failed": sum(any(not g["passed"] for g in r["gates"].values()) for r in found),
        "ended": sum(r["status"] != "ok" for r in found),
        "minutes": sum(r["cost"].get("cpu_seconds") or 0 for r in found) / 60,
        "verdicts": [(name, verdicts[name]) for name in ("supported", "refuted", "inconclusive", "not run")],
    }


def _trouble(found: Sequence[dict]) -> list[tuple[str, str, list[str]]]:
    cells = records.by_cell(found).values()
    return [(c[0]["run"]["name"], c[0]["run"]["dataset"], lines) for c in cells if (lines := failures(c))]


def _provenance(found: Sequence[dict]) -> list[tuple[str, str]]:
    """What the records say of code and machine; several values where a run mixes them."""
    commits = {
        f"{r['code']['commit'] or 'no commit'}{' (with uncommitted changes)' if r['code']['dirty'] else ''}"
        for r in found
    }
    keys = sorted({key for r in found for key in r["environment"]})
    rows = [("commit", commits), *((key, {str(r["environment"].get(key)) for r in found}) for key in keys)]
    return [(key, ", ".join(sorted(values))) for key, values in rows]


def _data(found: Sequence[dict]) -> list[dict]:
    """Per data set: content, splits, flags."""
    sets = {}
    for r in found:
        sets.setdefault(r["run"]["dataset"], {**r["data"], "flags": r["comparability"]["flags"]})
    return [{"name": name, **content} for name, content in sorted(sets.items())]
