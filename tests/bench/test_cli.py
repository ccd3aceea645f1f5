"""The command line as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bench.cli import cli

COMMANDS = (
    "list",
    "card",
    "fetch",
    "prepare",
    "train",
    "sample",
    "table",
    "claims",
    "plan",
    "speed",
    "render",
    "report",
    "freeze",
    "drift",
    "doctor",
)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 5


@pytest.mark.parametrize("what", ["systems", "datasets", "tables", "claims"])
def test_list_has_stable_json_and_readable_text(what: str) -> None:
    rows = json.loads(run("list", what, "--json").stdout)
    key = {"systems": "row", "datasets": "dataset", "tables": "table", "claims": "claim"}[what]
    assert rows
    assert all(row[key] for row in rows)
    assert rows[0][key] in run("list", what).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "realnpv", "checkerboard"), "unknown row 'realnpv'; did you mean 'realnvp'?"),
        (("train", "realnvp", "chekerboard"), "unknown data set 'chekerboard'; did you mean 'checkerboard'?"),
        (("train", "realnvp", "checkerboard", "--tier", "quik"), "unknown tier 'quik'; did you mean 'quick'?"),
        (("train", "realnvp", "checkerboard", "--mirror", "/nowhere/at/all"), "there is no folder"),
        (("prepare", "power"), "power needs maf/data/power/data.npy (https://zenodo.org/"),
        (("train", "realnvp", "checkerboard", "--budget", "ten"), "--budget is 'ten'; give a time such as 90s"),
        (("table", "tabluar", "--frozen"), "did you mean 'tabular'?"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_table_before_any_run_says_what_to_do(tmp_path: Path) -> None:
    result = run("table", "toys", "--results", str(tmp_path))
    assert result.exit_code == 2
    assert "snakemake --cores all" in result.stderr


def test_train_and_sample_from_an_empty_folder(tmp_path: Path) -> None:
    places = ("--tier", "smoke", "--data", str(tmp_path / "d"), "--results", str(tmp_path / "r"))
    trained = run("train", "realnvp", "checkerboard", *places)
    assert trained.exit_code == 0, trained.output
    assert "RealNVP on checkerboard, seed 0: ok" in trained.stdout
    sampled = run("sample", "realnvp", "checkerboard", "-n", "3", *places)
    assert len(sampled.stdout.splitlines()) == 3
    out = tmp_path / "s.npy"
    assert run("sample", "realnvp", "checkerboard", "-n", "3", "--out", str(out), *places).exit_code == 0
    assert out.exists()


def test_doctor_finds_this_machine_ready() -> None:
    result = run("doctor")
    assert result.exit_code == 0, result.output
    assert "checkerboard" in result.output
