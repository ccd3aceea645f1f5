"""What ``relaxbench list`` shows: rows of plain values with stable keys."""

from __future__ import annotations

from collections.abc import Callable

from bench.config import Config
from bench.recipes import recipes

Rows = list[dict]


def systems(config: Config) -> Rows:
    """Every recipe, with the data sets it has cells on in the configured tier."""
    return [
        {
            "row": name,
            "name": recipe.row,
            "group": recipe.group,
            "family": recipe.family,
            "datasets": list(recipe.tiers.get(config.tier.recipes, {}).get("datasets", {})),
            "source": recipe.source,
        }
        for name, recipe in recipes().items()
    ]


def datasets(config: Config) -> Rows:
    """Every data set: where it comes from, whether it is prepared here, its size, licence and hazards."""
    from bench.datasets import describe, names

    rows = []
    for name in names():
        info = describe(name)
        prepared = (config.prepared(name) / "meta.json").exists()
        rows.append(
            {
                "dataset": name,
                "kind": info.kind,
                "state": "prepared" if prepared else info.needs,
                "shape": list(info.shape),
                "sizes": list(info.sizes),
                "licence": info.licence,
                "hazards": list(info.hazards),
                "source": info.source,
            }
        )
    return rows


def tables(config: Config) -> Rows:
    from bench.tables import NAMES

    rendered = config.run_folder / "tables"
    return [{"table": name, "rendered": (rendered / f"{name}.md").exists()} for name in NAMES]


def claims(config: Config) -> Rows:
    from bench.claims import CLAIMS

    return [{"claim": claim.id, "sentence": claim.sentence, "rule": claim.rule} for claim in CLAIMS]


LISTINGS: dict[str, Callable[[Config], Rows]] = {
    "systems": systems,
    "datasets": datasets,
    "tables": tables,
    "claims": claims,
}


def as_text(rows: Rows, width: int = 44) -> str:
    """Aligned columns; long values are cut, and ``--json`` has them whole."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_short(row.get(key), width) for key in keys] for row in rows]
    widths = [max(len(line[i]) for line in [keys, *cells]) for i in range(len(keys))]
    return "\n".join(
        "  ".join(v.ljust(w) for v, w in zip(line, widths, strict=True)).rstrip() for line in [keys, *cells]
    )


def _short(value: object, width: int) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
    return text if len(text) <= width else text[: width - 1] + "…"
