"""Readers of raw formats. Each raises UserError, in one line, on a file that is not what it should be."""

from __future__ import annotations

import gzip
import lzma
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from bench.errors import UserError, nearest

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

BLOCK = 100_000
"""Rows of a text file that are read at a time."""
BROKEN = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError)
"""What a truncated or damaged compressed file raises."""


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array of an IDX file (big-endian header: 0, 0, type, rank, sizes), gzipped or not."""
    import numpy as np

    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            content = stream.read()
    except BROKEN as error:
        raise UserError(f"{path}: a broken gzip file ({error}); delete it and fetch it again") from error
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise UserError(f"{path}: not an IDX file of bytes (it begins with {content[:4].hex()})")
    start = 4 + 4 * content[3]
    shape = tuple(np.frombuffer(content[4 : min(start, len(content) & ~3)], ">u4").tolist())
    if len(shape) != content[3] or math.prod(shape) != len(content) - start:
        raise UserError(f"{path}: {len(content)} bytes do not hold an array of shape {shape}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_matrix(path: Path, columns: int) -> np.ndarray:
    """The real matrix of a .npy file, checked for its number of columns and for values that are not finite."""
    import numpy as np

    try:
        rows = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise UserError(f"{path}: not a plain .npy file ({error})") from error
    if rows.ndim != 2 or rows.shape[1] != columns or not np.issubdtype(rows.dtype, np.floating):
        raise UserError(f"{path}: {rows.dtype} of shape {rows.shape}, expected reals of shape (rows, {columns})")
    check_finite(rows, str(path))
    return rows


def read_arrays(path: Path, *names: str) -> list[np.ndarray]:
    """The named arrays of a .npz file."""
    import zipfile

    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as arrays:
            return [arrays[name] for name in names]
    except (ValueError, EOFError, KeyError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: not a .npz file with {', '.join(names)} ({error}); replace the file") from error


def read_hdf5(path: Path, *names: str) -> list[np.ndarray]:
    """The named arrays of reals of an HDF5 file, float32; converted as they are read, without a copy in float64."""
    import h5py
    import numpy as np

    try:
        with h5py.File(path, "r") as file:
            arrays = [np.empty(file[name].shape, np.float32) for name in names]
            for name, array in zip(names, arrays, strict=True):
                file[name].read_direct(array)
    except (OSError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{path}: not an HDF5 file with {', '.join(names)} ({error}); replace the file") from error
    return arrays


@dataclass(frozen=True)
class TextTable:
    """Numbers in a text file, compressed (.gz, .xz) or not; ``skip`` lines come before the first row.

    ``separator`` None stands for runs of blanks. A row in which ``missing`` stands, or nothing, is left out; without
    ``missing`` it is an error. ``convert`` makes a number of the text in some columns.
    """

    path: Path
    separator: str | None = ","
    skip: int = 1
    missing: str | None = None
    convert: Mapping[int, Callable[[str], float]] = field(default_factory=dict)

    def names(self) -> list[str]:
        """The names of the columns, from the first line."""
        return self._fields(0)

    def positions(self, *names: str) -> list[int]:
        """Where the named columns are; UserError, with the nearest name, if there is no such column."""
        known = self.names()
        for name in names:
            if name not in known:
                raise UserError(f"{self.path}, line 1: {nearest(name, known, 'column')}; replace the file")
        return [known.index(name) for name in names]

    def read(self, columns: list[int], rows: int | None = None) -> np.ndarray:
        """The first ``rows`` rows (all of them by default), float64 (rows, columns); the columns in ascending order."""
        import numpy as np

        return np.concatenate(list(self.blocks(columns, rows)))

    def blocks(self, columns: list[int], rows: int | None = None) -> Iterator[np.ndarray]:
        """``read``, so many rows at a time."""
        import numpy as np

        line = self.skip + 1
        if len(self._fields(self.skip)) <= max(columns):
            raise UserError(f"{self.path}, line {line}: there is no column {max(columns)} (from 0); replace the file")
        try:
            for frame in self._frames(columns, rows, {i: str if i in self.convert else np.float64 for i in columns}):
                block = np.column_stack([self._numbers(frame[i], i) for i in columns])
                yield self._checked(block, columns, line)
                line += len(frame)
        except BROKEN as error:
            raise UserError(f"{self.path}: a broken compressed file ({error}); delete it and fetch it again") from error
        except ValueError as error:
            raise self._blame(columns, rows) or UserError(f"{self.path}: {error}; replace the file") from error

    def _numbers(self, column: pd.Series, index: int) -> np.ndarray:
        import numpy as np
        import pandas as pd

        if index not in self.convert:
            return column.to_numpy()
        codes, texts = pd.factorize(column, use_na_sentinel=True)  # few texts, each many times; -1 where there is none
        return np.array([*map(self.convert[index], texts), np.nan])[codes]

    def _checked(self, block: np.ndarray, columns: list[int], line: int) -> np.ndarray:
        import numpy as np

        absent = np.isnan(block)
        bad = np.isinf(block) if self.missing is not None else ~np.isfinite(block)
        if bad.any():
            row, column = divmod(int(bad.argmax()), len(columns))
            found = "nothing" if absent[row, column] else str(block[row, column])
            raise _bad_cell(self.path, line + row, columns[column], found)
        return block[~absent.any(1)] if absent.any() else block

    def _frames(self, columns: list[int], rows: int | None, kinds: object) -> Iterator[pd.DataFrame]:
        import pandas as pd

        frames = pd.read_csv(
            self.path,
            sep=r"\s+" if self.separator is None else self.separator,
            header=None,
            skiprows=self.skip,
            usecols=columns,
            dtype=kinds,
            na_values=self.missing,
            nrows=rows,
            chunksize=BLOCK,
        )
        with frames:
            yield from frames

    def _blame(self, columns: list[int], rows: int | None) -> UserError | None:
        """The first text that is no number: read again, as text, only where something is wrong."""
        line = self.skip + 1
        for frame in self._frames(columns, rows, str):
            for offset, row in enumerate(frame.itertuples(index=False)):
                for column, text in zip(columns, row, strict=True):
                    try:
                        self.convert.get(column, float)(text) if isinstance(text, str) else None
                    except ValueError:
                        return _bad_cell(self.path, line + offset, column, repr(text))
            line += len(frame)
        return None

    def _fields(self, line: int) -> list[str]:
        """The texts of one line, counted from 0."""
        with self._open() as stream:
            try:
                for _ in range(line):
                    stream.readline()
                return [text.strip() for text in stream.readline().split(self.separator)]
            except (*BROKEN, UnicodeDecodeError) as error:
                raise UserError(f"{self.path}: not a readable text file ({error}); fetch it again") from error

    def _open(self) -> TextIO:
        opener = {".gz": gzip.open, ".xz": lzma.open}.get(self.path.suffix, open)
        return opener(self.path, "rt", encoding="utf-8")


def _bad_cell(path: Path, line: int, column: int, found: str) -> UserError:
    return UserError(
        f"{path}, line {line}, column {column} (from 0): {found} where a number should be; replace the file"
    )


def read_grey(path: Path) -> np.ndarray:
    """An image file as grey levels (ITU-R 601 luma), uint8, (height, width)."""
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L"))
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"{path}: not a readable image ({error})") from error


def check_finite(rows: np.ndarray, what: str, first: int = 0, cure: str = "correct or replace the raw file") -> None:
    """UserError that names the first row and column (from 0) which is not a finite number, and the ``cure``.

    ``first`` is the number of the first row, where ``rows`` are a block of more.
    """
    import numpy as np

    if not np.issubdtype(rows.dtype, np.floating):
        return
    bad = ~np.isfinite(rows)
    if bad.any():
        row, *column = (int(i) for i in np.unravel_index(bad.argmax(), bad.shape))
        place = f"row {first + row}" + (f", column {', '.join(map(str, column))}" if column else "")
        raise UserError(f"{what}: {rows[(row, *column)]} in {place} (counted from 0); {cure}")
