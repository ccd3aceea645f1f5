"""A prepared data set in memory-mapped tensors, as training and evaluation see it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.datasets.densities.analytic import AnalyticDensity
from bench.datasets.info import Kind
from bench.datasets.readers import check_finite
from bench.errors import UserError
from models.registry import DataSpec


@dataclass(frozen=True)
class DataSet:
    """Three splits and what a model may know of them.

    Tensors are float32, or for integers uint8 (images) and uint16 (waveforms); ``density`` is the exact density where
    it is known; ``flags`` stand beside every score (``reduced``, ``rebuilt``, ``leak``); ``md5`` is of the content of
    the splits.
    """

    name: str
    kind: Kind
    spec: DataSpec
    train: Tensor
    val: Tensor
    test: Tensor
    density: AnalyticDensity | None
    flags: tuple[str, ...]
    md5: str
    preprocessing: str
    labels: Tensor | None = None


def load(folder: Path) -> DataSet:
    """The data set that ``prepare`` wrote to ``folder``, by memory map. UserError where it is not complete, or its rows
    are of another shape."""
    from bench.datasets.registry import describe

    folder = Path(folder)
    try:
        meta = json.loads((folder / "meta.json").read_text())
        splits = {split: _map(folder / f"{split}.npy") for split in ("train", "val", "test")}
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise UserError(f"{folder} holds no complete data set ({error}); delete it and prepare it again") from error
    for split, rows in splits.items():
        _check(rows, folder / f"{split}.npy", tuple(meta["shape"]))
    info = describe(meta["name"])
    density = info.density() if info.density else None
    spec = DataSpec(
        shape=tuple(meta["shape"]),
        levels=meta["levels"],
        mean=torch.tensor(meta["mean"]),
        std=torch.tensor(meta["std"]),
        energy=getattr(density, "energy", None),
    )
    labels = folder / "labels.npy"
    return DataSet(
        meta["name"],
        meta["kind"],
        spec,
        **splits,
        density=density,
        flags=tuple(meta["flags"]),
        md5=meta["md5"],
        preprocessing=meta["preprocessing"],
        labels=_map(labels) if labels.exists() else None,
    )


def _check(rows: Tensor, path: Path, shape: tuple[int, ...]) -> None:
    if rows.shape[1:] != shape:
        found = tuple(rows.shape[1:])
        raise UserError(f"{path}: rows of shape {found}, where meta.json has {shape}; {_cure(path.parent)}")


def check_rows(data: DataSet, folder: Path) -> None:
    """UserError that names the first number of ``data``, loaded from ``folder``, that is not finite. Reads it all."""
    for split in ("train", "val", "test"):
        check_finite(getattr(data, split).numpy(), str(folder / f"{split}.npy"), cure=_cure(folder))


def _cure(folder: Path) -> str:
    return f"delete {folder} and prepare it again"


def _map(path: Path) -> Tensor:
    # Copy-on-write: torch wants memory that it may write to, the file stays as it is.
    return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))
