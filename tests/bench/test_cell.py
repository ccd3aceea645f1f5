"""One cell end to end on a small budget: its records, its failures, its resumption."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import cell as cells
from bench import config as configuration
from bench import datasets, records
from bench.config import Config
from bench.device import select_device
from bench.errors import UserError
from bench.recipes import Cell, Recipe
from bench.tables.ranking import SERIES
from models.layer import ChainModel


def small_config(tmp_path: Path) -> Config:
    tier = configuration.Tier("test", "quick", (0,), sizes="reduced")
    return Config(tier, device="cpu", data=tmp_path / "data", results=tmp_path / "results")


def small_cell(family: str = "realnvp", dataset: str = "checkerboard", **model: object) -> Cell:
    recipe = Recipe("row", "Row", "normalizing flow", family, "source", (), {}, {}, {})
    training = {"steps": 20, "batch": 64, "validate_every": 10, "validation_points": 50}
    evaluation = {"test_points": 100, "samples": 100, "grid": 20}
    return Cell("row", dataset, recipe, model, training, evaluation, ())


@pytest.fixture
def prepared(tmp_path: Path) -> Config:
    config = small_config(tmp_path)
    for name in ("checkerboard", "double-well"):
        datasets.prepare(name, store=config.store, out=config.prepared(name), seed=0, size="reduced")
    return config


def train(cell: Cell, config: Config) -> dict:
    (record,) = cells.train_cell(cell, config, lambda runs: None, lambda line: None)
    return record


def without(record: dict, *keys: str) -> dict:
    return {name: value for name, value in record.items() if name not in keys}


def test_a_cell_writes_a_valid_record_weights_and_arrays(prepared: Config) -> None:
    record = train(small_cell(), prepared)
    folder = prepared.cell_folder("row", "checkerboard")
    assert records.read(folder / "seed0.json") == record
    assert record["status"] == "ok"
    assert record["likelihood"]["kind"] == "exact"
    assert {"log_likelihood", "kl_to_truth", "mass_outside", "modes_missed", "total_variation", "integral"} <= set(
        record["metrics"]
    )
    assert record["cost"]["sampling_passes"] == 1
    assert set(np.load(folder / "seed0.npz")) >= {"samples", "grid_log_density", "log_prob"}
    assert not list(folder.glob("*.ckpt"))
    drawn = cells.sample_trained(small_cell(), prepared, 0, 5)
    assert drawn.shape == (5, 2)


def test_a_record_keeps_its_likelihood_by_block_of_the_rows_that_it_scores(prepared: Config) -> None:
    cell = small_cell()
    record = train(dataclasses.replace(cell, evaluation={**cell.evaluation, "test_points": 250}), prepared)
    series = record["series"][SERIES]
    scores = np.load(prepared.cell_folder("row", "checkerboard") / "seed0.npz")["log_prob"].astype(float)
    assert series["y"] == pytest.approx([part.mean() for part in np.array_split(scores, 100)], rel=1e-6)
    sizes = np.diff([0, *series["x"]])
    headline = record["metrics"]["log_likelihood"]["value"]
    assert sizes.sum() == 250 and np.average(series["y"], weights=sizes) == pytest.approx(headline, rel=5e-7)


def test_a_cell_that_a_budget_stops_is_reduced_and_says_its_steps(prepared: Config) -> None:
    (record,) = cells.train_cell(small_cell(), prepared, lambda runs: None, lambda line: None, budget=1e-9)
    found = record["comparability"]
    assert record["status"] == "ok" and found["flags"] == ["reduced"]
    assert found["budget"] == "stopped after 0 of 20 steps"
    assert list(prepared.cell_folder("row", "checkerboard").glob("*.ckpt")), "to go on from"
    again = train(small_cell(), prepared)
    assert again["cost"]["steps"] == 20 and again["comparability"]["flags"] == []


def test_the_same_cell_twice_gives_the_same_record(prepared: Config) -> None:
    first = train(small_cell(), prepared)
    again = train(small_cell(), prepared)
    assert without(first, *records.VOLATILE) == without(again, *records.VOLATILE)


def test_energies_get_path_weights(prepared: Config) -> None:
    record = train(small_cell(dataset="double-well"), prepared)
    assert 0 < record["metrics"]["ess"]["value"] <= 1
    assert {"log_z_error", "free_energy_bias", "free_energy_bias_reweighted"} <= set(record["metrics"])
    assert record["cost"]["ess_per_second"] > 0


def test_a_divergence_is_a_record_with_its_reason(prepared: Config) -> None:
    cell = small_cell()
    cell = dataclasses.replace(cell, training={**cell.training, "lr": 1e12, "steps": 60})
    record = train(cell, prepared)
    assert record["status"] == "diverged"
    assert "step" in record["reason"]
    assert record["metrics"] == {}


def test_a_numerical_failure_is_a_record_too(prepared: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: ChainModel, n: int, context: object = None) -> None:
        raise RuntimeError("the solver\ngave up")

    monkeypatch.setattr(ChainModel, "sample", fail)
    record = train(small_cell(), prepared)
    assert (record["status"], record["reason"]) == ("failed", "RuntimeError: the solver gave up")


def test_a_sample_that_cannot_be_drawn_fails_a_gate_and_leaves_the_scores(
    prepared: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: ChainModel, n: int, context: object = None) -> None:
        raise ArithmeticError("no x has f(x) = z")

    monkeypatch.setattr(ChainModel, "sample", fail)
    record = train(small_cell(), prepared)
    assert record["status"] == "ok" and record["metrics"]["log_likelihood"]["value"] < 0
    assert record["gates"]["samples can be drawn"] == {"passed": False, "detail": "no x has f(x) = z"}


def test_an_unknown_hyperparameter_is_one_line_and_writes_nothing(prepared: Config) -> None:
    with pytest.raises(UserError, match=r"no hyperparameter 'hiden'; did you mean 'hidden'\?"):
        train(small_cell(hiden=[4]), prepared)
    assert not prepared.cell_folder("row", "checkerboard").exists()


def test_a_batch_larger_than_the_data_is_one_line(prepared: Config) -> None:
    cell = small_cell()
    cell = dataclasses.replace(cell, training={**cell.training, "batch": 10**6})
    with pytest.raises(UserError, match="larger than the 50000 training rows"):
        train(cell, prepared)


def test_asking_for_a_gpu_that_is_not_there() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match="torch sees no GPU"):
        select_device("cuda")


def test_data_that_is_not_prepared_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="relaxbench prepare checkerboard"):
        cells.load_data(small_config(tmp_path), "checkerboard")


def test_sampling_an_untrained_row_says_what_to_run(prepared: Config) -> None:
    with pytest.raises(UserError, match="relaxbench train row checkerboard"):
        cells.sample_trained(small_cell(), prepared, 0, 5)


def test_a_record_that_breaks_the_schema_is_refused(prepared: Config, tmp_path: Path) -> None:
    record = train(small_cell(), prepared)
    record["metrics"]["kl_to_truth"]["uncertainty"] = 0.1  # a bare ±
    with pytest.raises(UserError, match="metrics.kl_to_truth.uncertainty"):
        records.write(record, tmp_path / "seed0.json")
    assert not (tmp_path / "seed0.json").exists()


def test_a_cell_of_fewer_steps_is_reduced_and_its_schedule_with_it(prepared: Config) -> None:
    cell = small_cell()
    cell = dataclasses.replace(cell, training={**cell.training, "halve_every": 10})
    shorter = cell.shortened(8)
    assert dict(shorter.training) == {**cell.training, "steps": 8, "halve_every": 4}
    record = train(shorter, prepared)
    assert record["cost"]["steps"] == 8 and record["comparability"]["flags"] == ["reduced"]
    assert record["comparability"]["budget"] == "8 of 20 steps, the schedule compressed"
    assert cell.shortened(20) is cell


def test_repetitions_that_train_together_get_a_record_each(prepared: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU; the same runs one by one end nearly the same."""
    config = dataclasses.replace(prepared, tier=dataclasses.replace(prepared.tier, seeds=(0, 1)))
    apart = cells.train_cell(small_cell(), config, lambda runs: None, lambda line: None)
    monkeypatch.setattr(cells, "side_by_side", lambda model, batch: True)
    together = cells.train_cell(small_cell(), config, lambda runs: None, lambda line: None)
    assert [r["run"]["seed"] for r in together] == [0, 1]
    for one, other in zip(apart, together, strict=True):
        assert (one["cost"]["seeds_together"], other["cost"]["seeds_together"]) == (1, 2)
        values = [r["metrics"]["log_likelihood"]["value"] for r in (one, other)]
        assert values[0] == pytest.approx(values[1], rel=1e-3)
