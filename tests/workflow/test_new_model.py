"""What CONTRIBUTING promises: one model file and one recipe are a row in the tables, and no list is edited."""

from __future__ import annotations

import csv
import textwrap

import pytest

pytestmark = pytest.mark.slow

MODEL = '''
"""A diagonal affine flow: z = (x - shift) / scale, base N(0, I)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.base import StandardNormal
from models.layer import ChainModel, Layer, Model
from models.preprocessing import preprocessing
from models.registry import DataSpec, register


class DiagonalAffine(Layer):
    """z = exp(-s) (x - b), log|det dz/dx| = -sum s."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(dim))
        self.shift = nn.Parameter(torch.zeros(dim))

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return (x - self.shift) * torch.exp(-self.log_scale), -self.log_scale.sum().expand(len(x))

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z * torch.exp(self.log_scale) + self.shift, -self.log_scale.sum().expand(len(z))


@register("diagonal")
def diagonal(spec: DataSpec) -> Model:
    return ChainModel([*preprocessing(spec), DiagonalAffine(spec.dim)], StandardNormal(spec.shape))
'''
RECIPE = """
row: Diagonal
group: normalizing flow
family: diagonal
source: "the worked example of CONTRIBUTING"
training: {steps: 20, batch: 32, lr: 1.0e-2, validate_every: 10}
tiers:
  quick:
    datasets: {checkerboard: {}}
"""
TIER = """
recipes: quick
seeds: [0, 1]
sizes: reduced
rows: [diagonal, realnvp]
datasets: [checkerboard]
training: {steps: 20, validate_every: 10}
evaluation: {test_points: 200, samples: 200, grid: 40}
"""


def test_one_file_and_one_recipe_are_a_row(copied):
    (copied.tree / "models" / "flows" / "diagonal.py").write_text(textwrap.dedent(MODEL))
    (copied.tree / "recipes" / "diagonal.yaml").write_text(RECIPE)
    (copied.tree / "config" / "mine.yaml").write_text(TIER)
    done = copied.snakemake(tier="mine")
    assert done.returncode == 0, done.stdout + done.stderr
    table = copied.folder / "results" / "mine" / "tables" / "toys.csv"
    with table.open() as file:
        rows = [row for row in csv.reader(file)]
    assert any("Diagonal" in row for row in rows), rows
