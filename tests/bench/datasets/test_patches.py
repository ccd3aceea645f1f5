"""Natural patches, and that those of different splits come from different regions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import bench.datasets as datasets
from bench.datasets.info import Request
from bench.datasets.patches import draw_patches


def test_patches_are_the_published_steps():
    """Undo the mean with the noise-free image: every feature is within the noise of a patch of it."""
    image = np.random.default_rng(0).integers(0, 256, (20, 24), dtype=np.uint8)
    rows = draw_patches([image], 17 * 13, seed=1).astype(np.float64)
    assert rows.shape == (17 * 17 - 4 * 17, 63)
    windows = [image[i : i + 8, j : j + 8].ravel() for i in range(13) for j in range(17)]
    clean = np.stack([(w + 0.5) / 256 - ((w + 0.5) / 256).mean() for w in windows])[:, :-1]
    nearest = np.abs(rows[:, None] - clean[None]).max(-1)
    # Each position once, the noise within half a grey level (and as much for its mean), and noise there is.
    assert sorted(nearest.argmin(1).tolist()) == list(range(len(windows)))
    assert 0.25 / 256 < nearest.min(1).max() < 1 / 256


def test_patches_come_from_every_image_alike():
    images = [np.tile(np.arange(30, dtype=np.uint8) * scale, (20, 1)) for scale in (1, 2, 4)]
    spread = draw_patches(images, 300, seed=0).std(1)
    assert np.histogram(spread, [0, 0.013, 0.026, 1])[0].tolist() == [100, 100, 100]
    assert np.ptp(np.diff(spread[:50])) > 0, "rows should be in random order"


def test_photo_patches_of_different_splits_do_not_overlap(monkeypatch):
    """Give every tile its own grey level, and see that no level is in two splits."""
    from sklearn import datasets as sk

    numbers = np.arange(140).reshape(2, 7, 10).repeat(61, 1).repeat(64, 2)
    photos = [np.repeat(n[..., None], 3, -1).astype(np.uint8) for n in numbers]
    monkeypatch.setattr(sk, "load_sample_images", lambda: type("Photos", (), {"images": photos}))
    seen = []
    monkeypatch.setattr(
        "bench.datasets.patches.draw_patches",
        lambda tiles, n, seed: seen.append({int(t.min()) for t in tiles} | {int(t.max()) for t in tiles}),
    )
    datasets.describe("photo-patches").variants[0].build(Request("photo-patches", (1, 1, 1), 0, Path))
    assert [len(levels) for levels in seen] == [98, 14, 28]
    assert len(set.union(*seen)) == 140
