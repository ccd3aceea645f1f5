"""Each finding of the scan against arrays made to have it, and none on arrays made to have none."""

from __future__ import annotations

from collections import Counter
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import bench.datasets as datasets
from bench.datasets import hazards
from bench.datasets.hazards import Hazard, scan
from bench.datasets.info import Info, Splits
from bench.datasets.raw.store import Store


def info(shape, **known):
    return Info("crafted", "", "tabular", tuple(shape), (1, 1, 1), "", "", (), **known)


def gaussian(rows=2_000, columns=5, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


def split(rows, test=None):
    """8 : 1 : 1, or all of them for training if test rows are given."""
    if test is not None:
        return Splits(rows, test[:1], test)
    a, b = len(rows) * 8 // 10, len(rows) * 9 // 10
    return Splits(rows[:a], rows[a:b], rows[b:])


def found(rows, test=None, **known):
    return scan(split(rows, test), info(rows.shape[1:], **known))


def images(rows=300, seed=0, dtype=np.uint8, levels=256):
    return np.random.default_rng(seed).integers(0, levels, (rows, 1, 6, 6)).astype(dtype)


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(60, 3_000), columns=st.integers(2, 8), seed=st.integers(0, 2**32), scale=st.floats(-3, 3))
def test_nothing_is_found_in_clean_gaussian_rows(rows, columns, seed, scale):
    x = (gaussian(rows, columns, seed) + 30) * np.float32(10**scale)
    assert found(x, bounds=(-1e6, 1e6)) == []


def test_nothing_is_found_in_clean_integers():
    assert found(images(), levels=256) == []
    assert found(images(dtype=np.uint16, levels=65_536), levels=65_536) == []


def test_an_atom_of_exactly_nine_point_four_per_cent():
    x = gaussian(1_000)
    x[np.random.default_rng(1).permutation(1_000)[:94], 3] = -1.0694182
    assert found(x) == [
        Hazard("atom", "column 3 holds one exact value (-1.06942) in 94 of 1,000 rows (9.4 %)", (3,), 0.094)
    ]


@pytest.mark.parametrize(
    ("rows", "tied", "expected"),
    [(1_000, 5, 0), (1_000, 6, 1), (10_000, 9, 0), (10_000, 10, 1)],
    ids=["five rows", "six rows", "below a thousandth", "a thousandth"],
)
def test_an_atom_needs_more_than_five_rows_and_a_thousandth(rows, tied, expected):
    x = gaussian(rows, 2)
    x[:: rows // tied, 1][:tied] = 0.5
    assert [(h.kind, h.columns, h.share) for h in found(x)] == [("atom", (1,), tied / rows)] * expected


@settings(max_examples=50, deadline=None)
@given(
    x=arrays.arrays(np.float32, st.tuples(st.integers(10, 60), st.just(2)), elements=st.sampled_from([-1, -0.0, 0, 2]))
)
def test_atoms_and_repeated_rows_are_what_plain_counting_finds(x):
    """-0.0 and 0.0 are one value."""
    expected = []
    for k in range(2):
        value, count = Counter(x[:, k].tolist()).most_common(1)[0]
        if 5 < count < len(x):
            expected.append(((k,), count / len(x)))
    splits = split(x)
    assert [(h.columns, h.share) for h in scan(splits, info((2,))) if h.kind == "atom"] == expected
    train, val, test = ([tuple(row) for row in rows.tolist()] for rows in splits)
    repeats = [len(train) - len(set(train)), *(sum(row in set(train) for row in rows) for rows in (val, test))]
    shares = [n / len(rows) for n, rows in zip(repeats, splits, strict=True) if n]
    assert [h.share for h in scan(splits, info((2,))) if h.kind in ("duplicate", "overlap")] == shares


def test_a_column_on_a_grid_is_discrete_even_if_no_value_is_frequent():
    """The time of day in minutes: 1,440 values, each rarer than a thousandth."""
    x = gaussian(20_000, 2)
    x[:, 0] = np.random.default_rng(1).permutation(20_000) % 1_440
    assert [(h.kind, h.text, h.columns, h.share) for h in found(x)] == [
        ("discrete", "column 0 takes 1,440 values in 20,000 rows", (0,), 1.0)
    ]


def test_an_atom_alone_does_not_make_a_column_discrete():
    x = gaussian(1_000, 2)
    x[:700, 0] = 0
    assert [h.kind for h in found(x)] == ["atom"]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_pair_with_high_correlation(sign):
    x = gaussian(5_000)
    x[:, 4] = sign * x[:, 1] + 0.15 * x[:, 4]  # |r| = 1 / sqrt(1 + .15²) = .989, R² = .978
    pair = Hazard("collinear", "1 pair of columns with |r| > 0.98: 1 and 4", (1, 4))
    assert found(x) == [pair]


def test_a_correlation_below_the_threshold_is_not_found():
    x = gaussian(5_000)
    x[:, 4] = x[:, 1] + 0.3 * x[:, 4]  # r = .958
    assert found(x) == []


@pytest.mark.parametrize("noise", [0, 1e-6, 0.03])
def test_a_column_that_is_the_sum_of_three_others(noise):
    """R² = 3 / (3 + noise²): up to .9997 of the sum, and as much of each of the three (noise .03: .9991)."""
    x = gaussian(5_000, 6)
    x[:, 5] = x[:, 0] + x[:, 2] + x[:, 3] + noise * x[:, 5]
    assert found(x) == [Hazard("collinear", "linear in the other columns (R² > 0.999): 0, 2, 3, 5", (0, 2, 3, 5))]


def test_explained_variance_is_that_of_a_least_squares_fit():
    x = gaussian(300, 4).astype(np.float64)
    x[:, 3] = x[:, 0] - 2 * x[:, 1] + x[:, 3]
    explained = hazards._explained(np.corrcoef(x, rowvar=False), len(x))
    for k in range(4):
        others = np.column_stack([np.ones(len(x)), np.delete(x, k, 1)])
        residual = x[:, k] - others @ np.linalg.lstsq(others, x[:, k], rcond=None)[0]
        r2 = 1 - residual.var() / x[:, k].var()
        assert explained[k] == pytest.approx(1 - (1 - r2) * 299 / 296, abs=1e-12)


def test_fewer_rows_than_columns_say_nothing_of_collinearity():
    assert found(gaussian(20, 30)) == []


def test_a_constant_column_is_only_that():
    x = gaussian()
    x[:, 2] = 0.1
    assert found(x) == [Hazard("constant", "constant columns: 1 of 5 (2)", (2,))]


def test_constant_pixels_count_over_all_splits():
    x = images()
    x[:, 0, 0, :5] = 0
    x[-1, 0, 0, 0] = 9
    assert found(x, levels=256) == [Hazard("constant", "constant columns: 4 of 36 (1, 2, 3, 4)", (1, 2, 3, 4))]


def test_repeated_rows_of_train():
    x = gaussian()
    x[[10, 11, 12]] = x[[4, 4, 5]]
    assert found(x) == [
        Hazard("duplicate", "train repeats an earlier row of its own in 3 of 1,600 rows (0.19 %)", share=3 / 1_600)
    ]


def test_test_rows_that_occur_in_train():
    x = gaussian()
    x[-4:] = x[[0, 1, 2, 2]]
    assert found(x) == [Hazard("overlap", "test repeats train in 4 of 200 rows (2 %)", share=0.02)]
    y = images()
    y[-45] = y[7]
    assert found(y, levels=256) == [Hazard("overlap", "val repeats train in 1 of 30 rows (3.3 %)", share=1 / 30)]


def test_every_test_row_in_train_is_said_without_a_percentage():
    x = gaussian(500)
    assert found(x, x[100:200])[-1].text == "test repeats train in 100 of 100 rows"


def test_reals_out_of_their_bounds():
    x = gaussian().clip(-0.9, 0.9) + 0.05 * gaussian(seed=1)
    x = x.clip(-1, 1) + 1e-3 * gaussian(seed=2)  # no atoms
    x = x.clip(-0.999, 0.999)
    inside = [h for h in found(x, bounds=(-1.0, 1.0)) if h.kind == "bounds"]
    x[0, 1], x[-1, 3] = 1.5, -1.25
    outside = [h for h in found(x, bounds=(-1.0, 1.0)) if h.kind == "bounds"]
    assert inside == []
    assert outside == [
        Hazard("bounds", "2 values of 10,000 outside the stated range -1 to 1", (1, 3), share=2 / 10_000)
    ]


def test_integers_beyond_their_levels():
    x = images(levels=17)
    assert found(x, levels=17) == []
    x[3, 0, 1, 0] = 17
    assert found(x, levels=17) == [
        Hazard("bounds", "1 value of 10,800 outside the stated range 0 to 16", (6,), share=1 / 10_800)
    ]


def test_rows_that_are_no_vectors_are_scanned_for_what_makes_sense_of_them():
    """Points: a coordinate's place in the row means nothing, so there are no columns to be collinear."""
    points = np.repeat(gaussian(500, 6)[:, :, None], 2, axis=2)
    assert found(points) == []


def test_findings_do_not_depend_on_the_size_of_a_block(monkeypatch):
    x = gaussian(1_000)
    x[:, 4] = x[:, 0] + x[:, 1] + x[:, 2]
    x[::20, 3] = 1
    x[5], x[-1] = x[4], x[0]
    whole = found(x, bounds=(-3.0, 3.0))
    monkeypatch.setattr(hazards, "BLOCK", 100)
    assert found(x, bounds=(-3.0, 3.0)) == whole
    assert {h.kind for h in whole} == {"atom", "collinear", "bounds", "duplicate", "overlap"}


def test_the_arrays_are_left_as_they_are(tmp_path):
    """The scan sorts columns, and memory maps would let it."""
    splits = split(gaussian())
    before = [rows.copy() for rows in splits]
    scan(splits, info((5,)))
    assert all((a == b).all() for a, b in zip(before, splits, strict=True))


def test_every_kind_has_been_met_here():
    x = gaussian(3_000, 6)
    x[:, 1], x[:, 2] = 2 * x[:, 0], 1
    x[:, 3] = np.arange(3_000) % 50
    x[::3, 4] = 4
    x[7], x[-1] = x[6], x[0]
    assert {h.kind for h in found(x, bounds=(-1.0, 1.0))} == set(get_args(hazards.Kind))


def test_a_finding_survives_json():
    atom = Hazard("atom", "text", (3,), 0.094)
    assert atom.to_json() == {"kind": "atom", "text": "text", "columns": [3], "share": 0.094}


def test_miniboone_has_its_atom(mirror, tmp_path):
    """652 of MAF's 6,932 validation and test rows hold one value in column 4; columns 16 and 19 repeat less."""
    store = Store(tmp_path / "raw", mirror, variant="sample")
    folder = datasets.prepare("miniboone", store=store, out=tmp_path / "miniboone", seed=0)
    splits = Splits(*(np.load(folder / f"{name}.npy") for name in Splits._fields))
    atoms = {h.columns[0]: h for h in scan(splits, datasets.describe("miniboone")) if h.kind == "atom"}
    values, counts = np.unique(np.concatenate(splits)[:, 4], return_counts=True)
    assert (counts.max(), float(values[counts.argmax()])) == (652, pytest.approx(-1.0694182))
    assert atoms[4].text == "column 4 holds one exact value (-1.06942) in 652 of 6,932 rows (9.4 %)"
    assert atoms[4].share == 652 / 6_932
    assert atoms.keys() == {4, 16, 19}
    assert max(atoms[16].share, atoms[19].share) < 0.01
