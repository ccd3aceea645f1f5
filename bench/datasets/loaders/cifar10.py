"""CIFAR-10, 32x32 colour images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.datasets.info import Info, Request, Splits, Variant
from bench.datasets.rows import some, some_of
from bench.errors import UserError

if TYPE_CHECKING:
    import numpy as np

SHAPE = (3, 32, 32)
BATCHES = tuple(f"cifar10-batch-{number}" for number in range(1, 6))
TEST = "cifar10-test"


def _build(request: Request) -> Splits:
    """Validation on the last tenth of the training images, in the order of the batches."""
    import numpy as np

    images = np.concatenate([_read(request.raw(pin))[0] for pin in BATCHES])
    held_out = _held_out(images)
    return some_of(request, Splits(images[:held_out], images[held_out:], _read(request.raw(TEST))[0]))


def _labels(request: Request) -> np.ndarray:
    import numpy as np

    labels = np.concatenate([_read(request.raw(pin))[1] for pin in BATCHES])
    return some(request, labels[: _held_out(labels)], "train")


def _held_out(rows: np.ndarray) -> int:
    return len(rows) * 9 // 10


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images (rows, 3, 32, 32) and labels, both uint8, of one batch: a Python 2 pickle of a dictionary."""
    import numpy as np

    from bench.datasets.unpickle import read_pickle

    batch = read_pickle(path, str(path))
    try:
        images = np.asarray(batch["data"])
        labels = np.asarray(batch["labels"])
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise UserError(f"{path}: not a batch of CIFAR-10 ({error!r}); delete it and fetch it again") from error
    if images.dtype != np.uint8 or images.shape != (len(labels), np.prod(SHAPE)):
        raise UserError(
            f"{path}: {len(labels)} labels and images of {images.dtype} and shape {images.shape}, expected uint8 of "
            f"shape (labels, {np.prod(SHAPE)}); delete it and fetch it again"
        )
    return images.reshape(-1, *SHAPE), labels.astype(np.uint8)


DATASETS = (
    Info(
        name="cifar10",
        title="CIFAR-10 photographs, 32x32, three colours of 256 levels",
        kind="image",
        shape=SHAPE,
        levels=256,
        sizes=(45_000, 5_000, 10_000),
        reduced=(10_000, 2_000, 2_000),
        source="Krizhevsky 2009, Learning multiple layers of features from tiny images",
        licence="none stated; used for research",
        variants=(
            Variant(
                "published",
                _build,
                "none; validation on the last 5,000 training images",
                (*BATCHES, TEST),
                labels=_labels,
            ),
        ),
    ),
)
