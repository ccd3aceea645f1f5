"""Promote a run's records to the committed ones and render the committed tables from them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from bench import records, tables
from bench.errors import UserError
from bench.paths import PAPER_TABLES


def records_folder(tier: str, target: Path = PAPER_TABLES) -> Path:
    return target / "records" / tier


def freeze(
    run_folder: Path, tier: str, target: Path = PAPER_TABLES, keep: records.Keep = records.everything, add: bool = False
) -> list[str]:
    """Replace the tier's frozen records by the run's (no arrays, no weights) and re-render its tables.

    Records are copied byte for byte, so the frozen set is exactly what ``keep`` wants of this run; with ``add`` the
    frozen cells that the run has not stay, since no one machine fills the paper tier. Returns one line per thing done.
    """
    cells = run_folder / "cells"
    paths = sorted(cells.rglob("seed*.json")) if cells.is_dir() else []
    read = {path: records.read(path) for path in paths}
    paths = [path for path, record in read.items() if keep(record)]
    found = [read[path] for path in paths]
    if not found:
        raise UserError(f"there are no records in {cells}; run `snakemake --cores all` first")
    strangers = sorted({r["run"]["tier"] for r in found} - {tier})
    if strangers:
        raise UserError(f"{cells} holds records of tier {', '.join(strangers)}; freeze takes one tier, {tier}")
    frozen = records_folder(tier, target)
    fresh = {path.relative_to(cells): path for path in paths}
    if add:
        ran = {path.parent for path in fresh}
        kept = {path.relative_to(frozen): path for path in frozen.rglob("seed*.json")}
        fresh |= {at: path for at, path in kept.items() if at.parent not in ran}
    _replace(fresh, frozen)
    written = render(tier, target, target / tier)
    dirty = sum(bool(r["code"]["dirty"]) for r in found)
    warning = [f"warning: {dirty} records come from a working tree with uncommitted changes"] if dirty else []
    return [
        f"{len(found)} records{f', {len(fresh) - len(found)} more stay' if add else ''}: {frozen}",
        f"{len(written)} tables: {target / tier}",
        *warning,
    ]


def _replace(sources: Mapping[Path, Path], target: Path) -> None:
    """Copy beside the target, then swap: an interruption leaves the old set or the new one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".freezing-") as scratch:
        fresh, old = Path(scratch) / "new", Path(scratch) / "old"
        for at, path in sources.items():
            copy = fresh / at
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        had = target.exists()
        if had:
            target.rename(old)
        try:
            fresh.rename(target)
        except BaseException:
            if had:
                old.rename(target)
            raise


def render(tier: str, source: Path, folder: Path) -> list[Path]:
    """The tables of the frozen records below ``source``, written to ``folder``."""
    return tables.write_all(records.read_all(records_folder(tier, source)), folder, tier)
