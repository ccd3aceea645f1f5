"""The small real files of the tabular sets, where the mirror holds them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bench.datasets import describe
from bench.datasets.info import Request
from bench.datasets.loaders.power import _measures_and_time
from bench.datasets.preparation import mapped, prepare
from bench.datasets.raw.pins import read_pin
from bench.datasets.raw.store import Store
from bench.datasets.rows import rarely_lowest


@pytest.mark.parametrize(
    ("name", "sizes", "flags"),
    [
        ("power", (30_200, 3_355, 3_728), ["reduced"]),
        ("gas", (10_000, 10_000, 10_000), ["reduced", "leak"]),
        ("hepmass", (4_506, 500, 4_924), ["reduced"]),
        ("miniboone", (2_956, 328, 3_648), ["reduced"]),
    ],
)
def test_the_samples_in_the_mirror(mirror, tmp_path, name, sizes, flags):
    store = Store(tmp_path / "raw", mirror, variant="sample")
    out = prepare(name, store=store, out=tmp_path / name, seed=0)
    splits, meta = mapped(out), json.loads((out / "meta.json").read_text())
    assert tuple(map(len, splits)) == sizes
    assert meta["flags"] == flags
    assert splits.train.shape[1:] == describe(name).shape
    fitted = np.vstack([splits.train, splits.val, *([splits.test] if name == "gas" else [])])
    if name != "miniboone":  # whose rows were standardised with others
        assert np.abs(fitted.mean(0)).max() < 1e-5
        assert np.abs(fitted.std(0) - 1).max() < 1e-3


def test_the_time_of_power_in_the_mirror(mirror):
    """The first row is of 17:24, the next one of 17:25; column 7 is the minute, with less than one of noise."""
    data = _measures_and_time(
        Request("power", (1, 1, 1), 0, lambda pin: mirror / read_pin(pin).path), mirror / read_pin("power-sample").path
    )
    assert data.shape == (37_283, 8)
    assert data[0, :7].tolist() == [4.216, 0.418, 234.84, 18.4, 0.0, 1.0, 17.0]
    assert np.floor(data[:2, 7]).tolist() == [17 * 60 + 24, 17 * 60 + 25]


def test_mafs_filter_leaves_mafs_own_rows_alone(mirror):
    """The first rows of MAF's array before the z-scores, and the published rows after them, tell of one atom."""
    folder = mirror / "uci" / "miniboone"
    raw = np.load(folder / "maf_data_npy_first1523rows_raw.npy")
    held_out = np.vstack([np.load(mirror / read_pin(f"miniboone-maf-{part}").path) for part in ("val", "test")])
    assert rarely_lowest(raw).all()
    assert rarely_lowest(held_out).all()
    values, counts = np.unique(raw[:, 4], return_counts=True)
    assert values[counts.argmax()] == 0.0
    share = (held_out[:, 4] == -1.0694182215878598).mean()
    assert counts.max() / len(raw) == pytest.approx(share, abs=0.02)
    # (0 - mean) / std is where the z-scores put the atom: with the moments of 1,523 rows, nearly there.
    assert -raw[:, 4].mean() / raw[:, 4].std() == pytest.approx(-1.0694, abs=0.05)
