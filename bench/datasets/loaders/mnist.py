"""MNIST, 28x28 grey images."""

from __future__ import annotations

from bench.datasets.info import Info, Request, Splits


def _build(request: Request) -> Splits:
    """Validation on the last 10,000 training images.

    Fewer rows are drawn at random: the first half of the test images is the easier one.
    """
    import numpy as np

    from bench.datasets.readers import read_idx

    images, test = (read_idx(request.raw(pin))[:, None] for pin in PINS)
    held_out = len(images) * 5 // 6

    def some(rows: np.ndarray, n: int, split: str) -> np.ndarray:
        return rows[np.sort(np.random.default_rng(request.seed(split)).permutation(len(rows))[:n])]

    parts = zip((images[:held_out], images[held_out:], test), request.sizes, Splits._fields, strict=True)
    return Splits(*(some(*part) for part in parts))


PINS = ("mnist-train-images", "mnist-test-images")

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
        preprocessing="none; validation on the last 10,000 training images",
        build=_build,
        pins=PINS,
    ),
)
