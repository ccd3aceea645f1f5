"""MNIST and Fashion-MNIST: 28x28 grey images, published in one format and split alike."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bench.datasets.info import Info, Request, Splits, Variant
from bench.datasets.rows import some, some_of

if TYPE_CHECKING:
    import numpy as np


def _build(request: Request, pins: tuple[str, ...]) -> Splits:
    """Validation on the last sixth of the training images. Fewer rows are drawn at random: the first half of the test
    images is the easier one.
    """
    from bench.datasets.readers import read_idx

    images, test = (read_idx(request.raw(pin))[:, None] for pin in pins[:2])
    held_out = _held_out(images)
    return some_of(request, Splits(images[:held_out], images[held_out:], test))


def _labels(request: Request, pins: tuple[str, ...]) -> np.ndarray:
    from bench.datasets.readers import read_idx

    labels = read_idx(request.raw(pins[2]))
    return some(request, labels[: _held_out(labels)], "train")


def _held_out(rows: np.ndarray) -> int:
    return len(rows) * 5 // 6


def _info(name: str, title: str, source: str, licence: str) -> Info:
    pins = tuple(f"{name}-{part}" for part in ("train-images", "test-images", "train-labels"))
    published = Variant(
        "published",
        partial(_build, pins=pins),
        "none; validation on the last 10,000 training images",
        pins,
        labels=partial(_labels, pins=pins),
    )
    return Info(
        name=name,
        title=title,
        kind="image",
        shape=(1, 28, 28),
        levels=256,
        sizes=(50_000, 10_000, 10_000),
        reduced=(10_000, 2_000, 2_000),
        source=source,
        licence=licence,
        variants=(published,),
    )


MNIST = _info("mnist", "MNIST digits, 28x28, 256 grey levels", "LeCun, Cortes and Burges 1998", "CC BY-SA 3.0")

DATASETS = (
    MNIST,
    _info(
        "fashion-mnist",
        "Fashion-MNIST articles of clothing, 28x28, 256 grey levels",
        "Xiao, Rasul and Vollgraf 2017 (arXiv 1708.07747)",
        "MIT",
    ),
)
