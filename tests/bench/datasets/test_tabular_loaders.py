"""Each tabular set, made from small files in the original formats, against the published steps written out plainly."""

from __future__ import annotations

import gzip
import json
import lzma
import statistics
import tarfile
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from bench.datasets import describe
from bench.datasets.info import Request, Splits
from bench.datasets.loaders import gas, hepmass
from bench.datasets.preparation import mapped, prepare
from bench.datasets.raw.pins import read_pin
from bench.datasets.raw.store import Store
from bench.errors import UserError

FIVE = ("power", "gas", "hepmass", "miniboone", "bsds300")
EVERYTHING = (10**7, 10**7, 10**7)


def build(name: str, variant: str, folder: Path, sizes: tuple[int, int, int] = EVERYTHING) -> Splits:
    (found,) = (v for v in describe(name).variants if v.name == variant)
    return found.build(request(name, folder, sizes))


def request(name: str, folder: Path, sizes: tuple[int, int, int] = EVERYTHING) -> Request:
    return Request(name, sizes, 0, lambda pin: at(folder, pin))


def at(folder: Path, pin: str) -> Path:
    return folder / read_pin(pin).path.name


def tails(rows: list) -> tuple[list, list, list]:
    test = int(0.1 * len(rows))
    rows, test = rows[:-test], rows[-test:]
    val = int(0.1 * len(rows))
    return rows[:-val], rows[-val:], test


def scaled(rows: list, of: list, deviation: object) -> list:
    """z-scores, column by column, with the standard library."""
    columns = [(statistics.fmean(column), deviation(column)) for column in zip(*of, strict=True)]
    return [[(x - mean) / std for x, (mean, std) in zip(row, columns, strict=True)] for row in rows]


def agree(found: Splits, expected: tuple) -> None:
    for rows, plain in zip(found, expected, strict=True):
        assert rows.dtype == np.float32
        np.testing.assert_allclose(rows, np.array(plain), rtol=1e-6, atol=1e-6)


# POWER ----------------------------------------------------------------------------------------------------------------


def power_plainly(data: np.ndarray) -> tuple[list, list, list]:
    rng = np.random.RandomState(42)
    data = data.copy()
    rng.shuffle(data)
    n = len(data)
    voltage, active, meters = 0.01 * rng.rand(n, 1), 0.001 * rng.rand(n, 1), rng.rand(n, 3)
    rows = []
    for i, (gap, _, volt, _, *sub, time) in enumerate(data.tolist()):
        rows.append(
            [gap + active[i, 0], volt + voltage[i, 0], *(s + e for s, e in zip(sub, meters[i], strict=True)), time]
        )
    train, val, test = tails(rows)
    return tuple(scaled(part, train + val, statistics.pstdev) for part in (train, val, test))


def power_text(n: int, rng: np.random.Generator) -> tuple[str, list[list[float]]]:
    """The table at UCI, and its rows without missing values, with the time of day in minutes."""
    lines = [
        "Date;Time;Global_active_power;Global_reactive_power;Voltage;Global_intensity;"
        "Sub_metering_1;Sub_metering_2;Sub_metering_3"
    ]
    rows = []
    for i in range(n):
        minute = (1044 + 7 * i) % 1440
        time = f"{16 + i // 300}/12/2006;{minute // 60:02d}:{minute % 60:02d}:00"
        if i % 29 == 3:
            lines.append(f"{time};?;?;?;?;?;?;")
            continue
        row = [*rng.uniform(0, 5, 2).round(3), rng.uniform(230, 240), rng.uniform(0, 20), *rng.integers(0, 40, 3)]
        cells = [f"{value:.3f}" for value in row]
        lines.append(f"{time};{';'.join(cells)}" + " " * (i == 0))
        rows.append([*map(float, cells), float(minute)])
    return "\r\n".join(lines) + "\r\n", rows


def test_power_published(tmp_path):
    data = np.random.default_rng(0).random((317, 8)) * [5, 1, 240, 20, 40, 40, 40, 1440]
    np.save(at(tmp_path, "maf-power"), data)
    agree(build("power", "published", tmp_path), power_plainly(data))


@pytest.mark.parametrize(("variant", "pin"), [("rebuilt", "power-text"), ("sample", "power-sample")])
def test_power_from_its_text(tmp_path, variant, pin):
    text, rows = power_text(341, np.random.default_rng(1))
    path = at(tmp_path, pin)
    path.write_bytes(lzma.compress(text.encode()) if path.suffix == ".xz" else text.encode())
    noise = np.random.default_rng(request("power", tmp_path).seed("time")).random(len(rows))
    agree(build("power", variant, tmp_path), power_plainly(np.array(rows) + noise[:, None] * ([0] * 7 + [1])))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Voltage", "Volts", "line 1: unknown column 'Voltage'"),
        ("17:24:00", "17h24", "line 2, column 1 .*'17h24' where a number should be"),
        ("\r\n16/12/2006;17:52:00;", "\r\n16/12/2006;17:52:00;x", "line 6, column 2 .*'x.* where a number should be"),
    ],
)
def test_a_broken_power_text_is_one_line(tmp_path, old, new, message):
    text, _ = power_text(20, np.random.default_rng(1))
    text = text.replace(";?;?;?;?;?;?;", ";1;1;1;1;1;1;1")
    assert old in text
    at(tmp_path, "power-text").write_text(text.replace(old, new))
    with pytest.raises(UserError, match=message):
        build("power", "rebuilt", tmp_path)


# GAS ------------------------------------------------------------------------------------------------------------------


def sensors(n: int) -> np.ndarray:
    """16 sensors, of which the filter leaves 8: chains of copies, and an opposite, which is no reason to go."""
    rng = np.random.default_rng(2)
    free = rng.normal(size=(n, 8))
    free[:, 1] = -free[:, 0] + 0.01 * rng.normal(size=n)
    copies = free[:, [0, 0, 1, 3, 3, 3, 6, 7]] + 0.02 * rng.normal(size=(n, 8))
    return (1000 * np.hstack([free, copies])[:, rng.permutation(16)]).round(2)


def gas_plainly(rows: list[list[float]]) -> tuple[list, list, list]:
    columns = [list(column) for column in zip(*rows, strict=True)]
    while True:
        for i, one in enumerate(columns):
            if any(statistics.correlation(one, other) > 0.98 for j, other in enumerate(columns) if j != i):
                del columns[i]
                break
        else:
            break
    rows = [list(row) for row in zip(*columns, strict=True)]
    return tails(scaled(rows, rows, statistics.stdev))


@pytest.mark.parametrize("protocol", [2, 5])
def test_gas_published(tmp_path, protocol):
    rows = sensors(230)
    names = [*(f"R{i}" for i in range(9)), "Meth", *(f"R{i}" for i in range(9, 16)), "Eth", "Time"]
    frame = pd.DataFrame(np.insert(rows, [9, 16, 16], 7.0, 1), columns=names).sample(frac=1, random_state=0)
    frame.to_pickle(at(tmp_path, "maf-gas"), protocol=protocol)
    expected = gas_plainly(frame.drop(columns=["Meth", "Eth", "Time"]).to_numpy().tolist())
    assert len(expected[0][0]) == 8
    agree(build("gas", "published", tmp_path), expected)


def test_gas_rebuilt_takes_a_quarter_in_random_order(tmp_path):
    rows = sensors(1003)
    lines = ["Time (seconds), CO conc (ppm), Ethylene conc (ppm), sensor readings (16 channels)"]
    lines += [f"{i / 100:.2f}   0.00   {i % 3}.00   " + "   ".join(f"{x:.2f}" for x in r) for i, r in enumerate(rows)]
    at(tmp_path, "gas-text").write_text("\n".join(lines) + "\n")
    order = np.random.default_rng(request("gas", tmp_path).seed("share")).permutation(len(rows))
    agree(build("gas", "rebuilt", tmp_path), gas_plainly([rows[i].tolist() for i in order[:251]]))


def test_gas_sample_is_in_hundredths(tmp_path):
    parts = np.random.default_rng(3).integers(-10_000, 10**6, (3, 40, 8), np.int32)
    np.savez_compressed(at(tmp_path, "gas-sample"), train=parts[0], valid=parts[1], test=parts[2])
    rows = [[x / 100 for x in row] for row in np.vstack(parts).tolist()]
    everything = scaled(rows, rows, statistics.stdev)
    agree(build("gas", "sample", tmp_path), (everything[:40], everything[40:80], everything[80:]))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["Time", "Meth", "R0"], "the frame has no column Eth"),
        (["Time", "Meth", "Eth", "R0", "R1"], "2 columns are left"),
    ],
)
def test_a_gas_frame_with_other_columns_is_one_line(tmp_path, columns, message):
    rows = np.random.default_rng(0).random((30, len(columns)))
    pd.DataFrame(rows, columns=columns).to_pickle(at(tmp_path, "maf-gas"))
    with pytest.raises(UserError, match=message):
        build("gas", "published", tmp_path)


def test_a_chain_of_correlated_columns_goes_from_the_front():
    rng = np.random.default_rng(0)
    x = rng.normal(size=500)
    rows = np.column_stack([x, rng.normal(size=500), x + 0.01 * rng.normal(size=500), -x, x])
    assert gas.uncorrelated(rows) == [1, 3, 4]


# HEPMASS --------------------------------------------------------------------------------------------------------------

DISCRETE = (5, 9, 13, 17, 21)
NAMED = 26


def collisions(n: int, seed: int) -> np.ndarray:
    """Label and 27 features, five of them discrete. In two others the smallest value occurs five times, or another
    value often: both are no reason to go.
    """
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, 28)).round(6)
    rows[:, 0] = rng.random(n) < 0.5
    for column in DISCRETE:
        rows[:, 1 + column] = rng.integers(0, 3, n)
    signal = np.flatnonzero(rows[:, 0])
    rows[signal[10:15], 1 + 3] = -9.0
    rows[signal[::4], 1 + 7] = 0.25
    return rows


def hepmass_files(folder: Path, pins: tuple[str, str], n: tuple[int, int]) -> list[np.ndarray]:
    """As at UCI: each row of both files has 27 features; the header of the train file names but 26 of them."""
    found = [collisions(rows, seed) for seed, rows in enumerate(n)]
    for rows, pin, named in zip(found, pins, (NAMED, NAMED + 1), strict=True):
        header = ",".join(["# label", *(f"f{i}" for i in range(named))])
        text = "\n".join([header, *(",".join(f"{x:.18e}" for x in row) for row in rows)]) + "\n"
        path = at(folder, pin)
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return found


def hepmass_plainly(train: np.ndarray, test: np.ndarray) -> tuple[list, list, list]:
    train, test = ([row[1 : 1 + NAMED] for row in rows.tolist() if row[0] == 1] for rows in (train, test))
    test, train = scaled(test, train, statistics.stdev), scaled(train, train, statistics.stdev)
    kept = [i for i, column in enumerate(zip(*train, strict=True)) if sorted(Counter(column).items())[0][1] <= 5]
    assert kept == [i for i in range(NAMED) if i not in DISCRETE]
    train, test = ([[row[i] for i in kept] for row in rows] for rows in (train, test))
    val = int(0.1 * len(train))
    return train[:-val], train[-val:], test


def test_hepmass_published(tmp_path):
    files = hepmass_files(tmp_path, ("maf-hepmass-train", "maf-hepmass-test"), (243, 121))
    agree(build("hepmass", "published", tmp_path), hepmass_plainly(*files))


def test_hepmass_rebuilt_reads_the_first_tenth(tmp_path, monkeypatch):
    monkeypatch.setattr(hepmass, "FIRST_TENTH", (200, 100))
    train, test = hepmass_files(tmp_path, ("hepmass-train", "hepmass-test"), (243, 121))
    agree(build("hepmass", "rebuilt", tmp_path), hepmass_plainly(train[:200], test[:100]))


def test_hepmass_sample(tmp_path):
    rows = np.random.default_rng(0).normal(size=(53, 22))
    for pin, part in zip(hepmass.SAMPLE, (rows, rows[:9]), strict=True):
        np.save(at(tmp_path, pin), part)
    agree(build("hepmass", "sample", tmp_path), (rows[:48, :21], rows[48:, :21], rows[:9, :21]))


def test_hepmass_files_that_do_not_fit_together_are_one_line(tmp_path):
    hepmass_files(tmp_path, ("hepmass-train", "hepmass-test"), (60, 40))
    at(tmp_path, "hepmass-test").write_bytes(at(tmp_path, "hepmass-train").read_bytes())
    with pytest.raises(UserError, match=r"test.csv.gz: 25 features but its last, 26 in .*train.csv.gz; replace one$"):
        build("hepmass", "rebuilt", tmp_path)


# MINIBOONE ------------------------------------------------------------------------------------------------------------


def events(n: int) -> np.ndarray:
    """50 columns, of which 7 repeat their smallest value 6 times; an atom in the middle of a column stays."""
    rows = np.random.default_rng(4).uniform(0, 9, (n, 50)).round(6)
    rows[5:11, 3:10] = -1.0
    rows[::7, 20] = 4.5
    rows[[13, 70], 0] = -999.0
    rows[14, 0] = -100.0
    return rows


def miniboone_plainly(data: list[list[float]]) -> tuple[list, list, list]:
    train, val, test = tails(data)
    return tuple(scaled(part, train + val, statistics.pstdev) for part in (train, val, test))


def test_miniboone_rebuilt(tmp_path):
    rows, signal = events(400), 257
    lines = [f" {signal}  {len(rows) - signal}", *("  " + "  ".join(f"{x: .6e}" for x in row) for row in rows)]
    at(tmp_path, "miniboone-text").write_text("\n".join(lines) + "\n")
    data = [row for row in rows[:signal].tolist() if not row[0] < -100]
    kept = [i for i, column in enumerate(zip(*data, strict=True)) if sorted(Counter(column).items())[0][1] <= 5]
    assert kept == [i for i in range(50) if i not in range(3, 10)]
    data = [[row[i] for i in kept] for row in data]
    agree(build("miniboone", "rebuilt", tmp_path), miniboone_plainly(data))


def test_miniboone_published_and_without_its_atom(tmp_path):
    data = np.random.default_rng(5).normal(3, 2, (151, 43))
    np.save(at(tmp_path, "maf-miniboone"), data)
    expected = miniboone_plainly(data.tolist())
    agree(build("miniboone", "published", tmp_path), expected)
    without = tuple(np.delete(np.array(part), 4, 1) for part in expected)
    agree(build("miniboone-without-column-4", "published", tmp_path), without)


@pytest.mark.parametrize("first", ["", "36499", "a b", "1 2 3"])
def test_a_miniboone_text_without_its_counts_is_one_line(tmp_path, first):
    at(tmp_path, "miniboone-text").write_text(f"{first}\n" + "  1.0" * 50 + "\n")
    with pytest.raises(UserError, match="line 1: expected the counts"):
        build("miniboone", "rebuilt", tmp_path)


# BSDS300 --------------------------------------------------------------------------------------------------------------


def test_bsds300_published(tmp_path):
    arrays = {
        name: np.random.default_rng(n).normal(size=(n, 63))
        for n, name in ((9, "train"), (4, "validation"), (5, "test"))
    }
    with h5py.File(at(tmp_path, "maf-bsds300"), "w") as file:
        for name, rows in arrays.items():
            file[name] = rows
    found = build("bsds300", "published", tmp_path)
    for rows, expected in zip(found, arrays.values(), strict=True):
        assert rows.dtype == np.float32
        assert (rows == expected.astype(np.float32)).all()


def test_a_bsds300_file_with_other_columns_is_one_line(tmp_path):
    with h5py.File(at(tmp_path, "maf-bsds300"), "w") as file:
        for name in ("train", "validation", "test"):
            file[name] = np.zeros((3, 64))
    with pytest.raises(UserError, match="64 columns are left, expected 63"):
        build("bsds300", "published", tmp_path)


# All five -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FIVE)
def test_the_variants_and_their_order(name):
    variants = describe(name).variants
    assert [v.name for v in variants] == ["published", "rebuilt"] + ["sample"] * (name != "bsds300")
    assert all(("rebuilt" in v.flags) == (v.name == "rebuilt") for v in variants)
    assert all(("leak" in v.flags) == (name == "gas") for v in variants)
    for variant in variants:
        for pin in map(read_pin, variant.pins):
            assert pin.digest or pin.urls or pin.archive == "maf-archive", f"nothing verifies or finds {pin.name}"


def test_the_published_arrays_come_out_of_mafs_archive(tmp_path):
    data = np.random.default_rng(0).random((300, 8))
    np.save(tmp_path / "data.npy", data)
    archive = tmp_path / "mirror" / read_pin("maf-archive").path
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "data.npy", "data/power/data.npy")
    out = prepare("power", store=Store(tmp_path / "raw", tmp_path / "mirror"), out=tmp_path / "power", seed=0)
    agree(mapped(out), power_plainly(data))
    assert json.loads((out / "meta.json").read_text())["variant"] == "published"


def test_fewer_rows_are_drawn_from_the_whole_and_keep_their_order(tmp_path):
    np.save(at(tmp_path, "maf-power"), np.random.default_rng(0).random((500, 8)))
    whole, some = build("power", "published", tmp_path), build("power", "published", tmp_path, (50, 20, 7))
    for all_rows, rows, n in zip(whole, some, (50, 20, 7), strict=True):
        places = [int(np.flatnonzero((all_rows == row).all(1))[0]) for row in rows]
        assert len(places) == n
        assert places == sorted(set(places))
        assert places != list(range(n))
    assert all((a == b).all() for a, b in zip(some, build("power", "published", tmp_path, (50, 20, 7)), strict=True))
