"""HEPMASS: simulated collisions with a particle of mass 1000; from MAF's archive, or from the tables at UCI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.datasets.info import Info, Request, Splits, Variant

if TYPE_CHECKING:
    import numpy as np

DIM = 21
FIRST_TENTH = (700_000, 350_000)
"""Rows of the train and of the test file of 7 and 3.5 million that MAF took, by its loader's comment.

The signal rows as published, 350,136 and 174,987, are 50.02 % and 50.00 % of them; half of all rows are signal.
"""


def _published(request: Request) -> Splits:
    return _steps(request, request.raw("maf-hepmass-train"), request.raw("maf-hepmass-test"))


def _rebuilt(request: Request) -> Splits:
    return _steps(request, request.raw("hepmass-train"), request.raw("hepmass-test"), FIRST_TENTH)


def _steps(request: Request, train: Path, test: Path, rows: tuple[int | None, int | None] = (None, None)) -> Splits:
    """MAF's loader: signal rows, z-scored on train and validation, features with a repeated smallest value dropped."""
    from bench.datasets.rows import rarely_lowest, require_columns, z_score
    from bench.errors import UserError

    fitted, tested = _signal(train, rows[0]), _signal(test, rows[1])[:, :-1]  # the test file names one column more
    if fitted.shape[1] != tested.shape[1]:
        raise UserError(f"{test}: {tested.shape[1]} features but its last, {fitted.shape[1]} in {train}; replace one")
    tested, fitted = z_score(tested, fitted, ddof=1), z_score(fitted, fitted, ddof=1)
    kept = rarely_lowest(fitted)
    fitted, tested = require_columns(fitted[:, kept], DIM, str(train)), tested[:, kept]
    return _split(request, fitted, tested)


def _signal(path: Path, rows: int | None) -> np.ndarray:
    """The features of the rows with label 1: as many as the header names, though a row may hold more.

    MAF's 21 are 26 less the five discrete ones, though there are 27 (m_wwbb is the last); so the header of the train
    file must name one too few, as the column that MAF drops from the test file says too.
    """
    import numpy as np

    from bench.datasets.readers import TextTable

    table = TextTable(path)
    columns = list(range(len(table.names())))
    return np.concatenate([block[block[:, 0] == 1, 1:] for block in table.blocks(columns, rows)])


def _sample(request: Request) -> Splits:
    """Standardised signal rows without the five discrete features; without the last one, which MAF's do not have.

    Five thousand rows repeat no smallest value, so the filter of repeated values would find nothing in them.
    """
    from bench.datasets.readers import read_matrix

    train, test = (read_matrix(request.raw(pin), DIM + 1)[:, :DIM] for pin in SAMPLE)
    return _split(request, train, test)


def _split(request: Request, fitted: np.ndarray, tested: np.ndarray) -> Splits:
    """The last tenth of the rows that are fitted on for validation."""
    from bench.datasets.rows import finish, last_tenth

    return finish(request, Splits(*last_tenth(fitted), tested))


STEPS = (
    "MAF's: signal rows; z-scored on train and validation; features dropped whose smallest value occurs more than 5 "
    "times; the last tenth validation"
)
SAMPLE = ("hepmass-sample-train", "hepmass-sample-test")

DATASETS = (
    Info(
        name="hepmass",
        title="simulated particle collisions, 21 features",
        kind="tabular",
        shape=(DIM,),
        sizes=(315_123, 35_013, 174_987),
        reduced=(50_000, 5_000, 10_000),
        source="Baldi et al. 2016, UCI HEPMASS 347; steps of Papamakarios et al. 2017 (MAF)",
        licence="CC BY 4.0",
        variants=(
            Variant("published", _published, STEPS, ("maf-hepmass-train", "maf-hepmass-test")),
            Variant(
                "rebuilt",
                _rebuilt,
                f"the first tenth of the rows of either file; then {STEPS}",
                ("hepmass-train", "hepmass-test"),
                flags=("rebuilt",),
            ),
            Variant(
                "sample",
                _sample,
                "standardised signal rows without the discrete features and the last; the last tenth validation",
                SAMPLE,
                sizes=(4_506, 500, 4_924),
            ),
        ),
    ),
)
