"""The learning rate with the best validation score."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from bench import config as configuration
from bench import recipes, tune
from bench.cell import train_cell
from bench.cli import cli
from bench.config import Config
from bench.datasets import prepare
from bench.training import loop


@pytest.fixture
def config(tmp_path: Path) -> Config:
    found = configuration.load(
        {"results": str(tmp_path / "r"), "data": str(tmp_path / "d"), "device": "cpu", "seeds": 2}
    )
    out = found.prepared("breast-cancer")
    prepare("breast-cancer", store=found.store, out=out, seed=0, size=found.tier.sizes)
    return found


def test_a_trial_is_the_training_of_the_cell_at_that_rate(config: Config) -> None:
    cell = recipes.cell("gaussian", "breast-cancer", config.tier).shortened(40)
    trials = list(tune.trials(cell, config, [1e-3, 3e-2]))
    tried = replace(cell, training={**cell.training, "lr": 3e-2})
    records = train_cell(tried, config, lambda runs: lambda step, loss: None, lambda line: None)
    assert trials[1].nats == tuple(min(record["series"]["validation"]["y"]) for record in records)
    assert trials[1].mean < trials[0].mean, "a thousandth is too slow for 40 steps"
    header, slow, _, best = tune.lines(trials, own=1e-3)
    assert header.startswith("learning rate") and slow.endswith("the recipe's") and best == "best: 0.03"


def test_the_score_does_not_depend_on_the_test_rows(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = recipes.cell("gaussian", "breast-cancer", config.tier).shortened(20)
    (before,) = tune.trials(cell, config, [1e-2])
    read = tune.load_data
    monkeypatch.setattr(tune, "load_data", lambda *at: replace(read(*at), test=torch.full((1, 30), torch.nan)))
    (after,) = tune.trials(cell, config, [1e-2])
    assert after.nats == before.nats


def test_a_diverged_rate_is_the_worst(config: Config) -> None:
    cell = recipes.cell("realnvp", "breast-cancer", config.tier).shortened(20)
    wild, tame = tune.trials(cell, config, [1e30, 1e-3])
    assert wild.mean == float("inf")
    assert list(tune.lines([wild, tame], own=1.0))[-1] == "best: 0.001"
    assert "every rate" in list(tune.lines([wild], own=1.0))[-1]


def test_a_solver_that_gives_up_fails_one_rate_only(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = recipes.cell("gaussian", "breast-cancer", config.tier).shortened(20)
    scored = loop.mean_nats
    calls = iter(range(100))

    def give_up_at_first(*arguments: object) -> float:
        if next(calls) == 0:
            raise FloatingPointError("the solver gave up")
        return scored(*arguments)

    monkeypatch.setattr(loop, "mean_nats", give_up_at_first)
    first, second = tune.trials(cell, config, [1e-2, 2e-2])
    assert first.nats[0] == float("inf") and all(map(math.isfinite, (first.nats[1], *second.nats)))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("mfa", "breast-cancer"), "unknown row 'mfa'"),
        (("maf", "breast-cancr"), "did you mean 'breast-cancer'?"),
        (("maf", "miniboone", "--rates", "nan"), "--rates is 'nan'"),
        (("maf", "breast-cancer", "--rates", "fast"), "--rates is 'fast'; give positive numbers such as 1e-3,5e-3"),
        (("maf", "breast-cancer", "--rates", "1e-3,0"), "--rates is '1e-3,0'"),
        (("gan", "digits", "--rates", "1e-3"), "gan has no likelihood to choose by"),
    ],
)
def test_mistakes_are_one_line(arguments: tuple[str, ...], line: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["tune", *arguments, "--data", str(tmp_path)])
    assert result.exit_code == 2 and line in result.output
