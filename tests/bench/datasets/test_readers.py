from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
from PIL import Image

from bench.datasets.readers import check_finite, read_grey, read_idx, read_matrix
from bench.errors import UserError

PIXELS = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
IDX = struct.pack(">BBBB3I", 0, 0, 8, 3, 2, 3, 4) + PIXELS.tobytes()


@pytest.mark.parametrize("name", ["images.gz", "images"])
def test_idx(tmp_path, name):
    (tmp_path / name).write_bytes(gzip.compress(IDX) if name.endswith("gz") else IDX)
    assert (read_idx(tmp_path / name) == PIXELS).all()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.gz", gzip.compress(IDX)[:-9], "broken gzip"),
        ("x.gz", b"not gzip", "broken gzip"),
        ("x", IDX[:-1], "do not hold an array of shape"),
        ("x", IDX + b"0", "do not hold an array of shape"),
        ("x", IDX[:7], "do not hold an array of shape"),
        ("x", b"\x00\x00\x0d\x01" + IDX[4:], "not an IDX file of bytes"),
        ("x", b"", "not an IDX file of bytes"),
    ],
)
def test_a_broken_idx_file_is_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_idx(tmp_path / name)


def test_matrix(tmp_path):
    rows = np.random.default_rng(0).normal(size=(5, 3))
    np.save(tmp_path / "x.npy", rows)
    assert (read_matrix(tmp_path / "x.npy", 3) == rows).all()
    with pytest.raises(UserError, match=r"float64 of shape \(5, 3\), expected reals of shape \(rows, 4\)"):
        read_matrix(tmp_path / "x.npy", 4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_is_placed(tmp_path, value):
    rows = np.zeros((5, 3))
    rows[3, 1] = value
    np.save(tmp_path / "x.npy", rows)
    with pytest.raises(UserError, match=rf"x.npy: {value} in row 3, column 1 "):
        read_matrix(tmp_path / "x.npy", 3)


def test_a_pickle_is_never_opened(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{}, {}], dtype=object))
    with pytest.raises(UserError, match="not a plain .npy file"):
        read_matrix(tmp_path / "x.npy", 3)


def test_integers_are_finite():
    check_finite(np.zeros((2, 2), np.uint8), "x")


def test_grey(tmp_path):
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    Image.fromarray(colours).save(tmp_path / "x.png")
    assert read_grey(tmp_path / "x.png").tolist() == [[76, 150, 29]]
    (tmp_path / "y.png").write_bytes(b"text")
    with pytest.raises(UserError, match="not a readable image"):
        read_grey(tmp_path / "y.png")
