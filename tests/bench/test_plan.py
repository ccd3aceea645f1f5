"""Which cells fit into a given time."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from bench import config as configuration
from bench import plan, recipes
from bench.cli import cli
from bench.config import Config


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configuration.load({"results": str(tmp_path / "results"), "device": "cpu", "seeds": 3})


def estimate(row: str, dataset: str, seconds: float, published: bool) -> plan.Estimate:
    cell = recipes.Cell(row, dataset, recipes.recipe("maf"), {}, {"steps": 10}, {}, ())
    return plan.Estimate(cell, seconds / 10, seconds, published, 0)


def test_an_estimate_is_that_of_the_seeds_that_are_left(config: Config) -> None:
    cell = recipes.cell("gaussian", "breast-cancer", config.tier)
    (whole,) = plan.estimates([cell], config)
    assert whole.seconds == pytest.approx(300 * whole.seconds_per_step) and whole.seconds_per_step > 0
    folder = config.cell_folder("gaussian", "breast-cancer")
    folder.mkdir(parents=True)
    for left in (2, 1, 0):
        (folder / f"seed{left}.json").write_text("{}")
        (rest,) = plan.estimates([cell], config)
        assert rest.done == 3 - left and (rest.seconds > 0) == (left > 0)
        assert rest.seconds == pytest.approx(300 * rest.seconds_per_step)


def test_cells_beside_print_come_first_then_the_quickest_and_complete_ones_not_at_all() -> None:
    found = [
        estimate("maf", "power", 90, True),
        estimate("made", "power", 20, False),
        estimate("maf", "gas", 60, True),
        estimate("maf", "hepmass", 0, True),
    ]
    order = plan.ordered(found)
    assert [(e.cell.row, e.cell.dataset) for e in order] == [("maf", "gas"), ("maf", "power"), ("made", "power")]
    fits = [line.split()[-1] for line in list(plan.lines(order, budget=100))[1:]]
    assert fits == ["yes", "no", "no"]


def test_the_command_plans_the_cells_whose_data_are_at_hand(tmp_path: Path) -> None:
    arguments = ["plan", "gaussian", "--tier", "quick", "--dataset", "breast-cancer"]
    folders = ["--data", str(tmp_path), "--results", str(tmp_path / "results")]  # not those of a run that lies here
    result = CliRunner().invoke(cli, arguments + folders)
    assert result.exit_code == 0, result.output
    header, line = result.output.splitlines()
    assert header.startswith("row") and line.split()[:2] == ["gaussian", "breast-cancer"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("gausian",), "unknown row 'gausian'; did you mean 'gaussian'?"),
        (("--dataset", "powr", "--network"), "unknown data set 'powr'; did you mean 'power'?"),
        (("--budget", "0m"), "--budget is '0m'"),
    ],
)
def test_mistakes_are_one_line(arguments: tuple[str, ...], line: str) -> None:
    result = CliRunner().invoke(cli, ["plan", *arguments])
    assert result.exit_code == 2 and line in result.output
