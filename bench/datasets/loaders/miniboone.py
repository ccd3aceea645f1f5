"""MINIBOONE: signal events of the MiniBooNE experiment; from MAF's archive, from UCI, or MAF's held-out rows alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.datasets.info import Info, Request, Splits, Variant, without_columns

if TYPE_CHECKING:
    import numpy as np

COLUMNS = 43
RAW_COLUMNS = 50
OUTLIER = -100


def _published(request: Request) -> Splits:
    from bench.datasets.readers import read_matrix

    return _steps(request, read_matrix(request.raw("maf-miniboone"), COLUMNS))


def _rebuilt(request: Request) -> Splits:
    """The signal rows come first; the first line says how many they are."""
    from bench.datasets.readers import TextTable
    from bench.datasets.rows import rarely_lowest, require_columns
    from bench.errors import UserError

    path = request.raw("miniboone-text")
    table = TextTable(path, separator=None)
    try:
        signal, _ = map(int, table.names())
    except ValueError as error:
        raise UserError(f"{path}, line 1: expected the counts of signal and background; replace the file") from error
    rows = table.read([*range(RAW_COLUMNS)], signal)
    rows = rows[rows[:, 0] >= OUTLIER]
    return _steps(request, require_columns(rows[:, rarely_lowest(rows)], COLUMNS, str(path)))


def _steps(request: Request, rows: np.ndarray) -> Splits:
    """MAF's loader: split, z-scored on train and validation."""
    from bench.datasets.rows import finish, last_tenth, tail_splits, z_score

    fitted, _ = last_tenth(rows)
    return finish(request, tail_splits(z_score(rows, of=fitted, ddof=0)))


def _sample(request: Request) -> Splits:
    """Fit on 90 % of MAF's validation rows (a random split), validate on the rest, test on MAF's test rows."""
    import numpy as np

    from bench.datasets.readers import read_matrix

    rows, test = (read_matrix(request.raw(pin), COLUMNS).astype(np.float32) for pin in HELD_OUT)
    rows = rows[np.random.default_rng(request.seed("split")).permutation(len(rows))]
    held_out = len(rows) // 10
    return Splits(rows[held_out:], rows[:held_out], test)


STEPS = "the last tenth test, then validation; z-scored on train and validation"
HELD_OUT = ("miniboone-maf-val", "miniboone-maf-test")

MINIBOONE = Info(
    name="miniboone",
    title="MiniBooNE particle identification, 43 features",
    kind="tabular",
    shape=(COLUMNS,),
    sizes=(29_556, 3_284, 3_648),
    source="Roe et al. 2005, UCI MiniBooNE; preprocessed by Papamakarios et al. 2017 (MAF)",
    licence="CC BY 4.0",
    variants=(
        Variant("published", _published, f"MAF's filtered signal rows; {STEPS}", ("maf-miniboone",)),
        Variant(
            "rebuilt",
            _rebuilt,
            "signal rows; those with column 0 below -100 dropped; features dropped whose smallest value occurs more "
            f"than 5 times; {STEPS}",
            ("miniboone-text",),
            flags=("rebuilt",),
        ),
        Variant(
            "sample",
            _sample,
            "MAF's, as published; fitted on 90 % of its validation rows",
            HELD_OUT,
            sizes=(2_956, 328, 3_648),
        ),
    ),
)

ATOMS = (4,)
"""The column that holds one exact value in 9 % of the rows."""

DATASETS = (MINIBOONE, without_columns(MINIBOONE, ATOMS))
