"""From raw files (or from nothing) to ``train.npy``, ``val.npy``, ``test.npy`` and ``meta.json``."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.datasets.info import Info, Request, Size, Splits, Variant
from bench.datasets.raw.fetch import Fetched, fetch_pin
from bench.datasets.raw.store import Store, select
from bench.datasets.registry import describe
from bench.datasets.splits import write_splits
from bench.paths import disk_of

if TYPE_CHECKING:
    import numpy as np


def fetch(name: str, store: Store) -> list[Fetched]:
    """Bring the raw files of the first variant of a data set that can be had; none for the embedded ones."""
    return [fetch_pin(pin, store) for pin in select(describe(name), store).pins]


def prepare(name: str, *, store: Store, out: Path, seed: int, size: Size = "published") -> Path:
    """Write the data set to the folder ``out``, whole or not at all, and return it.

    ``seed`` is the root seed. ``size`` "reduced" takes the fewer rows of the quick tier. UserError for whatever the
    user can put right.
    """
    info = describe(name)
    variant = select(info, store)
    request = Request(name, info.rows(variant, size), seed, lambda pin: fetch_pin(pin, store).path)
    with _whole_folder(out) as folder:
        md5 = write_splits(variant.build(request), folder, name)
        splits = mapped(folder)
        meta = _meta(info, variant, splits, md5) | {"seed": seed}
        (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
        if variant.labels:
            _write_labels(folder, variant.labels(request), len(splits.train))
    return out


def is_prepared(name: str, folder: Path, store: Store) -> bool:
    """Is the data set there, and made from the variant that was asked for, if one was?"""
    meta = folder / "meta.json"
    if not meta.exists():
        return False
    others = {variant.name for variant in describe(name).variants} - {json.loads(meta.read_text())["variant"]}
    return store.variant not in others


def mapped(folder: Path) -> Splits:
    """The splits that ``prepare`` wrote, by memory map."""
    import numpy as np

    return Splits(*(np.load(folder / f"{split}.npy", mmap_mode="r") for split in Splits._fields))


def _meta(info: Info, variant: Variant, splits: Splits, md5: dict[str, str]) -> dict:
    from bench.datasets.hazards import scan

    mean, std = _moments(splits.train, info.levels)
    sizes = tuple(len(rows) for rows in splits)
    reduced = ("reduced",) if any(n < full for n, full in zip(sizes, info.sizes, strict=True)) else ()
    return {
        "name": info.name,
        "kind": info.kind,
        "variant": variant.name,
        "shape": list(info.shape),
        "levels": info.levels,
        "flags": [*reduced, *variant.flags],
        "sizes": dict(zip(Splits._fields, sizes, strict=True)),
        "preprocessing": variant.preprocessing,
        "mean": mean,
        "std": std,
        "md5": hashlib.md5("".join(md5.values()).encode()).hexdigest(),
        "split_md5": md5,
        "hazards": [hazard.to_json() for hazard in scan(splits, info)],
    }


def _write_labels(folder: Path, labels: np.ndarray, rows: int) -> None:
    import numpy as np

    if len(labels) != rows:
        raise ValueError(f"{len(labels)} labels for {rows} training rows: the loader splits them differently")
    np.save(folder / "labels.npy", np.ascontiguousarray(labels))


def _moments(train: np.ndarray, levels: int | None) -> tuple[list[float] | float, list[float] | float]:
    """Mean and standard deviation: per feature, or of all values on the scale x / levels."""
    import numpy as np

    if levels is None:
        return train.mean(0, dtype=np.float64).tolist(), train.std(0, dtype=np.float64).tolist()
    # From the histogram, in blocks: no floating-point copy of the images.
    counts = sum(np.bincount(train[i : i + 1000].ravel(), minlength=levels) for i in range(0, len(train), 1000))
    share = counts / train.size
    value = np.arange(levels) / levels
    mean = float(share @ value)
    return mean, float(np.sqrt(share @ (value - mean) ** 2))


@contextmanager
def _whole_folder(out: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``out`` on success and vanishes on failure."""
    temporary = None
    try:
        with disk_of(out.parent):
            out.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
            yield temporary
            temporary.chmod(0o755)
            if out.exists():
                shutil.rmtree(out)
            os.replace(temporary, out)
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
