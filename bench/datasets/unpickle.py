"""Reading pickles from the network without running them: only data comes out, and pandas is never asked.

A pickle is a program that may call any function. This reader knows the few that make data, and refuses all others.
Frames of pandas come out as inert stand-ins, because pandas itself reads back only what a pandas near its age wrote.
What a pickle may call is bounded so, not how much memory it may ask for.
"""

from __future__ import annotations

import contextlib
import pickle
import struct
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from bench.errors import UserError

if TYPE_CHECKING:
    import numpy as np

BROKEN = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, LookupError, OverflowError, MemoryError,
    struct.error,
)  # fmt: skip
"""What the unpickler raises on bytes that are no pickle, or not the whole of one."""


class StandIn:
    """Something of pandas that was not made: the ``args`` it would have been called with, and its ``state``."""

    kind = ""

    def __new__(cls, *args: object, **_: object) -> StandIn:
        made = object.__new__(cls)
        made.args, made.state = args, None
        return made

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        self.state = state


class Refused(pickle.UnpicklingError):
    """A pickle asked for a global that does not make data."""


def read_pickle(source: Path | BinaryIO, where: str) -> object:
    """What a pickle holds: containers, numbers, strings, numpy's arrays, dtypes and scalars, and stand-ins for pandas'.

    Strings of Python 2 are read as latin-1. UserError, beginning with ``where``, for any other global and for a pickle
    that is broken. Bytes are read straight into the arrays that hold them.
    """
    with contextlib.nullcontext(source) if hasattr(source, "read") else Path(source).open("rb") as stream:
        try:
            return _Reader(stream, encoding="latin1").load()
        except Refused as error:
            raise UserError(f"{where}: {error}") from error
        except BROKEN as error:
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            raise UserError(f"{where}: a broken pickle ({reason}); delete it and fetch it again") from error


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if module.split(".")[0] == "pandas":
            # A new class each time: what a pickle does to one of them is lost with it.
            return type("StandIn", (StandIn,), {"kind": f"{module}.{name}"})
        module = module.replace("numpy._core.", "numpy.core.").replace("__builtin__", "builtins")
        known = _makers().get(f"{module.replace('copy_reg', 'copyreg')}.{name}")
        if known is None:
            raise Refused(f"the pickle asks for {module}.{name}, which does not make data; refused, replace the file")
        return known


def _makers() -> dict[str, object]:
    """The globals that may be used. Functions are methods of an object: a pickle can set no attribute of those."""
    import collections

    import numpy as np

    makers = _Makers()
    builtins = (complex, set, frozenset, bytearray, slice, range, list, dict, tuple, int, float, bool, str, object)
    return {
        **{f"builtins.{made.__name__}": made for made in builtins},
        "builtins.xrange": range,
        "builtins.long": int,
        "builtins.unicode": str,
        "builtins.bytes": makers.to_bytes,
        "collections.OrderedDict": collections.OrderedDict,
        "copyreg._reconstructor": makers.instance,
        "_codecs.encode": makers.encode,
        "numpy.ndarray": np.ndarray,
        "numpy.dtype": np.dtype,
        "numpy.core.multiarray._reconstruct": makers.array,
        "numpy.core.multiarray.scalar": np._core.multiarray.scalar,
        "numpy.core.numeric._frombuffer": makers.array_of_buffer,
    }


class _Makers:
    """Functions that pickles call, with arguments that could do harm left out."""

    __slots__ = ()

    def to_bytes(self, values: object = b"") -> bytes:
        """Bytes, but not so many zeros as a number asks for."""
        return bytes(iter(values))

    def encode(self, text: str, encoding: str = "latin1") -> bytes:
        """How Python 3 writes bytes in protocols 0 to 2."""
        if encoding != "latin1":
            raise Refused(f"the pickle asks for the codec {encoding}; refused, replace the file")
        return text.encode("latin1")

    def instance(self, cls: type, base: type, state: object) -> object:
        """How protocols 0 and 1 make an instance; only stand-ins are made so."""
        if not issubclass(cls, StandIn):
            raise Refused(f"the pickle makes an instance of {cls.__name__} by hand; refused, replace the file")
        return cls(base, state)

    def array(self, cls: type, shape: tuple[int, ...], typecode: str | bytes) -> object:
        """An empty array whose state is to follow; an Index of pandas before 0.13 was one too."""
        import numpy as np

        return cls() if issubclass(cls, StandIn) else np._core.multiarray._reconstruct(np.ndarray, shape, typecode)

    def array_of_buffer(self, buffer: object, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
        """How protocol 5 makes an array."""
        import numpy as np

        return np.frombuffer(buffer, dtype).reshape(shape, order=order)


def frame_to_array(frame: object, where: str) -> tuple[list[str], np.ndarray]:
    """Column names and values, float64 (rows, columns), of a stand-in for a DataFrame of any age.

    UserError, beginning with ``where``, if it is none, or holds something else than numbers.
    """
    import numpy as np

    try:
        axes, blocks = _manager(frame)
        columns = [str(name) for name in _labels(axes[0])]
        values = np.full((_rows(axes[1], blocks), len(columns)), np.nan)
        for block, place in blocks:
            values[:, place] = np.asarray(block, np.float64).T
    except BROKEN as error:
        raise UserError(
            f"{where}: no pandas frame of numbers that can be read ({type(error).__name__}: {error})"
        ) from error
    return columns, values


def _manager(frame: object) -> tuple[list, list[tuple[np.ndarray, object]]]:
    """Axes (columns, rows) and blocks: values (columns of the block, rows) and the places of those columns."""
    if not (isinstance(frame, StandIn) and frame.kind.endswith("DataFrame") and isinstance(frame.state, dict)):
        raise TypeError(f"the pickle holds a {getattr(frame, 'kind', type(frame).__name__)}")
    manager = frame.state.get("_mgr", frame.state.get("_data"))
    if manager.state is None:  # pandas since 1.3 calls BlockManager(blocks, axes) where it can
        blocks, axes = manager.args[:2]
        return list(axes), [_block(block) for block in blocks]
    axes, values, items, *later = manager.state
    if later:  # pandas since 0.14.1 repeats it all under that name
        axes, blocks = later[0]["0.14.1"]["axes"], later[0]["0.14.1"]["blocks"]
        return axes, [(block["values"], block["mgr_locs"]) for block in blocks]
    place = {name: i for i, name in enumerate(_labels(axes[0]))}
    return axes, [(block, [place[name] for name in _labels(names)]) for block, names in zip(values, items, strict=True)]


def _block(block: StandIn) -> tuple[np.ndarray, object]:
    """From ``_unpickle_block(values, placement, ndim)`` or ``new_block(values, placement=..., ndim=...)``."""
    return block.args[0], block.args[1]


def _rows(axis: StandIn, blocks: list) -> int:
    return blocks[0][0].shape[1] if blocks else len(_labels(axis))


def _labels(index: object) -> list:
    """The labels of an Index, in whichever way it was written."""
    import numpy as np

    if isinstance(index, np.ndarray):
        return index.tolist()
    if index.args and isinstance(index.args[-1], dict):  # _new_Index(cls, {"data": ..., "name": ...})
        how = index.args[-1]
        return _labels(how["data"]) if "data" in how else list(range(how["start"], how["stop"], how["step"]))
    for part in index.state:  # an array of strings of pandas 3: (array, dtype, ...), in an order that changed
        if isinstance(part, np.ndarray):
            return part.tolist()
    array = np._core.multiarray._reconstruct(np.ndarray, (0,), b"b")
    array.__setstate__(index.state[0])  # before 0.13 an Index was an array: (state of the array, (name,))
    return array.tolist()
