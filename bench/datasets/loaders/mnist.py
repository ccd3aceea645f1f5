"""MNIST, 28x28 grey images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.datasets.info import Info, Request, Splits, Variant

if TYPE_CHECKING:
    import numpy as np


def _build(request: Request) -> Splits:
    """Validation on the last 10,000 training images.

    Fewer rows are drawn at random: the first half of the test images is the easier one.
    """
    from bench.datasets.readers import read_idx

    images, test = (read_idx(request.raw(pin))[:, None] for pin in PINS[:2])
    held_out = _held_out(images)
    parts = zip((images[:held_out], images[held_out:], test), request.sizes, Splits._fields, strict=True)
    return Splits(*(_some(request, *part) for part in parts))


def _labels(request: Request) -> np.ndarray:
    from bench.datasets.readers import read_idx

    labels = read_idx(request.raw(PINS[2]))
    return _some(request, labels[: _held_out(labels)], request.sizes[0], "train")


def _held_out(rows: np.ndarray) -> int:
    return len(rows) * 5 // 6


def _some(request: Request, rows: np.ndarray, n: int, split: str) -> np.ndarray:
    import numpy as np

    return rows[np.sort(np.random.default_rng(request.seed(split)).permutation(len(rows))[:n])]


PINS = ("mnist-train-images", "mnist-test-images", "mnist-train-labels")

DATASETS = (
    Info(
        name="mnist",
        title="MNIST digits, 28x28, 256 grey levels",
        kind="image",
        shape=(1, 28, 28),
        levels=256,
        sizes=(50_000, 10_000, 10_000),
        reduced=(10_000, 2_000, 2_000),
        source="LeCun, Cortes and Burges 1998",
        licence="CC BY-SA 3.0",
        variants=(
            Variant("published", _build, "none; validation on the last 10,000 training images", PINS, labels=_labels),
        ),
    ),
)
