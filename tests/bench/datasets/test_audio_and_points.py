"""Waveforms and point sets: crafted raw files against plain restatements; the real ones where there are any."""

from __future__ import annotations

import dataclasses
import struct
import wave
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import bench.datasets as datasets
from bench.datasets import preparation
from bench.datasets.info import Request, Splits, Variant
from bench.datasets.loaders import fsdd, spatial_mnist
from bench.datasets.loaders.mnist import MNIST
from bench.datasets.raw.fetch import fetch_pin
from bench.datasets.raw.pins import read_pin
from bench.datasets.raw.store import Store
from bench.errors import UserError
from models.preprocessing import preprocessing


def write_wave(path, samples, *, channels=1, width=2, rate=8_000):
    with wave.open(str(path), "wb") as recording:
        recording.setnchannels(channels)
        recording.setsampwidth(width)
        recording.setframerate(rate)
        recording.writeframes(struct.pack(f"<{len(samples)}h", *samples))
    return path


def fsdd_variant():
    (variant,) = datasets.describe("fsdd").variants
    return variant


def test_samples_are_offset_binary(tmp_path):
    samples = fsdd.read_wave(write_wave(tmp_path / "a.wav", [-32768, -1, 0, 1, 32767]))
    assert samples.dtype == np.uint16 and samples.tolist() == [0, 32767, 32768, 32769, 65535]


def test_windows_follow_each_other_and_the_number_decides_the_split(tmp_path):
    rng = np.random.default_rng(0)
    expected = {split: [] for split in Splits._fields}
    digits = []
    for path in sorted(
        f"{digit}_{who}_{number}" for digit in (3, 7) for who in ("ann", "bob") for number in (0, 4, 5, 9, 10, 49)
    ):
        digit, _, number = path.split("_")
        samples = rng.integers(-32768, 32768, int(rng.integers(0, 3_500))).tolist()
        write_wave(tmp_path / f"{path}.wav", samples)
        split = "test" if int(number) <= 4 else "val" if int(number) <= 9 else "train"
        for start in range(0, len(samples) - 1023, 1024):
            expected[split].append([[sample + 32768 for sample in samples[start : start + 1024]]])
            digits += [int(digit)] if split == "train" else []
    asked = Request("fsdd", (1, 1, 1), 0, {"fsdd-recordings": tmp_path}.__getitem__)
    built = fsdd_variant().build(asked)
    for split, rows in built._asdict().items():
        assert rows.dtype == np.uint16 and rows.shape[1:] == (1, 1024)
        assert rows.tolist() == expected[split] != []
    assert fsdd_variant().labels(asked).tolist() == digits


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"channels": 2}, "2 channels of 16 bits at 8000 Hz, expected 1 of 16 at 8000"),
        ({"width": 1}, "1 channels of 8 bits"),
        ({"rate": 16_000}, "at 16000 Hz"),
    ],
)
def test_another_format_is_one_line(tmp_path, changes, complaint):
    path = write_wave(tmp_path / "0_ann_0.wav", [0] * 2048, **changes)
    with pytest.raises(UserError, match=f"0_ann_0.wav: .*{complaint}"):
        fsdd.read_wave(path)


def test_a_broken_recording_or_a_strange_name_is_one_line(tmp_path):
    path = tmp_path / "0_ann_0.wav"
    for content in (b"", b"RIFF", b"no recording at all, no, no, no"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"0_ann_0.wav: not a readable recording"):
            fsdd.read_wave(path)
    path.unlink()
    write_wave(tmp_path / "take two.wav", [0])
    with pytest.raises(UserError, match=r"take two.wav: not named DIGIT_SPEAKER_NUMBER.wav"):
        fsdd_variant().build(Request("fsdd", (1, 1, 1), 0, lambda pin: tmp_path))


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """A few windows of noise under the name of the spoken digits, prepared and loaded."""
    rows = np.random.default_rng(0).integers(0, 1 << 16, (60, 1, 1024)).astype(np.uint16)
    built = Splits(rows[:40], rows[40:50], rows[50:])
    info = datasets.describe("fsdd")
    info = dataclasses.replace(info, sizes=(40, 10, 10), variants=(Variant("embedded", lambda request: built, "none"),))
    monkeypatch.setattr(preparation, "describe", lambda name: info)
    return built, datasets.load(datasets.prepare("fsdd", store=Store(tmp_path), out=tmp_path / "fsdd", seed=0))


def test_16_bits_survive_preparing_and_loading(prepared):
    built, found = prepared
    for split, rows in built._asdict().items():
        loaded = getattr(found, split)
        assert loaded.dtype == torch.uint16 and (loaded.numpy() == rows).all()
    assert (found.kind, found.spec.shape, found.spec.levels, found.spec.dim) == ("audio", (1, 1024), 65536, 1024)
    assert found.spec.mean.item() == pytest.approx(built.train.mean() / 65536)
    assert found.spec.std.item() == pytest.approx(built.train.std() / 65536)


def test_16_bits_pass_the_first_layers(prepared):
    """Batches as training draws them; the dequantised value lies in its cell, to the precision of its type."""
    _, found = prepared
    batch = found.train[torch.randperm(len(found.train))[:8]]
    dequantize, standardize = preprocessing(found.spec)
    z, contribution = dequantize.encode(batch)
    inside = 65536 * z.double() - batch.double()
    assert inside.min() >= 0 and inside.max() <= 1 and inside.mean() == pytest.approx(0.5, abs=0.02)
    assert contribution.tolist() == pytest.approx([-1024 * 16 * np.log(2)] * 8)
    y, _ = standardize.encode(z)
    assert abs(y.mean().item()) < 0.1 and y.std().item() == pytest.approx(1, abs=0.1)


def test_real_spoken_digits(mirror, tmp_path):
    found = datasets.load(
        datasets.prepare("fsdd", store=Store(tmp_path / "raw", mirror), out=tmp_path / "fsdd", seed=0)
    )
    info = datasets.describe("fsdd")
    assert tuple(len(rows) for rows in (found.train, found.val, found.test)) == info.sizes
    assert found.flags == () and set(found.labels.tolist()) == set(range(10))
    assert abs(found.spec.mean.item() - 0.5) < 1e-3  # silence is 32768


def test_recordings_come_out_of_the_archive_that_github_makes(mirror, tmp_path):
    """The bytes of the archive may be any; those of the recordings in it are verified."""
    recordings, archive = read_pin("fsdd-recordings"), read_pin("fsdd-archive")
    other = tmp_path / "mirror" / archive.path
    other.parent.mkdir(parents=True)
    with zipfile.ZipFile(other, "w") as opened:
        root = Path(recordings.member).parent
        opened.writestr(f"{root}/README.md", "read me")
        for path in (mirror / recordings.path).iterdir():
            opened.write(path, f"{root}/recordings/{path.name}")
    fetched = fetch_pin("fsdd-recordings", Store(tmp_path / "raw", tmp_path / "mirror"))
    assert fetched.origin == f"from {archive.path.name}" and len(list(fetched.path.iterdir())) == 3_000


def blots(rows, ink=80):
    """Images with so many pixels inked, each with another intensity."""
    rng = np.random.default_rng(1)
    images = np.zeros((rows, 784), np.uint8)
    for image in images:
        image[rng.permutation(784)[:ink]] = rng.integers(1, 256, ink)
    return images.reshape(rows, 1, 28, 28)


def pixels_of(points):
    """Row and column of the pixel that each point lies in; y grows upwards."""
    x, y = np.floor(points).astype(int).T
    return 27 - y.T, x.T


@pytest.mark.parametrize("ink", [50, 80])
def test_each_point_has_an_inked_pixel_of_its_own(ink):
    images = blots(30, ink)
    points = spatial_mnist.draw_points(images, 0)
    assert points.dtype == np.float32 and points.shape == (30, 50, 2)
    for image, cloud in zip(images[:, 0], points, strict=True):
        rows, columns = pixels_of(cloud)
        assert (image[rows, columns] > 0).all()
        assert len(set(zip(rows, columns, strict=True))) == 50


def test_with_too_little_ink_pixels_are_drawn_again():
    images = blots(400, 3)
    points = spatial_mnist.draw_points(images, 0)
    found = expected = 0
    for image, cloud in zip(images[:, 0], points, strict=True):
        rows, columns = pixels_of(cloud)
        assert (image[rows, columns] > 0).all()
        darkest = np.unravel_index(image.argmax(), image.shape)
        found += np.mean((rows == darkest[0]) & (columns == darkest[1]))
        expected += image.max() / image.sum(dtype=int)
    assert found / 400 == pytest.approx(expected / 400, abs=0.015)


def test_pixels_are_drawn_as_one_after_the_other_would_be():
    """How often each pixel is among the 50, against numpy's drawing without replacement, pixel by pixel."""
    image, times = blots(1, 80), 3_000
    points = spatial_mnist.draw_points(image.repeat(times, 0), 0)
    found = np.zeros((28, 28))
    for cloud in points:
        found[pixels_of(cloud)] += 1 / times
    rng, share, expected = np.random.default_rng(2), image.ravel() / image.sum(dtype=int), np.zeros(784)
    for _ in range(times):
        expected[rng.choice(784, 50, replace=False, p=share)] += 1 / times
    assert np.abs(found.ravel() - expected).max() < 0.06  # 6 standard deviations at most
    assert np.corrcoef(expected[share > 0], share[share > 0])[0, 1] > 0.8
    assert np.ptp([image[0, 0][pixels_of(points[:, place])].mean() for place in range(50)]) < 15  # order says nothing


def test_points_are_uniform_within_their_pixel():
    inside = spatial_mnist.draw_points(blots(200), 0) % 1
    assert np.abs(np.quantile(inside, [0.25, 0.5, 0.75]) - [0.25, 0.5, 0.75]).max() < 0.02
    assert abs(np.corrcoef(inside.reshape(-1, 2).T)[0, 1]) < 0.03


def test_blocks_do_not_change_the_law_or_the_seed(monkeypatch):
    images = blots(10)
    monkeypatch.setattr(spatial_mnist, "BLOCK", 3)
    points = spatial_mnist.draw_points(images, 0)
    assert (points == spatial_mnist.draw_points(images, 0)).all()
    assert (points != spatial_mnist.draw_points(images, 1)).any()
    for image, cloud in zip(images[:, 0], points, strict=True):
        assert (image[pixels_of(cloud)] > 0).all()


def test_splits_and_labels_are_those_of_the_digits(monkeypatch):
    """Digit k of ten copies is a bar in column k, so that a cloud says which image it was drawn from."""
    (points,), (digits,) = (datasets.describe(name).variants for name in ("spatial-mnist", "mnist"))
    assert points.pins == digits.pins
    asked = Request("spatial-mnist", (20, 5, 5), 3, Path)
    images = np.zeros((28, 1, 28, 28), np.uint8)
    images[np.arange(28), 0, :, np.arange(28)] = 255
    seen = []

    def build(request):
        seen.append((request.name, request.sizes, request.seed("train")))
        return Splits(images[:20], images[20:23], images[23:])

    monkeypatch.setattr(spatial_mnist, "DIGITS", Variant("published", build, "", labels=lambda request: request.name))
    built = points.build(asked)
    assert seen == [("mnist", (20, 5, 5), dataclasses.replace(asked, name="mnist").seed("train"))]
    assert points.labels(asked) == MNIST.name
    columns = [np.unique(np.floor(cloud[:, 0])).item() for rows in built for cloud in rows]
    assert columns == list(range(28))


def test_real_digits_as_points(mirror, tmp_path):
    def load(name):
        out = tmp_path / name
        store = Store(tmp_path / "raw", mirror)
        return datasets.load(datasets.prepare(name, store=store, out=out, seed=0, size="reduced"))

    points, digits = load("spatial-mnist"), load("mnist")
    assert points.flags == ("reduced", "rebuilt") and (points.labels == digits.labels).all()
    assert points.train.shape == (10_000, 50, 2) and points.train.dtype == torch.float32
    for images, clouds in ((digits.train, points.train), (digits.test, points.test)):
        rows, columns = pixels_of(clouds.numpy().reshape(-1, 2))
        which = np.arange(len(clouds)).repeat(50)
        assert (images.numpy()[which, 0, rows, columns] > 0).mean() > 0.9999  # one in 500,000 is rounded up
