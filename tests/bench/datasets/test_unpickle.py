from __future__ import annotations

import collections
import contextlib
import io
import os
import pickle
import random
import struct
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from bench.datasets.unpickle import StandIn, frame_to_array, read_pickle
from bench.errors import UserError

LONG_BINPUT = ord("r")
"""Followed by garbage it asks CPython for gigabytes, which a machine may have."""
FRAME = pd.DataFrame({"Time": [0.0, 0.5, 1.0], "Meth": [1, 2, 3], "R1": [-1.5, 2.5, 0.25]})


class Global(str):
    """A global that need not exist: written as it is named."""

    def __call__(self) -> None:
        raise AssertionError("only its name is written")

    def __reduce__(self) -> str:
        return str(self)


class Made:
    """What ``function(*args)`` makes, with a state."""

    def __init__(self, function: str, *args: object, state: object = None) -> None:
        self.reduced = (Global(function), args) + (() if state is None else (state,))

    def __reduce__(self) -> tuple:
        return self.reduced


class OldWriter(pickle._Pickler):
    """Writes as Python 2 did: byte strings for str, and globals without looking them up."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_global(self, obj: Global, name: str | None = None) -> None:
        module, _, name = str(obj).rpartition(".")
        self.write(f"c{module}\n{name}\n".encode())
        self.memoize(obj)

    def save_bytes(self, obj: bytes) -> None:
        self.write(b"T" + struct.pack("<i", len(obj)) + obj)

    dispatch[bytes] = save_bytes


def old(what: object) -> bytes:
    stream = io.BytesIO()
    OldWriter(stream, 2).dump(what)
    return stream.getvalue()


def old_array(array: np.ndarray, cls: str = "numpy.ndarray", extra: object = None) -> Made:
    if array.dtype == object:
        dtype, content = Made("numpy.dtype", b"O8", 0, 1, state=(3, b"|", None, None, None, -1, -1, 63)), array.tolist()
    else:
        order = b"|" if array.itemsize == 1 else b"<"
        name = array.dtype.str[1:].encode()
        dtype = Made("numpy.dtype", name, 0, 1, state=(3, order, None, None, None, -1, -1, 0))
        content = array.tobytes()
    state = (1, array.shape, dtype, False, content)
    state = state if extra is None else (state, extra)
    return Made("numpy.core.multiarray._reconstruct", Global(cls), (0,), b"b", state=state)


def index(values: list, cls: str) -> Made:
    data = np.array([v.encode() if isinstance(v, str) else v for v in values], object if cls == "Index" else np.int64)
    how = {b"data": old_array(data), b"name": None}
    return Made("pandas.core.index._new_Index", Global(f"pandas.core.index.{cls}"), how)


BLOCKS = [(FRAME[["Time", "R1"]].to_numpy().T.copy(), ["Time", "R1"]), (FRAME[["Meth"]].to_numpy().T.copy(), ["Meth"])]


def frame_of_0_20() -> Made:
    """pandas 0.14.1 to 0.25: axes, values, items, and all of it again under the name of a version."""
    axes = [index(["Time", "Meth", "R1"], "Index"), index([7, 3, 5], "Int64Index")]
    values, items = [old_array(block) for block, _ in BLOCKS], [index(names, "Index") for _, names in BLOCKS]
    places = [Made("__builtin__.slice", 0, 3, 2), old_array(np.array([1]))]
    blocks = [{b"values": block, b"mgr_locs": place} for block, place in zip(values, places, strict=True)]
    state = (axes, values, items, {b"0.14.1": {b"axes": axes, b"blocks": blocks}})
    manager = Made("pandas.core.internals.BlockManager", state=state)
    return Made(
        "copy_reg._reconstructor", Global("pandas.core.frame.DataFrame"), Global("__builtin__.object"), None,
        state={b"_data": manager, b"_typ": b"dataframe", b"_metadata": []},
    )  # fmt: skip


def frame_of_0_12() -> Made:
    """pandas before 0.13: an Index is an array of its own class."""

    def labels(values: list) -> Made:
        return old_array(np.array([v.encode() for v in values], object), "pandas.core.index.Index", (None,))

    axes = [labels(["Time", "Meth", "R1"]), old_array(np.arange(3), "pandas.core.index.Int64Index", (None,))]
    state = (axes, [old_array(block) for block, _ in BLOCKS], [labels(names) for _, names in BLOCKS])
    manager = Made("pandas.core.internals.BlockManager", state=state)
    return Made("pandas.core.frame.DataFrame", state={b"_data": manager})


def read(content: bytes) -> object:
    return read_pickle(io.BytesIO(content), "x.pickle")


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "frame",
    [FRAME, FRAME.sample(frac=1, random_state=0), FRAME.drop(columns="Time"), FRAME.astype("float32"), FRAME[[]]],
    ids=["mixed", "shuffled", "dropped", "float32", "empty"],
)
def test_frames_of_today(frame, protocol):
    columns, rows = frame_to_array(read(pickle.dumps(frame, protocol)), "x")
    assert columns == list(frame.columns)
    assert rows.dtype == np.float64
    np.testing.assert_array_equal(rows, frame.to_numpy().astype(float))


@pytest.mark.parametrize("frame", [frame_of_0_20, frame_of_0_12])
def test_frames_of_python_2(frame):
    found = read(old(frame()))
    assert isinstance(found, StandIn)
    columns, rows = frame_to_array(found, "x")
    assert columns == ["Time", "Meth", "R1"]
    np.testing.assert_array_equal(rows, FRAME.to_numpy())


def test_an_object_of_pandas_is_never_made():
    found = read(pickle.dumps({"frame": FRAME, "timestamp": pd.Timestamp("2006-12-16")}))
    assert {type(value).__mro__[1] for value in found.values()} == {StandIn}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("module", [b"numpy.core", b"numpy._core"])
def test_arrays_of_both_names(module, protocol):
    data = {
        "fortran": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
        "record": np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]),
        "text": np.array(["a", None], object),
        "scalar": np.float32(2.5),
        "dtype": np.dtype("u1"),
    }
    written = {name: pickle.dumps(value, protocol) for name, value in data.items()}
    if module == b"numpy.core" and protocol < 4:  # lengths are written before names in later protocols
        written = {name: content.replace(b"numpy._core", module) for name, content in written.items()}
    for name, content in written.items():
        found = read(content)
        assert type(found) is type(data[name])
        assert np.asarray(found == data[name]).all()
        assert getattr(found, "dtype", found) == getattr(data[name], "dtype", data[name])


@pytest.mark.parametrize("protocol", range(6))
def test_containers(protocol):
    data = [b"bytes", b"", "text", {1, 2}, frozenset("a"), 1 + 2j, bytearray(b"x"), range(3), 10**30, None, (1.5,)]
    data.append(collections.OrderedDict(a=1))
    assert read(pickle.dumps(data, protocol)) == data


def test_a_batch_of_python_2_has_text_for_keys(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (4, 3072), np.uint8)
    batch = {b"data": old_array(images), b"labels": [6, 9, 9, 4], b"batch_label": b"training batch 1 of 5"}
    (tmp_path / "data_batch_1").write_bytes(old(batch))
    found = read_pickle(tmp_path / "data_batch_1", "data_batch_1")
    assert list(found) == ["data", "labels", "batch_label"]
    assert (found["data"] == images).all()
    assert found["labels"] == [6, 9, 9, 4]


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_a_large_array_is_not_copied(tmp_path, protocol):
    images = np.zeros(20_000_000, np.uint8)
    (tmp_path / "x").write_bytes(pickle.dumps({"data": images}, protocol))
    tracemalloc.start()
    try:
        found = read_pickle(tmp_path / "x", "x")
        assert tracemalloc.get_traced_memory()[1] < 1.1 * images.nbytes
    finally:
        tracemalloc.stop()
    assert found["data"].shape == images.shape


@pytest.mark.parametrize(
    ("content", "refused"),
    [
        (pickle.dumps(os.system), f"{os.system.__module__}.system"),
        (pickle.dumps(eval), "builtins.eval"),
        (b"c__builtin__\neval\n(S'1'\ntR.", "builtins.eval"),
        (pickle.dumps(getattr), "builtins.getattr"),
        (old(Made("numpy.load", b"x")), "numpy.load"),
        (old(Made("numpy.core.multiarray.fromfile", b"x")), "numpy.core.multiarray.fromfile"),
        (old(Made("numpy.testing._private.utils.runstring", b"1", {})), "runstring"),
        (old(Made("_codecs.encode", "x", "zlib")), "the codec zlib"),
        (old(Made("copy_reg._reconstructor", Global("__builtin__.set"), Global("__builtin__.object"), None)), "set"),
        (b"\x80\x04\x8c\x06pandas\x8c\x09io.common\x93\x8c\x01x\x85R" + b"cos\nsystem\n.", "os.system"),
    ],
)
def test_anything_else_is_refused(content, refused):
    with pytest.raises(UserError, match=f"^x.pickle: the pickle .*{refused}.*; refused, replace the file$"):
        read(content)


def test_a_pickle_leaves_nothing_behind():
    """BUILD sets attributes even of what a pickle only names; the next pickle must not see them."""
    for name in ("pandas.DataFrame", "numpy.core.multiarray._reconstruct", "_codecs.encode"):
        module, _, attribute = name.rpartition(".")
        hostile = f"c{module}\n{attribute}\n".encode() + b"(N(S'__setstate__'\nNdtb."
        with contextlib.suppress(UserError):
            read(hostile)
    assert frame_to_array(read(pickle.dumps(FRAME, 2)), "x")[0] == list(FRAME)
    assert StandIn.__setstate__ is not None


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_truncated_pickle_is_one_line(protocol):
    content = pickle.dumps({"frame": FRAME, "array": np.arange(9.0)}, protocol)
    for length in range(len(content)):
        with pytest.raises(UserError, match=r"^x.pickle: (a broken pickle|the pickle asks)"):
            read(content[:length])


def test_a_damaged_pickle_is_one_line_or_data():
    rng = random.Random(0)
    for protocol in (0, 2, 5):
        content = pickle.dumps({"frame": FRAME, "array": np.arange(9.0)}, protocol)
        for _ in range(300):
            damaged = bytearray(content)
            value = rng.choice([i for i in range(256) if i != LONG_BINPUT])
            damaged[rng.randrange(len(content))] = value
            try:
                read(bytes(damaged))
            except UserError as error:
                assert str(error).startswith("x.pickle: ")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ([1], "the pickle holds a list"),
        (pd.Series([1.0]), "the pickle holds a pandas.*Series"),
        (pd.DataFrame({"a": ["x"]}), "no pandas frame of numbers"),
    ],
)
def test_what_is_no_frame_of_numbers_is_one_line(what, message):
    with pytest.raises(UserError, match=f"^y: .*{message}"):
        frame_to_array(read(pickle.dumps(what)), "y")
