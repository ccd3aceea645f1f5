"""POWER: one household's electric power, a row a minute; from MAF's archive, or from the table at UCI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.datasets.info import Info, Request, Splits, Variant

if TYPE_CHECKING:
    import numpy as np

MEASURES = (
    "Global_active_power", "Global_reactive_power", "Voltage", "Global_intensity",
    "Sub_metering_1", "Sub_metering_2", "Sub_metering_3",
)  # fmt: skip
"""The columns of MAF's array, before that of the time of day."""


def _published(request: Request) -> Splits:
    from bench.datasets.readers import read_matrix

    return _steps(request, read_matrix(request.raw("maf-power"), len(MEASURES) + 1))


def _rebuilt(request: Request) -> Splits:
    return _steps(request, _measures_and_time(request, request.raw("power-text")))


def _sample(request: Request) -> Splits:
    return _steps(request, _measures_and_time(request, request.raw("power-sample")))


def _steps(request: Request, data: np.ndarray) -> Splits:
    """MAF's loader: shuffled, two columns dropped, noise as wide as the resolution of the meter, z-scored.

    The noise is drawn in the order of the published code. That of the time is in the data already.
    """
    import numpy as np

    from bench.datasets.rows import finish, last_tenth, tail_splits, z_score

    rng = np.random.RandomState(42)
    rows = data[rng.permutation(len(data))]
    rows = np.delete(rows, [MEASURES.index("Global_reactive_power"), MEASURES.index("Global_intensity")], 1)
    rows[:, 1] += 0.01 * rng.rand(len(rows))  # voltage
    rows[:, 0] += 0.001 * rng.rand(len(rows))  # global active power
    rows[:, 2:5] += rng.rand(len(rows), 3)  # sub-meterings
    fitted, _ = last_tenth(rows)
    return finish(request, tail_splits(z_score(rows, of=fitted, ddof=0)))


def _measures_and_time(request: Request, path: Path) -> np.ndarray:
    """The rows without missing values; last the time of day in minutes, plus U[0,1) noise (MAF's appendix)."""
    import numpy as np

    from bench.datasets.readers import TextTable

    table = TextTable(path, ";", missing="?", convert={1: _minutes})
    data = np.roll(table.read(table.positions("Time", *MEASURES)), -1, 1)
    data[:, -1] += np.random.default_rng(request.seed("time")).random(len(data))
    return data


def _minutes(time: str) -> float:
    """Minutes since midnight of hh:mm:ss."""
    hours, minutes, _ = map(int, time.split(":"))
    return 60 * hours + minutes


STEPS = (
    "MAF's: shuffled (seed 42); reactive power and intensity dropped; uniform noise as wide as the meter's resolution; "
    "the last tenth test, then validation; z-scored on train and validation"
)

DATASETS = (
    Info(
        name="power",
        title="electric power of one household, 6 features",
        kind="tabular",
        shape=(6,),
        sizes=(1_659_917, 184_435, 204_928),
        reduced=(50_000, 5_000, 10_000),
        source="Hebrail and Berard 2012, UCI 235; steps of Papamakarios et al. 2017 (MAF)",
        licence="CC BY 4.0",
        variants=(
            Variant("published", _published, STEPS, ("maf-power",)),
            Variant(
                "rebuilt",
                _rebuilt,
                f"time of day in minutes + U[0,1) noise of our own seed; then {STEPS}",
                ("power-text",),
                flags=("rebuilt",),
            ),
            Variant(
                "sample",
                _sample,
                f"the first weeks; time of day in minutes + U[0,1) noise of our own seed; then {STEPS}",
                ("power-sample",),
                sizes=(30_200, 3_355, 3_728),
            ),
        ),
        hazards=(
            "rows are minutes of one time series, split at random: test rows lie between training rows",
            "the noise is as wide as the meter's resolution, so scores depend on its width",
        ),
    ),
)
