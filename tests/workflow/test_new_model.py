"""What CONTRIBUTING promises, with the very blocks it prints: one file and one recipe are a row, no list is edited."""

from __future__ import annotations

import csv
import re

import pytest

from bench.paths import ROOT

pytestmark = pytest.mark.slow

TIER = """
recipes: quick
seeds: [0, 1]
sizes: reduced
rows: [stretch, realnvp]
datasets: [checkerboard]
training: {steps: 20, validate_every: 10}
evaluation: {test_points: 200, samples: 200, grid: 40}
"""


def printed(language: str) -> str:
    """The first block of that language in CONTRIBUTING."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return re.search(rf"```{language}\n(.*?)```", text, re.S).group(1)


def test_one_file_and_one_recipe_are_a_row(copied):
    (copied.tree / "models" / "flows" / "stretch.py").write_text(printed("python"))
    (copied.tree / "recipes" / "stretch.yaml").write_text(printed("yaml"))
    (copied.tree / "config" / "mine.yaml").write_text(TIER)
    done = copied.snakemake(tier="mine")
    assert done.returncode == 0, done.stdout + done.stderr
    table = copied.folder / "results" / "mine" / "tables" / "toys.csv"
    with table.open() as file:
        rows = list(csv.reader(file))
    assert any("Stretch" in row for row in rows), rows
