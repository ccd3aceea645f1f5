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

from bench.datasets.fetch import fetch_pin
from bench.datasets.info import Info, Request, Size, Splits
from bench.datasets.readers import check_finite
from bench.datasets.registry import describe
from bench.paths import disk_of

if TYPE_CHECKING:
    import numpy as np


def prepare(
    name: str,
    *,
    raw: Path,
    mirror: Path | None,
    out: Path,
    seed: int,
    size: Size = "published",
    network: bool = False,
) -> Path:
    """Write the data set to the folder ``out``, whole or not at all, and return it.

    ``raw`` keeps verified raw files and ``mirror`` may hold them already; ``network`` allows
    their addresses; ``seed`` is the root seed. ``size``
    "reduced" takes the fewer rows of the quick tier. UserError for whatever the user can put right.
    """
    info = describe(name)
    sizes = info.reduced if size == "reduced" and info.reduced else info.sizes
    request = Request(
        name, sizes, seed, lambda pin: fetch_pin(pin, raw=Path(raw), mirror=mirror and Path(mirror), network=network)
    )
    splits = info.build(request)
    for split, rows in splits._asdict().items():
        check_finite(rows, f"{name}, {split} rows")
    with _whole_folder(Path(out)) as folder:
        _write(folder, info, splits, seed)
        if info.labels:
            _write_labels(folder, info.labels(request), len(splits.train))
    return Path(out)


def _write(folder: Path, info: Info, splits: Splits, seed: int) -> None:
    import numpy as np

    hashes = {}
    for split, rows in splits._asdict().items():
        rows = np.ascontiguousarray(rows)
        np.save(folder / f"{split}.npy", rows)
        hashes[split] = hashlib.md5(rows.data).hexdigest()
    mean, std = _moments(splits.train, info.levels)
    sizes = tuple(len(rows) for rows in splits)
    reduced = ("reduced",) if any(n < full for n, full in zip(sizes, info.sizes, strict=True)) else ()
    meta = {
        "name": info.name,
        "kind": info.kind,
        "shape": list(info.shape),
        "levels": info.levels,
        "flags": [*reduced, *info.flags],
        "sizes": dict(zip(Splits._fields, sizes, strict=True)),
        "seed": seed,
        "preprocessing": info.preprocessing,
        "mean": mean,
        "std": std,
        "md5": hashlib.md5("".join(hashes.values()).encode()).hexdigest(),
        "split_md5": hashes,
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


def _write_labels(folder: Path, labels: np.ndarray, rows: int) -> None:
    import numpy as np

    if len(labels) != rows:
        raise ValueError(f"{len(labels)} labels for {rows} training rows: the loader splits them differently")
    np.save(folder / "labels.npy", np.ascontiguousarray(labels))


def _moments(train: np.ndarray, levels: int | None) -> tuple[list[float] | float, list[float] | float]:
    """Mean and standard deviation: per feature, or of all pixels on the scale x / levels."""
    import numpy as np

    if levels is None:
        return train.mean(0, dtype=np.float64).tolist(), train.std(0, dtype=np.float64).tolist()
    # From the histogram: no floating-point copy of the images.
    share = np.bincount(train.ravel(), minlength=levels) / train.size
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
