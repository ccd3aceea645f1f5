"""Spatial MNIST: a digit as a set of 50 points of its ink (Edwards and Storkey 2017, arXiv 1606.02185, section 5.2)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bench.datasets.info import Info, Request, Splits, Variant
from bench.datasets.loaders.mnist import MNIST

if TYPE_CHECKING:
    import numpy as np

POINTS = 50
BLOCK = 4_096
"""Images whose points are drawn at a time."""

(DIGITS,) = MNIST.variants


def _digits(request: Request) -> Request:
    """MNIST's own request, so that the images of each split are the same."""
    return replace(request, name=MNIST.name)


def _build(request: Request) -> Splits:
    images = DIGITS.build(_digits(request))
    return Splits(*(draw_points(rows, request.seed(split)) for split, rows in images._asdict().items()))


def _labels(request: Request) -> np.ndarray:
    return DIGITS.labels(_digits(request))


def draw_points(images: np.ndarray, seed: int) -> np.ndarray:
    """float32 (rows, POINTS, 2): (x, y) in pixels, x to the right and y upwards from the lower left corner.

    Pixels are drawn with probability in proportion to their intensity, none twice as long as there are enough, and
    each point lies at random within its pixel. The order of the points says nothing.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    *_, high, wide = images.shape
    points = np.empty((len(images), POINTS, 2), np.float32)
    for start in range(0, len(images), BLOCK):
        ink = images[start : start + BLOCK].reshape(-1, high * wide)
        y, x = np.divmod(_draw_pixels(ink, rng), wide)
        corner = np.stack([x, high - 1 - y], -1)
        points[start : start + BLOCK] = corner + rng.random(corner.shape)
    return points


def _draw_pixels(ink: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(rows, POINTS) positions. Exponential clocks of rate w ring first with probability in proportion to w: the
    first POINTS of them are draws without replacement (Efraimidis and Spirakis 2006).
    """
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        rings = rng.standard_exponential(ink.shape, np.float32) / ink
    pixels = rng.permuted(np.argpartition(rings, POINTS - 1)[:, :POINTS], axis=1)
    for row in np.flatnonzero(np.count_nonzero(ink, axis=1) < POINTS):
        pixels[row] = rng.choice(ink.shape[1], POINTS, p=ink[row] / ink[row].sum(dtype=float))
    return pixels


DATASETS = (
    Info(
        name="spatial-mnist",
        title=f"spatial MNIST, {POINTS} points of each digit",
        kind="points",
        shape=(POINTS, 2),
        sizes=MNIST.sizes,
        reduced=MNIST.reduced,
        source="Edwards and Storkey 2017 (arXiv 1606.02185), drawn from MNIST",
        licence=MNIST.licence,
        variants=(
            Variant(
                "rebuilt",
                _build,
                f"MNIST's splits; {POINTS} pixels drawn in proportion to their intensity, without replacement where "
                "so many are inked; uniform noise within the pixel; units of a pixel",
                DIGITS.pins,
                flags=("rebuilt",),
                labels=_labels,
            ),
        ),
        bounds=(0.0, 28.0),
        hazards=(
            "the points of one digit are a set: a score that depends on their order is at a disadvantage",
            "in units of a pixel; on the unit square log densities are 2 log 28 = 6.66 nats per point higher",
        ),
    ),
)
