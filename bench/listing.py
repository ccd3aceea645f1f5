"""What ``relaxbench list`` shows: rows of plain values with stable keys, and the same as a table of text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.config import Config
from bench.errors import UserError
from bench.recipes import recipes

if TYPE_CHECKING:
    from bench.datasets.info import Info, Variant
    from bench.datasets.raw.store import Store

Rows = list[dict]
WIDTH = 120
"""Columns of a terminal that a table of text fits into."""


def systems(config: Config) -> Rows:
    """Every recipe, what it is held against, and the data sets it has cells on in the configured tier."""
    return [
        {
            "row": name,
            "name": recipe.row,
            "group": recipe.group,
            "family": recipe.family,
            "oracle": dict(recipe.oracle),
            "datasets": list(recipe.tiers.get(config.tier.recipes, {}).get("datasets", {})),
            "source": recipe.source,
        }
        for name, recipe in recipes().items()
    ]


def datasets(config: Config) -> Rows:
    """Every data set: where it is, which variant of it would be taken, its size, licence and hazards.

    ``state``: ``prepared``; ``outdated``: prepared by other steps than today's; ``embedded``: needs no raw files; raw
    files ``fetched``, in the ``mirror`` or on the ``network``; ``no address``: to be had from neither.
    """
    from bench.datasets import describe, names

    return [_dataset(describe(name), config) for name in names()]


def _dataset(info: Info, config: Config) -> dict:
    """``rows``, ``flags``, ``bytes`` are of the variant that was prepared or would be taken; ``sizes`` as published.

    ``bytes`` is None where a pin does not know the size of its file, ``variant`` where no variant can be had.
    """
    from bench.datasets import cards

    state, variant = _obtainable(info, config.store)
    prepared = None
    try:
        if prepared := cards.measured(info, config.prepared(info.name)):
            state = "prepared"
            variant = next(each for each in info.variants if each.name == prepared["variant"])
    except UserError:
        state = "outdated"
    asked = variant or info.variants[0]
    rows = list(prepared["sizes"].values() if prepared else info.rows(asked, config.tier.sizes))
    hazards, scanned = _hazards(info, prepared)
    return {
        "dataset": info.name,
        "title": info.title,
        "kind": info.kind,
        "state": state,
        "variant": variant.name if variant else None,
        "variants": [each.name for each in info.variants],
        "shape": list(info.shape),
        "levels": info.levels,
        "sizes": list(info.sizes),
        "rows": rows,
        "bytes": _bytes(asked),
        "licence": info.licence,
        "flags": list(prepared["flags"] if prepared else _flags(info, asked, rows)),
        "hazards": hazards,
        "scanned": scanned,
        "source": info.source,
    }


def _obtainable(info: Info, store: Store) -> tuple[str, Variant | None]:
    """Where the raw files of the variant that would be taken are; none is opened."""
    from bench.datasets.raw.pins import read_pin
    from bench.datasets.raw.store import available, select

    if info.needs == "embedded":
        return "embedded", info.variants[0]
    if not available(info, store):
        store = replace(store, network=True)
        if not available(info, store):
            return "no address", None
    variant = select(info, store)
    pins = [read_pin(name) for name in variant.pins]
    if all((store.raw / pin.path).exists() for pin in pins):
        return "fetched", variant
    return "mirror" if all(map(store.is_here, pins)) else "network", variant


def _bytes(variant: Variant) -> int | None:
    """What its raw files weigh, by their pins; an archive stands for a member whose size is not known."""
    from bench.datasets.raw.pins import read_pin
    from bench.datasets.raw.store import chain

    sizes: dict[str, int] = {}
    for pin in map(read_pin, variant.pins):
        known = next((link for link in chain(pin) if link.size), None)
        if known is None:
            return None
        sizes[known.name] = known.size
    return sum(sizes.values())


def _flags(info: Info, variant: Variant, rows: list[int]) -> tuple[str, ...]:
    fewer = any(n < full for n, full in zip(rows, info.sizes, strict=True))
    return (*(("reduced",) if fewer else ()), *variant.flags)


def _hazards(info: Info, prepared: dict | None) -> tuple[Rows, str | None]:
    """Those known from how the data were made, then those a scan found; and where the scan's findings come from.

    ``prepared``: the arrays on this machine. ``card``: the front matter of the committed card, so arrays of published
    size elsewhere. None: no scan has run.
    """
    from bench.datasets import cards

    known = [{"kind": "known", "text": text, "columns": [], "share": None} for text in info.hazards]
    if prepared:
        return known + prepared["hazards"], "prepared"
    found = cards.findings(cards.FOLDER / f"{info.name}.md")
    return (known + found["hazards"], "card") if found else (known, None)


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
    """Aligned columns; long values are cut, and ``--json`` has them whole. Data sets fit ``WIDTH``."""
    of_datasets = bool(rows) and "dataset" in rows[0]
    if of_datasets:
        rows = [_dataset_text(row) for row in rows]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_short(row.get(key), width) for key in keys] for row in rows]
    widths = [max(len(line[i]) for line in [keys, *cells]) for i in range(len(keys))]
    lines = ["  ".join(v.ljust(w) for v, w in zip(line, widths, strict=True)).rstrip() for line in [keys, *cells]]
    return "\n".join(_short(line, WIDTH) if of_datasets else line for line in lines)


def _dataset_text(row: dict) -> dict:
    """A data set in as many columns as a terminal has room for; what may be long comes last."""
    from tqdm import tqdm

    size = tqdm.format_sizeof(row["bytes"], "B", 1000) if row["bytes"] else "-" if row["bytes"] == 0 else "?"
    kinds = Counter(hazard["kind"] for hazard in row["hazards"])
    if "known" in kinds:
        kinds["known"] = kinds.pop("known")  # last: they are what may be cut
    hazards = [kind if n == 1 else f"{kind} x{n}" for kind, n in kinds.items()]
    unscanned = [] if row["scanned"] else ["not scanned"]
    flags = [flag for flag in row["flags"] if flag != row["variant"]]
    return {
        "dataset": row["dataset"],
        "kind": row["kind"],
        "state": row["state"],
        "variant": row["variant"] or "-",
        "raw": size,
        "rows": tqdm.format_sizeof(sum(row["rows"])),
        "licence": _short(row["licence"], 14),
        "flags; hazards": "; ".join(", ".join(part) for part in (flags, hazards + unscanned) if part),
    }


def _short(value: object, width: int) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list | dict) else "" if value is None else str(value)
    return text if len(text) <= width else text[: width - 1] + "…"
