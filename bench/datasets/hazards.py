"""What in a prepared data set makes its scores treacherous, found by a scan of the arrays themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from bench.datasets.info import Info, Splits

if TYPE_CHECKING:
    import numpy as np

REPEATS, SHARE = 5, 1e-3
"""A value is an atom if more rows than ``REPEATS`` hold it exactly (the filter of MAF's loaders) and this share does."""
CORRELATION = 0.98
"""The threshold of MAF's GAS loader."""
EXPLAINED = 0.999
"""A column is nearly collinear if the others explain this share of its variance linearly."""


@dataclass(frozen=True)
class Hazard:
    """One finding: ``columns`` count from 0; ``share`` is that of the rows concerned, where there is one."""

    kind: Literal["atom", "constant", "collinear", "duplicate", "overlap", "bounds"]
    text: str
    columns: tuple[int, ...] = ()
    share: float | None = None

    def to_json(self) -> dict:
        return asdict(self) | {"columns": list(self.columns)}


def scan(splits: Splits, info: Info) -> list[Hazard]:
    """Atoms, constant and nearly collinear columns, repeated rows, values out of range; empty if there are none.

    Atoms and collinearity are looked for where rows are vectors of reals.
    """
    found = [*_constant(splits, info), *_out_of_range(splits, info), *_repeated_rows(splits)]
    if info.levels is None and len(info.shape) == 1:
        found = [*_atoms(splits), *_collinear(splits.train), *found]
    return found


def _atoms(splits: Splits) -> Iterator[Hazard]:
    """Exact values that many rows share: the density has no upper bound there, so a score may be made of spikes."""
    import numpy as np

    columns = np.concatenate([rows.T for rows in splits], axis=1)
    rows = columns.shape[1]
    for index, column in enumerate(columns):
        ordered = np.sort(column)
        edges = np.flatnonzero(np.diff(ordered, prepend=np.nan, append=np.nan))
        runs = np.diff(edges)
        longest = int(runs.argmax())
        count, value = int(runs[longest]), ordered[edges[longest]]
        if REPEATS < count < rows and count >= SHARE * rows:
            text = f"column {index} holds one exact value ({value:.6g}) in {percent(count / rows)} of the rows"
            yield Hazard("atom", text, (index,), count / rows)


def _collinear(train: np.ndarray) -> Iterator[Hazard]:
    import numpy as np

    varying = np.flatnonzero(train.std(0, dtype=np.float64) > 0)
    if len(varying) < 2:
        return
    correlation = np.corrcoef(train[:, varying], rowvar=False, dtype=np.float64)
    pairs = np.argwhere(np.triu(np.abs(correlation) > CORRELATION, 1))
    if len(pairs):
        names = ", ".join(f"{varying[i]} and {varying[j]}" for i, j in pairs[:5]) + (", …" if len(pairs) > 5 else "")
        columns = tuple(int(varying[i]) for i in np.unique(pairs))
        yield Hazard("collinear", f"{_count(len(pairs), 'pair')} of columns with |r| > {CORRELATION}: {names}", columns)
    # 1 - R² of a column given the others is the inverse of the diagonal of the inverse correlation matrix.
    explained = 1 - 1 / np.diag(np.linalg.pinv(correlation, hermitian=True)).clip(1)
    columns = tuple(int(i) for i in varying[explained > EXPLAINED])
    if columns:
        names = ", ".join(map(str, columns))
        yield Hazard("collinear", f"linear in the other columns (R² > {EXPLAINED}): {names}", columns)


def _constant(splits: Splits, info: Info) -> Iterator[Hazard]:
    import numpy as np

    low = high = splits.train[0].ravel()
    for rows in splits:
        for block in _blocks(rows):
            low, high = np.minimum(low, block.min(0)), np.maximum(high, block.max(0))
    columns = tuple(int(i) for i in np.flatnonzero(low == high))
    if columns:
        where = f": {', '.join(map(str, columns))}" if len(columns) <= 10 else ""
        yield Hazard("constant", f"{len(columns)} of {low.size} columns never change{where}", columns)


def _out_of_range(splits: Splits, info: Info) -> Iterator[Hazard]:
    low, high = (0, info.levels - 1) if info.levels else info.bounds or (-float("inf"), float("inf"))
    total = sum(rows.size for rows in splits)
    outside = sum(int(((block < low) | (block > high)).sum()) for rows in splits for block in _blocks(rows))
    if outside:
        text = f"{_count(outside, 'value')} of {total:,} outside the stated range {low:g} to {high:g}"
        yield Hazard("bounds", text, share=outside / total)


def _repeated_rows(splits: Splits) -> Iterator[Hazard]:
    """Rows that occur twice in train, and rows of val and test that occur in train."""
    train = list(_digests(splits.train))
    known = set(train)
    if repeated := len(train) - len(known):
        share = repeated / len(train)
        yield Hazard("duplicate", f"{_count(repeated, 'row')} of train ({percent(share)}) repeat another", share=share)
    for split, rows in (("val", splits.val), ("test", splits.test)):
        if shared := sum(digest in known for digest in _digests(rows)):
            share = shared / len(rows)
            text = f"{_count(shared, 'row')} of {split} ({percent(share)}) occur in train"
            yield Hazard("overlap", text, share=share)


def _digests(rows: np.ndarray) -> Iterator[bytes]:
    """A hash of each row, short enough that two million of them fit in memory."""
    for block in _blocks(rows):
        for row in block:
            yield hashlib.blake2b(row.tobytes(), digest_size=12).digest()


def _blocks(rows: np.ndarray, size: int = 10_000) -> Iterator[np.ndarray]:
    """Flat rows, so many at a time."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size].reshape(len(rows[start : start + size]), -1)


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.3g} %"
