"""GAS: sensors exposed to ethylene and CO in air; from MAF's archive, or from the recording at UCI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.datasets.info import Info, Request, Splits, Variant

if TYPE_CHECKING:
    import numpy as np

DIM = 8
DROPPED = ("Time", "Meth", "Eth")
"""Columns of the recording before those of its sensors, as MAF names them (``Meth`` is the CO)."""
SENSORS = 16
CORRELATION = 0.98
SHARE = 0.25


def _published(request: Request) -> Splits:
    from bench.datasets.unpickle import frame_to_array, read_pickle
    from bench.errors import UserError

    path = request.raw("maf-gas")
    names, rows = frame_to_array(read_pickle(path, str(path)), str(path))
    if absent := [name for name in DROPPED if name not in names]:
        raise UserError(f"{path}: the frame has no column {absent[0]}; replace the file")
    return _steps(request, rows[:, [i for i, name in enumerate(names) if name not in DROPPED]], str(path))


def _rebuilt(request: Request) -> Splits:
    """A quarter of the rows in random order, as ``DataFrame.sample`` gave them to MAF: so the tail splits are random
    ones.
    """
    import numpy as np

    from bench.datasets.readers import TextTable

    path = request.raw("gas-text")
    rows = TextTable(path, separator=None).read([*range(len(DROPPED), len(DROPPED) + SENSORS)])
    order = np.random.default_rng(request.seed("share")).permutation(len(rows))
    return _steps(request, rows[order[: round(SHARE * len(rows))]], str(path))


def _sample(request: Request) -> Splits:
    """Raw rows of eight sensors, in hundredths, split already. They are not MAF's eight, so none is filtered out."""
    import numpy as np

    from bench.datasets.readers import read_arrays
    from bench.datasets.rows import finish, require_columns, z_score

    path = request.raw("gas-sample")
    parts = [require_columns(rows / 100, DIM, str(path)) for rows in read_arrays(path, "train", "valid", "test")]
    everything = np.concatenate(parts)
    return finish(request, Splits(*(z_score(rows, of=everything, ddof=1) for rows in parts)))


def _steps(request: Request, rows: np.ndarray, where: str) -> Splits:
    """MAF's loader: correlated sensors dropped, z-scored on all rows, those of the test too."""
    from bench.datasets.rows import finish, require_columns, tail_splits, z_score

    rows = require_columns(rows[:, uncorrelated(rows)], DIM, where)
    return finish(request, tail_splits(z_score(rows, of=rows, ddof=1)))


def uncorrelated(rows: np.ndarray) -> list[int]:
    """The columns left when, again and again, the first that correlates with another above 0.98 (signed) is dropped."""
    import numpy as np

    close = np.corrcoef(rows, rowvar=False) > CORRELATION
    np.fill_diagonal(close, False)
    kept = list(range(rows.shape[1]))
    while (correlated := close[np.ix_(kept, kept)].any(1)).any():
        del kept[int(correlated.argmax())]
    return kept


STEPS = (
    "MAF's: gas concentrations and time dropped; the first sensor that correlates above 0.98 dropped until none does; "
    "z-scored on all rows; the last tenth test, then validation"
)

DATASETS = (
    Info(
        name="gas",
        title="gas sensors exposed to ethylene and CO, 8 features",
        kind="tabular",
        shape=(DIM,),
        sizes=(852_174, 94_685, 105_206),
        reduced=(50_000, 5_000, 10_000),
        source="Fonollosa et al. 2015, UCI 322; steps of Papamakarios et al. 2017 (MAF)",
        licence="CC BY 4.0",
        variants=(
            Variant("published", _published, STEPS, ("maf-gas",), flags=("leak",)),
            Variant(
                "rebuilt",
                _rebuilt,
                f"a random quarter of the rows, in random order, of our own seed; then {STEPS}",
                ("gas-text",),
                flags=("rebuilt", "leak"),
            ),
            Variant(
                "sample",
                _sample,
                "random raw rows of eight sensors, which are not MAF's eight; z-scored on all rows, as published",
                ("gas-sample",),
                sizes=(10_000, 10_000, 10_000),
                flags=("leak",),
            ),
        ),
        hazards=(
            "standardised with the moments of all rows, those of the test too, as published",
            "rows are moments of one time series, split at random: test rows lie between training rows",
        ),
    ),
)
