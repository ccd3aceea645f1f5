"""Each loader against a plain restatement of its steps, and against the published files where there is a mirror."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

import bench.datasets as datasets
from bench.datasets.info import Request
from bench.datasets.loaders import bsds300, miniboone, mnist
from bench.datasets.patches import draw_patches
from bench.errors import UserError


def request_for(name: str, sizes: tuple[int, int, int], files: dict[str, Path] | None = None) -> Request:
    return Request(name, sizes, 0, (files or {}).__getitem__)


def write_idx(path: Path, images: np.ndarray) -> Path:
    path.write_bytes(gzip.compress(struct.pack(">BBBB3I", 0, 0, 8, 3, *images.shape) + images.tobytes()))
    return path


@pytest.fixture
def small_mnist(tmp_path):
    train, test = (np.full((n, 28, 28), np.arange(n)[:, None, None], np.uint8) for n in (60, 10))
    files = {
        "mnist-train-images": write_idx(tmp_path / "a.gz", train),
        "mnist-test-images": write_idx(tmp_path / "b.gz", test),
    }
    return lambda sizes: datasets.describe("mnist").build(request_for("mnist", sizes, files))


def test_mnist_holds_out_the_last_sixth(small_mnist):
    splits = small_mnist((50, 10, 10))
    assert [len(rows) for rows in splits] == [50, 10, 10] and splits.train.shape[1:] == (1, 28, 28)
    assert [rows[:, 0, 0, 0].tolist() for rows in splits] == [[*range(50)], [*range(50, 60)], [*range(10)]]


def test_fewer_mnist_rows_are_a_sample_of_each_split(small_mnist):
    train, val, test = (rows[:, 0, 0, 0].tolist() for rows in small_mnist((20, 4, 4)))
    assert len(set(train)) == 20 and max(train) < 50 and train != [*range(20)]
    assert set(val) <= {*range(50, 60)} and len(set(test)) == 4


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
    datasets.describe("photo-patches").build(request_for("photo-patches", (1, 1, 1)))
    assert [len(levels) for levels in seen] == [98, 14, 28]
    assert len(set.union(*seen)) == 140


def test_miniboone_fits_on_the_validation_rows(tmp_path):
    rows, test = (np.random.default_rng(k).normal(size=(n, 43)) for k, n in enumerate((30, 20)))
    files = {"miniboone-maf-val": tmp_path / "v.npy", "miniboone-maf-test": tmp_path / "t.npy"}
    for path, values in zip(files.values(), (rows, test), strict=True):
        np.save(path, values)
    splits = datasets.describe("miniboone").build(request_for("miniboone", (1, 1, 1), files))
    assert [part.shape for part in splits] == [(27, 43), (3, 43), (20, 43)]
    fitted = np.concatenate(splits[:2])
    assert (fitted[fitted[:, 0].argsort()] == rows[rows[:, 0].argsort()].astype(np.float32)).all()
    assert (splits.test == test.astype(np.float32)).all()


def prepared(name, mirror, folder, size="published"):
    datasets.prepare(name, raw=folder / "raw", mirror=mirror, out=folder / name, seed=0, size=size)
    return datasets.load(folder / name)


def test_published_mnist(mirror, tmp_path):
    found = prepared("mnist", mirror, tmp_path)
    assert found.flags == () and [len(found.train), len(found.val), len(found.test)] == [50_000, 10_000, 10_000]
    pixels = np.concatenate([found.train, found.val]) / 255
    assert pixels.mean() == pytest.approx(0.1307, abs=5e-5) and pixels.std() == pytest.approx(0.3081, abs=5e-5)
    assert found.test.double().mean() / 255 == pytest.approx(0.1325, abs=5e-5)


def test_reduced_mnist_is_flagged(mirror, tmp_path):
    found = prepared("mnist", mirror, tmp_path, "reduced")
    assert found.flags == ("reduced",) and len(found.train) == 10_000


def test_published_miniboone_has_its_atom(mirror, tmp_path):
    found = prepared("miniboone", mirror, tmp_path)
    column = np.concatenate([found.train, found.val, found.test])[:, 4]
    assert found.flags == ("reduced",) and len(column) == 6_932
    assert (column == np.float32(-1.0694182215878598)).sum() == 652


def test_published_bsds300_images(mirror, tmp_path):
    found = prepared("bsds300", mirror, tmp_path, "reduced")
    assert found.flags == ("reduced", "rebuilt") and found.train.shape == (50_000, 63)
    assert len(list((tmp_path / "raw").rglob("train/*.jpg"))) == 200
    assert len(list((tmp_path / "raw").rglob("test/*.jpg"))) == 100
    # The mean of a patch is removed, so features average to zero; natural patches vary by about .08 to .09.
    assert found.train.mean().abs() < 1e-3 and 0.07 < found.train.std() < 0.1


@pytest.mark.parametrize("module", [mnist, bsds300, miniboone])
def test_without_network_and_mirror_one_line_says_what_to_do(module, tmp_path, monkeypatch):
    import requests

    def unreachable(*args, **kwargs):
        raise requests.ConnectionError("no network")

    monkeypatch.setattr(requests, "get", unreachable)
    monkeypatch.setattr(requests.Session, "request", unreachable)
    name = module.DATASETS[0].name
    with pytest.raises(UserError, match="no mirror was given; .*`mirror=FOLDER`") as error:
        datasets.prepare(name, raw=tmp_path / "raw", mirror=None, out=tmp_path / name, seed=0)
    assert "\n" not in str(error.value)
    assert not (tmp_path / name).exists()
