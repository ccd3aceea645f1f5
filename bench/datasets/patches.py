"""Natural image patches by the procedure of BSDS300 in density estimation (Zoran and Weiss 2011; Uria et al. 2013)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SIDE = 8
DIM = SIDE * SIDE - 1


def draw_patches(images: Sequence[np.ndarray], n: int, seed: int) -> np.ndarray:
    """``n`` patches, float32 (n, 63), in random order: as many from each image, at positions that do not repeat.

    ``images`` are grey uint8 arrays (height, width).
    """
    rng = np.random.default_rng(seed)
    out = np.empty((n, DIM), np.float32)
    for image, rows in zip(images, np.array_split(rng.permutation(n), len(images)), strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(image, (SIDE, SIDE))
        high, wide = windows.shape[:2]
        position = rng.choice(high * wide, len(rows), replace=False)
        out[rows] = _features(windows[position // wide, position % wide].reshape(-1, SIDE * SIDE), rng)
    return out


def _features(patches: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    values = (patches + rng.random(patches.shape)) / 256
    # The mean is removed, so one pixel follows from the others; without it the density would be degenerate.
    return (values - values.mean(1, keepdims=True))[:, :-1]
