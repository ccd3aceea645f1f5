"""Readers of raw formats. Each raises UserError, in one line, on a file that is not what it should be."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import UserError

if TYPE_CHECKING:
    import numpy as np


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array of an IDX file (big-endian header: 0, 0, type, rank, sizes), gzipped or not."""
    import numpy as np

    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            content = stream.read()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
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


def read_grey(path: Path) -> np.ndarray:
    """An image file as grey levels (ITU-R 601 luma), uint8, (height, width)."""
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L"))
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"{path}: not a readable image ({error})") from error


def check_finite(rows: np.ndarray, what: str, first: int = 0) -> None:
    """UserError that names the first row and column (from 0) which is not a finite number.

    ``first`` is the number of the first row, where ``rows`` are a block of more.
    """
    import numpy as np

    if not np.issubdtype(rows.dtype, np.floating):
        return
    bad = ~np.isfinite(rows)
    if bad.any():
        row, *column = (int(i) for i in np.unravel_index(bad.argmax(), bad.shape))
        place = f"row {first + row}" + (f", column {', '.join(map(str, column))}" if column else "")
        raise UserError(f"{what}: {rows[(row, *column)]} in {place} (counted from 0); correct or replace the raw file")
