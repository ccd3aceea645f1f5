"""Steps that several sets share; those of real vectors as MAF's loaders take them (Papamakarios et al. 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.datasets.info import Request, Splits
from bench.errors import UserError

if TYPE_CHECKING:
    import numpy as np

REPEATS = 5
"""MAF's: how many rows may share the smallest value of a column."""


def last_tenth(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The other rows, and the last tenth of them, rounded down."""
    n = len(rows) - len(rows) // 10
    return rows[:n], rows[n:]


def tail_splits(rows: np.ndarray) -> Splits:
    """The last tenth for the test, the last tenth of the others for validation."""
    rest, test = last_tenth(rows)
    return Splits(*last_tenth(rest), test)


def random_split(rows: np.ndarray, request: Request) -> Splits:
    """Training, validation and test rows of the sizes that are asked for, the rest to the test; alike for labels."""
    import numpy as np

    train, val, _ = request.sizes
    rows = rows[np.random.default_rng(request.seed("split")).permutation(len(rows))]
    return Splits(rows[:train], rows[train : train + val], rows[train + val :])


def z_score(rows: np.ndarray, of: np.ndarray, ddof: int) -> np.ndarray:
    """(rows - mean) / std, with the moments of ``of``; the variance is divided by the number of rows less ``ddof``."""
    return (rows - of.mean(0)) / of.std(0, ddof=ddof)


def rarely_lowest(rows: np.ndarray) -> np.ndarray:
    """Which columns MAF's filter of repeated values keeps, bool (columns,).

    MAF means to drop features that take some value often, but counts only the smallest value of each. An atom
    elsewhere in a column passes, as in column 4 of MINIBOONE. We keep the filter as it is: every published score is on
    the columns that it leaves.
    """
    return (rows == rows.min(0)).sum(0) <= REPEATS


def require_columns(rows: np.ndarray, columns: int, what: str) -> np.ndarray:
    """``rows``; UserError if their number of columns is not the published one, for then the raw file is another."""
    if rows.shape[1] != columns:
        raise UserError(f"{what}: {rows.shape[1]} columns are left, expected {columns}; replace the raw file")
    return rows


def finish(request: Request, splits: Splits) -> Splits:
    """As many rows of each split as are asked for, float32."""
    import numpy as np

    return Splits(*(rows.astype(np.float32, copy=False) for rows in some_of(request, splits)))


def some_of(request: Request, splits: Splits) -> Splits:
    """``some`` rows of each split."""
    return Splits(*(some(request, rows, split) for split, rows in splits._asdict().items()))


def some(request: Request, rows: np.ndarray, split: str) -> np.ndarray:
    """As many rows of a split as are asked for, drawn at random and left in their order; all where there are no more.

    The same rows for data and labels.
    """
    import numpy as np

    n = request.sizes[Splits._fields.index(split)]
    if n >= len(rows):
        return rows
    return rows[np.sort(np.random.default_rng(request.seed(split)).permutation(len(rows))[:n])]
