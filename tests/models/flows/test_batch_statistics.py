"""Batch normalisation with the statistics of the whole training set, as in MAF (Papamakarios et al. 2017)."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.base import StandardNormal
from models.flows.conditioner import MaskedAutoregressive
from models.flows.linear import Reverse
from models.flows.normalization import ActNorm, BatchNorm
from models.flows.univariate import AffineMap
from models.layer import Chain, ChainModel, Layer, Model
from models.nets.made import MADE
from models.preprocessing import Standardize, UniformDequantization
from models.registry import DataSpec, build

pytestmark = pytest.mark.usefixtures("float64")
DIM = 4


def model(layers: int = 3, context_dim: int = 0) -> Model:
    """A MAF in which no batch normalisation is where it started."""
    spec = DataSpec((DIM,), mean=torch.ones(DIM), std=2 * torch.ones(DIM), context_dim=context_dim)
    made = build("maf", spec, layers=layers, hidden=[8])
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def norms(made: torch.nn.Module) -> list[BatchNorm]:
    return [layer for layer in made.modules() if isinstance(layer, BatchNorm)]


def data(n: int) -> Tensor:
    return 1 + 2 * torch.randn(n, DIM) @ torch.randn(DIM, DIM)


@pytest.mark.parametrize("rows", [7, 100, 1000])
def test_the_settled_score_is_that_of_the_training_set_as_one_batch(rows: int) -> None:
    """The paper's definition: m and v are the minibatch statistics with all rows as the minibatch."""
    made, x = model(), data(300)
    expected = made.train().log_prob(x)
    made.settle(x, rows=rows)
    torch.testing.assert_close(made.eval().log_prob(x), expected)
    for layer in norms(made):
        assert (layer.mean != 0).all() and (layer.variance != 1).all()


def test_the_statistics_are_those_of_the_plain_computation_on_arrays() -> None:
    made, x = model(), data(200)
    made.settle(x, rows=33)
    z = x
    with torch.no_grad():
        for layer in made.chain.layers:
            if isinstance(layer, BatchNorm):
                seen = z.numpy()
                np.testing.assert_allclose(layer.mean.numpy(), seen.mean(0), rtol=1e-12)
                np.testing.assert_allclose(layer.variance.numpy(), seen.var(0), rtol=1e-12)
                gain, shift = layer.log_gamma.exp().numpy(), layer.beta.numpy()
                z = torch.from_numpy(gain * (seen - seen.mean(0)) / np.sqrt(seen.var(0) + layer.eps) + shift)
            else:
                z, _ = layer.eval().encode(z)


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    offset=st.sampled_from([0.0, 1e3, -1e6]),
    spread=st.sampled_from([1e-2, 1.0, 1e3]),
)
@settings(deadline=None, max_examples=40)
def test_blocks_of_any_size_in_float32_lose_nothing_to_a_far_mean(
    sizes: list[int], offset: float, spread: float
) -> None:
    """E[x²] - E[x]² would: at a mean of 10⁶ and a spread of .01 it is pure rounding."""
    generator = torch.Generator().manual_seed(sum(sizes))
    x = (offset + spread * torch.randn(sum(sizes), 3, generator=generator)).float()
    layer = BatchNorm(3).float().eval()
    layer.settle(list(x.split(sizes)), [None] * len(sizes))
    exact = x.double().numpy()
    np.testing.assert_allclose(layer.mean.numpy(), exact.mean(0), rtol=1e-6, atol=1e-6 * spread)
    np.testing.assert_allclose(layer.variance.numpy(), exact.var(0), rtol=1e-6, atol=1e-12)


def test_images_count_every_pixel() -> None:
    layer, x = BatchNorm(2).eval(), 3 + torch.randn(30, 2, 4, 5)
    layer.settle(list(x.split(8)), [None] * 4)
    torch.testing.assert_close(layer.mean, x.mean((0, 2, 3)))
    torch.testing.assert_close(layer.variance, x.var((0, 2, 3), unbiased=False))


def test_it_leaves_all_else_as_it_was() -> None:
    made, x = model(), data(50)
    before, kept = copy.deepcopy(made.state_dict()), x.clone()
    for training in (True, False):
        made.train(training).settle(x)
        assert all(module.training is training for module in made.modules())
    assert torch.equal(x, kept)
    changed = {name for name, value in made.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.rsplit(".", 1)[1] for name in changed} == {"mean", "variance"}
    assert len(changed) == 2 * len(norms(made))
    assert all(parameter.grad is None for parameter in made.parameters())


def test_it_is_idempotent_and_its_model_decodes() -> None:
    made, x = model(), data(80)
    made.settle(x)
    first = copy.deepcopy(made.state_dict())
    made.settle(x)
    assert all(torch.equal(value, first[name]) for name, value in made.state_dict().items())
    made.eval()
    z, _ = made.chain.encode(x)
    torch.testing.assert_close(made.chain.decode(z)[0], x)


def test_a_context_goes_with_its_rows() -> None:
    made, x, context = model(context_dim=2), data(60), torch.randn(60, 2)
    expected = made.train().log_prob(x, context)
    made.settle(x, context, rows=13)
    torch.testing.assert_close(made.eval().log_prob(x, context), expected)


def test_chains_within_chains_and_integers() -> None:
    inner = Chain([BatchNorm(DIM), Reverse()])
    made = ChainModel([UniformDequantization(8), Standardize(0.5, 0.3), inner, BatchNorm(DIM)], StandardNormal((DIM,)))
    x = torch.randint(0, 8, (500, DIM))
    made.settle(x, rows=100)
    first, second = norms(made)
    torch.testing.assert_close(first.mean, torch.zeros(DIM), atol=0.3, rtol=0)
    torch.testing.assert_close(second.mean, torch.zeros(DIM), atol=1e-8, rtol=0)
    torch.testing.assert_close(second.variance, torch.ones(DIM), atol=1e-4, rtol=0)


class Counting(Layer):
    """Counts the rows that pass."""

    rows = 0

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.rows += len(x)
        return x, x.new_zeros(len(x))


def test_every_row_goes_through_once_and_through_nothing_where_nothing_settles() -> None:
    counting, x = Counting(), data(90)
    ChainModel([counting, ActNorm(DIM)], StandardNormal((DIM,))).settle(x)
    assert counting.rows == 0
    steps = [[MaskedAutoregressive(AffineMap(), MADE(DIM, [8], 2)), BatchNorm(DIM)] for _ in range(3)]
    ChainModel([counting, *itertools.chain(*steps)], StandardNormal((DIM,))).settle(x, rows=20)
    assert counting.rows == 90


def test_a_model_without_a_chain_settles_nothing() -> None:
    build("gan", DataSpec((2,))).settle(torch.randn(5, 2))
