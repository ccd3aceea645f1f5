from __future__ import annotations

import gzip
import lzma
import struct

import h5py
import numpy as np
import pytest
from PIL import Image

from bench.datasets import readers
from bench.datasets.readers import (
    TextTable,
    check_finite,
    read_arrays,
    read_grey,
    read_hdf5,
    read_idx,
    read_matrix,
)
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
        ("x.gz", gzip.compress(IDX, mtime=0)[:-9], "broken gzip"),
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


TEXT = "a,b,time\n1,2.5,0:10\n3,?,0:20\n-1e3,4,1:00\n5,6,0:30\n"
ROWS = [[1, 2.5, 10], [-1000, 4, 60], [5, 6, 30]]


def minutes(text: str) -> float:
    hours, minute = text.split(":")
    return 60 * int(hours) + int(minute)


def table(path, text=TEXT, compress=bytes, **options) -> TextTable:
    path.write_bytes(compress(text.encode()))
    return TextTable(path, **{"missing": "?", "convert": {2: minutes}} | options)


@pytest.mark.parametrize("block", [1, 2, 100])
@pytest.mark.parametrize(("name", "compress"), [("x.csv", bytes), ("x.csv.gz", gzip.compress), ("x.xz", lzma.compress)])
def test_text(tmp_path, monkeypatch, name, compress, block):
    monkeypatch.setattr(readers, "BLOCK", block)
    found = table(tmp_path / name, compress=compress)
    assert found.names() == ["a", "b", "time"]
    assert found.positions("b", "a") == [1, 0]
    assert found.read([0, 1, 2]).tolist() == ROWS
    assert found.read([2], rows=2).tolist() == [[10], [20]]
    assert sum(map(len, found.blocks([1]))) == 3


def test_text_between_blanks_without_a_header(tmp_path):
    found = table(tmp_path / "x", "  1  2.5\t3\n -4 5   6  \n", separator=None, skip=0, convert={})
    assert found.read([0, 2]).tolist() == [[1, 3], [-4, 6]]


def test_a_row_may_hold_more_than_the_header_names(tmp_path):
    assert table(tmp_path / "x", "a,b\n1,2,3\n4,5,6\n").read([0, 1]).tolist() == [[1, 2], [4, 5]]


@pytest.mark.parametrize("block", [1, 3, 100])
@pytest.mark.parametrize(
    ("old", "new", "options", "message"),
    [
        ("?", "?", {"missing": None}, r"line 3, column 1 \(from 0\): '\?' where a number should be; replace the file$"),
        ("?", "", {"missing": None}, "line 3, column 1 .*: nothing where a number should be"),
        ("?", "nan", {"missing": None}, "line 3, column 1 .*: nothing where a number should be"),
        ("4,1:00", "four,1:00", {}, "line 4, column 1 .*: 'four' where a number should be"),
        ("4,1:00", "inf,1:00", {}, "line 4, column 1 .*: inf where a number should be"),
        ("1:00", "noon", {}, "line 4, column 2 .*: 'noon' where a number should be"),
        (TEXT, "a,b,time\n1,2,0:10\n3,4\n", {"missing": None}, "line 3, column 2 .*: nothing where a number should be"),
        ("6,0:30", "6", {}, None),
        (TEXT, "a,b,time\n1,2\n", {}, r"line 2: there is no column 2 \(from 0\); replace the file$"),
        (TEXT, "a,b,time\n", {}, "line 2: there is no column 2"),
        (TEXT, "", {}, "line 2: there is no column 2"),
    ],
)
def test_a_broken_text_is_placed(tmp_path, monkeypatch, block, old, new, options, message):
    monkeypatch.setattr(readers, "BLOCK", block)
    found = table(tmp_path / "x.csv", TEXT.replace(old, new), **options)
    if message is None:  # a short row is a row with a missing value
        assert found.read([0, 1, 2]).tolist() == ROWS[:2]
        return
    with pytest.raises(UserError, match=f"x.csv, {message}"):
        found.read([0, 1, 2])


def test_an_unknown_column_is_one_line(tmp_path):
    with pytest.raises(UserError, match="x, line 1: unknown column 'tine'; did you mean 'time'"):
        table(tmp_path / "x").positions("a", "tine")


@pytest.mark.parametrize(("name", "compress"), [("x.gz", gzip.compress), ("x.xz", lzma.compress)])
def test_a_truncated_text_is_one_line(tmp_path, name, compress):
    rows = "\n".join(f"{i},{i * i},0:00" for i in range(20_000))
    found = table(tmp_path / name, f"a,b,time\n{rows}\n", lambda content: compress(content)[:-2000])
    with pytest.raises(UserError, match=f"{name}: (a broken compressed file|not a readable text file)"):
        found.read([0, 1, 2])


def test_arrays(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.arange(3), b=np.eye(2))
    first, second = read_arrays(tmp_path / "x.npz", "b", "a")
    assert (first == np.eye(2)).all()
    assert (second == np.arange(3)).all()
    with pytest.raises(UserError, match=r"x.npz: not a .npz file with a, c"):
        read_arrays(tmp_path / "x.npz", "a", "c")
    for content in (b"", b"text", (tmp_path / "x.npz").read_bytes()[:-40]):
        (tmp_path / "y.npz").write_bytes(content)
        with pytest.raises(UserError, match=r"y.npz: not a .npz file with a"):
            read_arrays(tmp_path / "y.npz", "a")


def test_hdf5(tmp_path):
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        file["a"] = np.arange(6.0).reshape(3, 2)
        file.create_group("g")
    (rows,) = read_hdf5(tmp_path / "x.hdf5", "a")
    assert rows.dtype == np.float32
    assert rows.tolist() == [[0, 1], [2, 3], [4, 5]]
    for name in ("b", "g"):
        with pytest.raises(UserError, match=f"x.hdf5: not an HDF5 file with a, {name}"):
            read_hdf5(tmp_path / "x.hdf5", "a", name)
    for content in (b"text", (tmp_path / "x.hdf5").read_bytes()[:-100]):
        (tmp_path / "y.hdf5").write_bytes(content)
        with pytest.raises(UserError, match="y.hdf5: not an HDF5 file with a"):
            read_hdf5(tmp_path / "y.hdf5", "a")
