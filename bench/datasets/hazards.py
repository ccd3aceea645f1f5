"""What in a prepared data set makes its scores treacherous, found by a scan of the arrays themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from bench.datasets.info import Info, Splits

if TYPE_CHECKING:
    import numpy as np

REPEATS, SHARE = 5, 1e-3
"""A value is an atom if more than ``REPEATS`` rows hold it exactly (the filter of MAF's loaders), and this share."""
TIED = 0.5
"""A column is discrete if, without its most frequent value, this share of rows has a value that more than ``REPEATS``
rows hold."""
CORRELATION = 0.98
"""The threshold of MAF's GAS loader."""
EXPLAINED = 0.999
"""A column is nearly collinear if the others explain this share of its variance linearly."""
BLOCK = 1 << 24
"""Bytes that are looked at together: the arrays may be larger than the memory."""

Kind = Literal["atom", "discrete", "collinear", "constant", "bounds", "duplicate", "overlap"]


@dataclass(frozen=True)
class Hazard:
    """One finding: ``columns`` count from 0; ``share`` is that of the rows (``bounds``: values) concerned."""

    kind: Kind
    text: str
    columns: tuple[int, ...] = ()
    share: float | None = None

    def to_json(self) -> dict:
        return asdict(self) | {"columns": list(self.columns)}


def scan(splits: Splits, info: Info) -> list[Hazard]:
    """Atoms, constant and nearly collinear columns, repeated rows, values out of range; empty if there are none.

    Atoms and collinearity are looked for where rows are vectors of reals. The rows are finite numbers.
    """
    found = [*_constant_and_out_of_range(splits, info), *_repeated_rows(splits)]
    if info.levels is None and len(info.shape) == 1:
        found = [*_atoms(splits), *_collinear(splits.train), *found]
    return found


def _atoms(splits: Splits) -> Iterator[Hazard]:
    """Exact values that many rows share: the density has no upper bound there, so a score may be made of spikes."""
    import numpy as np

    total = sum(map(len, splits))
    for index, column in enumerate(_columns(splits)):
        column.sort()
        edges = np.flatnonzero(np.concatenate(([True], column[1:] != column[:-1], [True])))
        runs = np.diff(edges)
        longest = runs.argmax()
        count = int(runs[longest])
        if REPEATS < count < total and count >= SHARE * total:
            text = f"column {index} holds one exact value ({column[edges[longest]]:.6g}) in {_part(count, total)}"
            yield Hazard("atom", text, (index,), count / total)
        tied = int(runs[runs > REPEATS].sum())
        if tied - count >= TIED * total:
            text = f"column {index} takes {len(runs):,} values in {total:,} rows"
            yield Hazard("discrete", text, (index,), tied / total)


def _columns(splits: Splits) -> np.ndarray:
    """The rows of all splits as (columns, rows), each column in one piece."""
    import numpy as np

    columns = np.empty((splits.train.shape[1], sum(map(len, splits))), splits.train.dtype)
    start = 0
    for rows in splits:
        for block in _blocks(rows):
            columns[:, start : start + len(block)] = block.T
            start += len(block)
    return columns


def _collinear(train: np.ndarray) -> Iterator[Hazard]:
    """Columns that follow from others: the density is degenerate, or nearly so."""
    import numpy as np

    varying = np.flatnonzero(train.min(0) != train.max(0))
    if len(varying) < 2:
        return
    correlation = _correlation(train, varying)
    pairs = np.argwhere(np.triu(np.abs(correlation) > CORRELATION, 1))
    if len(pairs):
        names = _few([f"{varying[i]} and {varying[j]}" for i, j in pairs])
        text = f"{_count(len(pairs), 'pair')} of columns with |r| > {CORRELATION}: {names}"
        yield Hazard("collinear", text, tuple(varying[np.unique(pairs)].tolist()))
    columns = tuple(varying[_explained(correlation, len(train)) > EXPLAINED].tolist())
    if columns:
        yield Hazard("collinear", f"linear in the other columns (R² > {EXPLAINED}): {_few(columns)}", columns)


def _correlation(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Correlation matrix of some columns, none of them constant, in float64."""
    import numpy as np

    mean = rows.mean(0, dtype=np.float64)
    products = np.zeros((rows.shape[1], rows.shape[1]))
    for block in _blocks(rows):
        centred = block - mean
        products += centred.T @ centred
    scale = np.sqrt(np.diag(products)[columns])
    return products[np.ix_(columns, columns)] / np.outer(scale, scale)


def _explained(correlation: np.ndarray, rows: int) -> np.ndarray:
    """Adjusted R² of each column given the others: 1 - (1 - R²)(n - 1)/(n - d), where 1/(1 - R²) is the diagonal of
    the inverse correlation matrix; zeros if there are too few rows to tell.
    """
    import numpy as np

    dim = len(correlation)
    if rows <= dim:
        return np.zeros(dim)
    values, vectors = np.linalg.eigh(correlation)
    # An exact dependence has eigenvalue zero up to rounding: kept away from it, its columns stand out all the same.
    inverse = (vectors**2 / values.clip(1e-12)).sum(1)
    return 1 - (rows - 1) / (rows - dim) / inverse


def _constant_and_out_of_range(splits: Splits, info: Info) -> Iterator[Hazard]:
    import numpy as np

    blocks = [(block.min(0), block.max(0)) for rows in splits for block in _blocks(rows)]
    low, high = (pick(each, axis=0) for pick, each in zip((np.min, np.max), zip(*blocks, strict=True), strict=True))
    columns = tuple(np.flatnonzero(low == high).tolist())
    if columns:
        yield Hazard("constant", f"constant columns: {len(columns):,} of {low.size:,} ({_few(columns)})", columns)
    least, most = (0, info.levels - 1) if info.levels else info.bounds or (-np.inf, np.inf)
    if low.min() < least or high.max() > most:
        total = sum(rows.size for rows in splits)
        outside = sum(int(((block < least) | (block > most)).sum()) for rows in splits for block in _blocks(rows))
        text = f"{_count(outside, 'value')} of {total:,} outside the stated range {least:g} to {most:g}"
        yield Hazard("bounds", text, tuple(np.flatnonzero((low < least) | (high > most)).tolist()), outside / total)


def _repeated_rows(splits: Splits) -> Iterator[Hazard]:
    """Rows that occur twice in train, and rows of val and test that occur in train."""
    import numpy as np

    train = np.sort(_hashes(splits.train))
    if repeated := int((train[1:] == train[:-1]).sum()):
        text = f"train repeats an earlier row of its own in {_part(repeated, len(train))}"
        yield Hazard("duplicate", text, share=repeated / len(train))
    for split, rows in (("val", splits.val), ("test", splits.test)):
        if shared := int(np.isin(_hashes(rows), train).sum()):
            yield Hazard("overlap", f"{split} repeats train in {_part(shared, len(rows))}", share=shared / len(rows))


def _hashes(rows: np.ndarray) -> np.ndarray:
    """A 64-bit hash of each row: that any two different ones of two million share it has a probability of 1e-7."""
    import numpy as np

    hashes = bytearray()
    for block in _blocks(rows):
        if block.dtype.kind == "f":
            block = block + 0.0  # -0.0 and 0.0 are one value
        for row in np.ascontiguousarray(block):
            hashes += hashlib.blake2b(row, digest_size=8).digest()
    return np.frombuffer(hashes, np.uint64)


def _blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Flat rows, ``BLOCK`` bytes at a time."""
    step = max(1, BLOCK // rows[:1].nbytes)
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        yield block.reshape(len(block), -1)


def _part(count: int, total: int) -> str:
    """``652 of 6,932 rows (9.4 %)``"""
    share = 100 * count / total
    return f"{count:,} of {total:,} rows ({share:.2g} %)" if share < 99.5 else f"{count:,} of {total:,} rows"


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def _few(names: Sequence[object], most: int = 8) -> str:
    more = [f"{len(names) - most:,} more"] if len(names) > most else []
    return ", ".join([*map(str, names[:most]), *more])
