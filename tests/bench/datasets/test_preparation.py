"""What every prepared data set keeps to, and what stays behind when preparing one fails."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import bench.datasets as datasets
from bench.datasets import preparation
from bench.datasets.info import Splits
from bench.errors import UserError

EMBEDDED = [name for name in datasets.names() if datasets.describe(name).needs == "embedded"]


def prepare(name, folder, seed=0, **options):
    return datasets.prepare(name, raw=folder / "raw", mirror=None, out=folder / name, seed=seed, **options)


@pytest.fixture(scope="module", params=EMBEDDED)
def prepared(request, tmp_path_factory):
    return prepare(request.param, tmp_path_factory.mktemp("prepared"))


def test_describing_loads_nothing_heavy():
    code = (
        "import sys; import bench.datasets as d; [d.describe(n) for n in d.names()]; "
        "print({'torch', 'sklearn', 'numpy', 'pooch', 'PIL'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_prepared_sets_are_what_they_are_described_as(prepared):
    info, found = datasets.describe(prepared.name), datasets.load(prepared)
    meta = json.loads((prepared / "meta.json").read_text())
    labels = ["labels.npy"] if info.labels else []
    assert sorted(p.name for p in prepared.iterdir()) == [*labels, "meta.json", "test.npy", "train.npy", "val.npy"]
    assert (found.name, found.kind, found.spec.shape, found.flags) == (info.name, info.kind, info.shape, info.flags)
    for split, size in zip(("train", "val", "test"), info.sizes, strict=True):
        rows = getattr(found, split)
        assert rows.shape == (size, *info.shape)
        assert rows.dtype == (torch.uint8 if info.levels else torch.float32)
        assert hashlib.md5(rows.numpy().tobytes()).hexdigest() == meta["split_md5"][split]
    assert (found.density is not None) == (info.kind in ("toy", "energy"))
    assert (found.spec.energy is not None) == (info.kind == "energy")


def test_labels_belong_to_the_training_rows(tmp_path):
    """Rows and labels are split in two calls: had they been split differently, class means would guess at chance."""
    digits = datasets.load(prepare("digits", tmp_path))
    rows = digits.train.reshape(len(digits.train), -1).double()
    means = torch.stack([rows[digits.labels == k].mean(0) for k in range(10)])
    assert (torch.cdist(rows, means).argmin(1) == digits.labels).double().mean() > 0.8


def test_moments_are_those_of_the_training_rows(prepared):
    found = datasets.load(prepared)
    x = found.train.double() / (found.spec.levels or 1)
    dims = None if found.spec.levels else 0
    assert torch.allclose(found.spec.mean.double(), x.mean(dims), atol=1e-5)
    assert torch.allclose(found.spec.std.double(), x.std(dims, correction=0), atol=1e-5)


def test_splits_share_no_row(prepared):
    splits = [{row.tobytes() for row in np.load(prepared / f"{split}.npy")} for split in ("train", "val", "test")]
    assert not (splits[0] & splits[1] or splits[0] & splits[2] or splits[1] & splits[2])


def test_the_seed_decides_the_content(tmp_path):
    content = [prepare("digits", tmp_path / str(k), seed) for k, seed in enumerate((0, 0, 1))]
    first, again, other = (datasets.load(folder).md5 for folder in content)
    assert first == again != other


def test_preparing_again_replaces(tmp_path):
    for seed in (0, 1):
        folder = prepare("digits", tmp_path, seed)
    assert json.loads((folder / "meta.json").read_text())["seed"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["digits"]


def test_reading_does_not_change_the_files(tmp_path):
    folder = prepare("two-moons", tmp_path)
    found = datasets.load(folder)
    found.train[0] = 7.0
    assert (datasets.load(folder).train[0] != 7.0).all()


@pytest.mark.parametrize("name", datasets.PLANNED)
def test_planned_sets_refuse_in_one_line(tmp_path, name):
    with pytest.raises(UserError, match=f"data set '{name}' is published but this version cannot prepare it yet"):
        prepare(name, tmp_path)


def test_unknown_sets_name_the_nearest(tmp_path):
    with pytest.raises(UserError, match="unknown data set 'minst'; did you mean 'mnist'?"):
        prepare("minst", tmp_path)


@pytest.fixture
def altered(monkeypatch):
    """Let ``describe`` answer with another loader for the digits."""

    def alter(**changes):
        info = dataclasses.replace(datasets.describe("digits"), **changes)
        monkeypatch.setattr(preparation, "describe", lambda name: info)

    return alter


def test_a_nan_in_any_split_is_placed_and_nothing_written(tmp_path, altered):
    bad = np.zeros((3, 2), np.float32)
    bad[2, 1] = np.nan
    altered(levels=None, build=lambda request: Splits(np.zeros((3, 2)), bad, bad))
    with pytest.raises(UserError, match="digits, val rows: nan in row 2, column 1"):
        prepare("digits", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_set_and_nothing_else(tmp_path, monkeypatch):
    folder = prepare("digits", tmp_path)
    before = datasets.load(folder).md5
    save = np.save

    def full(file, rows):
        if file.name == "test.npy":
            raise OSError(errno.ENOSPC, "No space left on device")
        save(file, rows)

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(UserError, match="no space left on the disk"):
        prepare("digits", tmp_path, seed=1)
    assert [p.name for p in tmp_path.iterdir()] == ["digits"]
    assert datasets.load(folder).md5 == before


def test_fewer_rows_than_published_are_flagged(tmp_path, altered):
    altered(sizes=(2_000, 200, 400), flags=("rebuilt",))
    prepare("digits", tmp_path)
    assert json.loads((tmp_path / "digits" / "meta.json").read_text())["flags"] == ["reduced", "rebuilt"]


def test_an_incomplete_folder_is_one_line(tmp_path):
    folder = prepare("digits", tmp_path)
    (folder / "val.npy").write_bytes(b"")
    with pytest.raises(UserError, match="holds no complete data set"):
        datasets.load(folder)
