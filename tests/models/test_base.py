"""Base densities against torch.distributions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import distributions as td

from models.base import Base, GaussianMixture, StandardNormal, Uniform, normal_log_density

pytestmark = pytest.mark.usefixtures("float64")
MEANS, STDS = torch.tensor([[-2.0, 0.0], [1.0, 3.0]]), torch.tensor([[0.5, 1.0], [2.0, 0.3]])
WEIGHTS = torch.tensor([0.2, 0.8])


def mixture(learned: bool = False) -> GaussianMixture:
    return GaussianMixture(MEANS, STDS, WEIGHTS, learned=learned).double()


def reference() -> td.Distribution:
    parts = td.Independent(td.Normal(MEANS.double(), STDS.double()), 1)
    return td.MixtureSameFamily(td.Categorical(WEIGHTS.double()), parts)


def test_normal_log_density() -> None:
    z, mean, log_std = torch.randn(3, 4, 2)
    torch.testing.assert_close(normal_log_density(z, mean, log_std), td.Normal(mean, log_std.exp()).log_prob(z))
    torch.testing.assert_close(normal_log_density(z), td.Normal(0.0, 1.0).log_prob(z))


@pytest.mark.parametrize("shape", [(3,), (2, 3, 3)])
def test_standard_normal(shape: tuple[int, ...]) -> None:
    z = torch.randn(5, *shape)
    expected = td.Independent(td.Normal(torch.zeros(shape), 1.0), len(shape)).log_prob(z)
    torch.testing.assert_close(StandardNormal(shape).log_prob(z), expected)


def test_uniform_inside_on_the_edge_and_outside() -> None:
    base = Uniform((2,), -1.0, 3.0)
    z = torch.tensor([[0.0, 0.0], [-1.0, 3.0], [0.0, 3.1], [-1.1, 0.0]])
    assert base.log_prob(z).tolist() == [-2 * math.log(4), -2 * math.log(4), -math.inf, -math.inf]


@pytest.mark.parametrize("learned", [False, True])
def test_mixture(learned: bool) -> None:
    z = 3 * torch.randn(20, 2)
    torch.testing.assert_close(mixture(learned).log_prob(z), reference().log_prob(z), rtol=1e-6, atol=1e-6)


def test_a_mixture_without_weights_is_balanced() -> None:
    torch.testing.assert_close(GaussianMixture(MEANS, STDS).logits.softmax(0), torch.tensor([0.5, 0.5]))


def test_learned_mixtures_have_parameters_and_fixed_ones_have_none() -> None:
    assert {name for name, _ in mixture(learned=True).named_parameters()} == {"means", "log_stds", "logits"}
    assert list(mixture().parameters()) == []


@pytest.mark.parametrize(
    ("base", "mean", "variance"),
    [
        (StandardNormal((2,)), torch.zeros(2), torch.ones(2)),
        (Uniform((2,), -1.0, 3.0), torch.ones(2), torch.full((2,), 16 / 12)),
        (mixture(), reference().mean, reference().variance),
    ],
)
def test_samples_have_the_moments(base: Base, mean: torch.Tensor, variance: torch.Tensor) -> None:
    n = 20_000
    z = base.double().sample(n)
    assert z.shape == (n, 2)
    assert ((z.mean(0) - mean).abs() < 5 * (variance / n).sqrt()).all()
    fourth = ((z - z.mean(0)) ** 4).mean(0) - z.var(0) ** 2
    assert ((z.var(0) - variance).abs() < 5 * (fourth / n).sqrt()).all()


@pytest.mark.parametrize("make", [lambda: StandardNormal((2,)), lambda: Uniform((2,)), mixture])
def test_samples_follow_the_module_s_dtype(make) -> None:
    for dtype in (torch.float32, torch.float64):
        base = make().to(dtype)
        assert base.sample(3).dtype == dtype
        assert base.log_prob(base.sample(3)).dtype == dtype
