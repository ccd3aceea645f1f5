"""What every prepared data set keeps to, and what stays behind when preparing one fails."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import bench.datasets as datasets
from bench.datasets import preparation, splits
from bench.datasets.base import check_rows
from bench.datasets.info import Request, Splits, without_columns
from bench.datasets.raw.store import Store
from bench.errors import UserError

EMBEDDED = [name for name in datasets.names() if datasets.describe(name).needs == "embedded"]


def prepare(name, folder, seed=0, **options):
    return datasets.prepare(name, store=Store(folder / "raw"), out=folder / name, seed=seed, **options)


@pytest.fixture(scope="module", params=EMBEDDED)
def prepared(request, tmp_path_factory):
    return prepare(request.param, tmp_path_factory.mktemp("prepared"))


def test_describing_loads_nothing_heavy():
    code = (
        "import sys; import bench.datasets as d; [d.describe(n) for n in d.names()]; "
        "print({'torch', 'sklearn', 'numpy', 'pandas', 'pycurl', 'PIL', 'scipy', 'h5py'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_prepared_sets_are_what_they_are_described_as(prepared):
    info, found = datasets.describe(prepared.name), datasets.load(prepared)
    meta = json.loads((prepared / "meta.json").read_text())
    (variant,) = info.variants
    labels = ["labels.npy"] if variant.labels else []
    assert sorted(p.name for p in prepared.iterdir()) == [*labels, "meta.json", "test.npy", "train.npy", "val.npy"]
    assert (found.name, found.kind, found.spec.shape, found.flags) == (info.name, info.kind, info.shape, ())
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


def test_a_set_is_prepared_if_it_is_of_the_variant_that_was_asked_for(tmp_path):
    folder = prepare("digits", tmp_path)
    assert not datasets.is_prepared("digits", tmp_path / "elsewhere", Store(tmp_path))
    assert datasets.is_prepared("digits", folder, Store(tmp_path, variant="rebuilt")), "it comes in one variant only"
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"name": "bsds300", "variant": "published"}))
    asked = {
        name: datasets.is_prepared("bsds300", folder, Store(tmp_path, variant=name))
        for name in (None, "published", "rebuilt")
    }
    assert asked == {None: True, "published": True, "rebuilt": False}


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


@pytest.mark.parametrize("name", sorted(set(datasets.names()) - set(EMBEDDED)))
def test_without_network_and_mirror_one_line_says_what_to_do(tmp_path, name):
    with pytest.raises(UserError, match=f"{name} needs .*no mirror was given and the network was not asked") as error:
        prepare(name, tmp_path)
    assert "`--network`" in str(error.value) and "mirror=FOLDER" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_unknown_sets_name_the_nearest(tmp_path):
    with pytest.raises(UserError, match="unknown data set 'minst'; did you mean 'mnist'?"):
        prepare("minst", tmp_path)


@pytest.fixture
def altered(monkeypatch):
    """Let ``describe`` answer with another loader for the digits."""

    def alter(published=None, **changes):
        info = datasets.describe("digits")
        variant = dataclasses.replace(info.variants[0], **changes)
        info = dataclasses.replace(info, variants=(variant,), sizes=published or info.sizes)
        monkeypatch.setattr(preparation, "describe", lambda name: info)

    return alter


def test_a_nan_in_any_split_is_placed_and_nothing_written(tmp_path, altered):
    bad = np.zeros((3, 2), np.float32)
    bad[2, 1] = np.nan
    altered(build=lambda request: Splits(np.zeros((3, 2)), bad, bad))
    with pytest.raises(UserError, match="digits, val rows: nan in row 2, column 1"):
        prepare("digits", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda rows: rows.__setitem__((5, 1), np.inf), r"train.npy: inf in row 5, column 1 .*; delete .* and prepare"),
        (
            lambda rows: rows[:, :1],
            r"train.npy: rows of shape \(1,\), where meta.json has \(2,\); delete .* and prepare",
        ),
    ],
)
def test_prepared_arrays_that_something_altered_are_placed(tmp_path, damage, message):
    path = prepare("checkerboard", tmp_path) / "train.npy"
    rows = np.load(path)
    altered = damage(rows)
    np.save(path, rows if altered is None else altered)
    with pytest.raises(UserError, match=message):
        check_rows(datasets.load(path.parent), path.parent)


def test_a_full_disk_leaves_the_old_set_and_nothing_else(tmp_path, monkeypatch):
    folder = prepare("digits", tmp_path)
    before = datasets.load(folder).md5
    append = splits.RowFile.append

    def full(file, rows):
        if file.stream.name.endswith("test.npy"):
            raise OSError(errno.ENOSPC, "No space left on device")
        append(file, rows)

    monkeypatch.setattr(splits.RowFile, "append", full)
    with pytest.raises(UserError, match="no space left on the disk"):
        prepare("digits", tmp_path, seed=1)
    assert [p.name for p in tmp_path.iterdir()] == ["digits"]
    assert datasets.load(folder).md5 == before


def test_fewer_rows_than_published_are_flagged(tmp_path, altered):
    altered(flags=("rebuilt",), published=(1_197, 200, 500))
    prepare("digits", tmp_path)
    assert json.loads((tmp_path / "digits" / "meta.json").read_text())["flags"] == ["reduced", "rebuilt"]


def blocks_of(parts, rows=2):
    for split, part in zip(Splits._fields, parts, strict=True):
        yield from ((split, part[i : i + rows]) for i in range(0, len(part), rows))


def test_blocks_give_the_same_files_as_whole_arrays(tmp_path):
    """Whole arrays, blocks split after split, and blocks of all splits in turn."""
    rng = np.random.default_rng(0)
    parts = Splits(*(rng.normal(size=(n, 2, 3)).astype(np.float32) for n in (7, 4, 5)))
    ordered = list(blocks_of(parts))
    in_turn = [ordered[i] for i in (0, 4, 6, 1, 5, 7, 2, 3, 8)]
    written = {}
    for name, built in {"whole": parts, "blocks": ordered, "mixed": in_turn}.items():
        (tmp_path / name).mkdir()
        md5 = splits.write_splits(built, tmp_path / name, name)
        written[name] = {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} | md5
    assert written["whole"] == written["blocks"] == written["mixed"]
    for split, part in parts._asdict().items():
        assert (np.load(tmp_path / "blocks" / f"{split}.npy") == part).all()
        assert written["blocks"][split] == hashlib.md5(part.tobytes()).hexdigest()


def test_many_blocks_outgrow_their_first_header(tmp_path):
    with splits.RowFile.create(tmp_path / "rows.npy") as file:
        for k in range(2_000):
            file.append(np.full((60, 1), k, np.uint16))
    assert np.load(tmp_path / "rows.npy").sum() == 60 * 2_000 * 1_999 // 2


def test_a_nan_in_a_later_block_is_placed_by_its_row_in_the_split(tmp_path):
    rows = np.zeros((5, 2), np.float32)
    rows[4, 0] = np.inf
    with pytest.raises(UserError, match="x, test rows: inf in row 4, column 0"):
        splits.write_splits(blocks_of((rows[:2], rows[:2], rows)), tmp_path, "x")


@pytest.mark.parametrize(
    ("built", "complaint"),
    [
        ([("train", np.zeros((1, 2)))], "no rows for val, test"),
        ([("train", np.zeros((1, 2))), ("train", np.zeros((1, 3)))], "go on as"),
    ],
)
def test_a_loader_that_forgets_rows_or_changes_their_shape_is_a_defect(tmp_path, built, complaint):
    with pytest.raises(ValueError, match=complaint):
        splits.write_splits(built, tmp_path, "x")


def test_dropping_columns_keeps_rows_and_units_apart(tmp_path):
    whole = datasets.describe("breast-cancer")
    part = without_columns(whole, (3, 7))
    assert part.name == "breast-cancer-without-column-3-7" and part.shape == (28,)
    built = [info.variants[0].build(Request(info.name, info.sizes, 0, Path)) for info in (whole, part)]
    for full, dropped in zip(*built, strict=True):
        assert (np.delete(full, (3, 7), 1) == dropped).all()


def test_an_incomplete_folder_is_one_line(tmp_path):
    folder = prepare("digits", tmp_path)
    (folder / "val.npy").write_bytes(b"")
    with pytest.raises(UserError, match="holds no complete data set"):
        datasets.load(folder)
