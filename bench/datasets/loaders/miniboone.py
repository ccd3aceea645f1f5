"""MINIBOONE from MAF's preprocessed validation and test rows; its training rows have no address of their own."""

from __future__ import annotations

from bench.datasets.info import Info, Request, Splits, Variant

COLUMNS = 43


def _build(request: Request) -> Splits:
    """Fit on 90 % of MAF's validation rows (a random split), validate on the rest, test on MAF's test rows."""
    import numpy as np

    from bench.datasets.readers import read_matrix

    rows, test = (read_matrix(request.raw(pin), COLUMNS).astype(np.float32) for pin in PINS)
    rows = rows[np.random.default_rng(request.seed("split")).permutation(len(rows))]
    held_out = len(rows) // 10
    return Splits(rows[held_out:], rows[:held_out], test)


PINS = ("miniboone-maf-val", "miniboone-maf-test")

DATASETS = (
    Info(
        name="miniboone",
        title="MiniBooNE particle identification, 43 features",
        kind="tabular",
        shape=(COLUMNS,),
        sizes=(29_556, 3_284, 3_648),
        source="Roe et al. 2005, UCI MiniBooNE; preprocessed by Papamakarios et al. 2017 (MAF)",
        licence="CC BY 4.0",
        variants=(
            Variant(
                "sample",
                _build,
                "MAF's, as published; fitted on 90 % of its validation rows",
                PINS,
                sizes=(2_956, 328, 3_648),
            ),
        ),
    ),
)
