"""Writing splits block by block, so that an array larger than the memory can be prepared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.datasets.info import Built, Splits
from bench.datasets.readers import check_finite

if TYPE_CHECKING:
    import numpy as np

BLOCK = 1 << 26
"""Bytes that are checked, hashed and written at a time."""


def write_splits(built: Built, folder: Path, name: str) -> dict[str, str]:
    """Write ``train.npy``, ``val.npy`` and ``test.npy``; the md5 of each one's content.

    UserError for a value that is not finite, ValueError for a split without rows.
    """
    with ExitStack() as stack:
        files = {split: stack.enter_context(RowFile.create(folder / f"{split}.npy")) for split in Splits._fields}
        for split, rows in built._asdict().items() if isinstance(built, Splits) else built:
            check_finite(rows, f"{name}, {split} rows", files[split].rows)
            files[split].append(rows)
        empty = [split for split, file in files.items() if not file.rows]
        if empty:
            raise ValueError(f"{name}: no rows for {', '.join(empty)}")
    return {split: file.md5.hexdigest() for split, file in files.items()}


class RowFile:
    """A .npy file (format 1.0) that grows by rows; its header is written again when it is closed."""

    def __init__(self, stream: object) -> None:
        self.stream = stream
        self.rows = 0
        self.row_shape: tuple[int, ...] = ()
        self.dtype: np.dtype | None = None
        self.md5 = hashlib.md5()

    @classmethod
    @contextmanager
    def create(cls, path: Path) -> Iterator[RowFile]:
        with path.open("wb") as stream:
            file = cls(stream)
            yield file
            if file.rows:
                stream.seek(0)
                file._header()

    def append(self, rows: np.ndarray) -> None:
        """Rows of one dtype and one shape; ValueError otherwise."""
        import numpy as np

        if self.dtype is None:
            self.dtype, self.row_shape = rows.dtype, rows.shape[1:]
            self._header()
        if (rows.dtype, rows.shape[1:]) != (self.dtype, self.row_shape):
            raise ValueError(f"rows of {self.dtype} {self.row_shape} go on as {rows.dtype} {rows.shape[1:]}")
        step = max(1, BLOCK // max(1, rows[:1].nbytes))
        for start in range(0, len(rows), step):
            block = np.ascontiguousarray(rows[start : start + step])
            self.md5.update(block.data)
            self.stream.write(block.data)
        self.rows += len(rows)

    def _header(self) -> None:
        import numpy as np

        # numpy leaves room for the first axis to grow, so a header with another number of rows has the same length.
        np.lib.format.write_array_header_1_0(
            self.stream,
            {
                "descr": np.lib.format.dtype_to_descr(self.dtype),
                "fortran_order": False,
                "shape": (self.rows, *self.row_shape),
            },
        )
