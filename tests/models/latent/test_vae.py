"""The VAE against densities that are known."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal

from models.base import StandardNormal
from models.latent.vae import Categorical, ConditionalNormal, DiscretizedLogistic, VariationalLayer, vae
from models.layer import ChainModel
from models.nets.mlp import MLP
from models.registry import DataSpec

pytestmark = pytest.mark.usefixtures("float64")
SHAPE, LEVELS, LATENT = (1, 1, 2), 4, 2


def logistic() -> DiscretizedLogistic:
    return DiscretizedLogistic(MLP(LATENT, [6], 2 * math.prod(SHAPE)), SHAPE, LEVELS)


def categorical() -> Categorical:
    return Categorical(MLP(LATENT, [6], LEVELS * math.prod(SHAPE)), SHAPE, LEVELS)


def all_images() -> Tensor:
    return torch.tensor(list(itertools.product(range(LEVELS), repeat=math.prod(SHAPE)))).view(-1, *SHAPE)


def probabilistic_pca() -> tuple[ChainModel, MultivariateNormal]:
    """x = A z + b + σ ε with orthogonal columns, so that a mean-field q can be the exact posterior; and p(x)."""
    loading, offset, std = torch.linalg.qr(torch.randn(3, 2)).Q * torch.tensor([1.5, 0.5]), torch.randn(3), 0.7
    variance = 1 / (1 + loading.square().sum(0) / std**2)
    gain = variance[:, None] * loading.T / std**2
    posterior = ConditionalNormal(nn.Linear(3, 2), scales=2)
    likelihood = ConditionalNormal(nn.Linear(2, 3), scales=3)
    values = {posterior: (gain, -gain @ offset, variance.sqrt()), likelihood: (loading, offset, torch.full((3,), std))}
    with torch.no_grad():
        for density, (weight, bias, scale) in values.items():
            density.network.weight.copy_(weight)
            density.network.bias.copy_(bias)
            density.log_std.copy_(scale.log())
    model = ChainModel([VariationalLayer(posterior, likelihood)], StandardNormal((2,)))
    return model, MultivariateNormal(offset, loading @ loading.T + std**2 * torch.eye(3))


def test_the_bound_is_tight_at_the_exact_posterior() -> None:
    model, truth = probabilistic_pca()
    x = torch.randn(7, 3)
    torch.testing.assert_close(model.log_prob(x), truth.log_prob(x))
    torch.testing.assert_close(model.importance_bound(x, 3), truth.log_prob(x))


def test_the_path_of_a_sample_carries_its_exact_score() -> None:
    model, truth = probabilistic_pca()
    x, log_prob = model.sample_with_log_prob(5)
    torch.testing.assert_close(log_prob, truth.log_prob(x))


def test_the_bound_falls_by_the_posterior_s_divergence() -> None:
    """With the mean of q off by δ, log p(x) - E[bound] = KL(q || p(z|x)) = ½ Σ δ² / variance."""
    model, truth = probabilistic_pca()
    posterior = model.chain.layers[0].posterior
    shift, x = torch.tensor([0.3, -0.2]), torch.randn(1, 3)
    with torch.no_grad():
        posterior.network.bias.add_(shift)
        bound = model.log_prob(x.expand(20_000, 3))
        divergence = 0.5 * (shift.square() * torch.exp(-2 * posterior.log_std)).sum()
    error = bound.std() / math.sqrt(len(bound))
    assert error < divergence / 20
    assert abs(truth.log_prob(x) - bound.mean() - divergence) < 4 * error


@pytest.mark.parametrize("make", [logistic, categorical])
def test_probabilities_of_all_images_sum_to_one(make) -> None:
    density, x = make(), all_images()
    for z in 3 * torch.randn(3, 1, LATENT):
        total = density.log_prob(x, z.expand(len(x), LATENT)).exp().sum()
        torch.testing.assert_close(total, torch.tensor(1.0))


@pytest.mark.parametrize("make", [logistic, categorical])
def test_samples_occur_as_often_as_the_probabilities_say(make) -> None:
    density, x = make(), all_images()
    z = torch.randn(1, LATENT)
    expected = density.log_prob(x, z.expand(len(x), LATENT)).exp()
    n = 20_000
    with torch.no_grad():
        samples, _ = density.sample(z.expand(n, LATENT))
    code = samples.flatten(1) @ LEVELS ** torch.arange(math.prod(SHAPE)).flip(0)
    share = torch.bincount(code, minlength=len(x)) / n
    assert (share - expected).abs().max() < 5 * 0.5 / math.sqrt(n)


def test_the_discretized_logistic_is_a_difference_of_two_sigmoids() -> None:
    density, z = logistic(), torch.randn(6, LATENT)
    mean, log_scale = density.network(z).view(6, 2, *SHAPE).unbind(1)
    edges = (torch.arange(LEVELS + 1) - 0.5) * 2 / (LEVELS - 1) - 1  # between the levels, spread over [-1, 1]
    edges[0], edges[-1] = -math.inf, math.inf
    cumulative = torch.sigmoid((edges - mean[..., None]) / log_scale.exp()[..., None])
    x = torch.randint(0, LEVELS, (6, *SHAPE))
    expected = cumulative.diff(dim=-1).gather(-1, x[..., None])[..., 0].log().flatten(1).sum(1)
    torch.testing.assert_close(density.log_prob(x, z), expected)


def test_the_discretized_logistic_keeps_its_gradient_far_in_the_tails() -> None:
    density = logistic().float()
    density.network.layers[-1].bias.data.copy_(torch.tensor([60.0, -60.0, -20.0, -20.0]))
    log_prob = density.log_prob(torch.tensor([[[[0, 3]]]]), torch.zeros(1, LATENT, dtype=torch.float32))
    log_prob.sum().backward()
    assert torch.isfinite(log_prob).all()
    assert all(torch.isfinite(p.grad).all() for p in density.parameters())


@pytest.mark.parametrize(
    "make",
    [
        logistic,
        categorical,
        lambda: ConditionalNormal(MLP(LATENT, [4], 6)),
        lambda: ConditionalNormal(MLP(LATENT, [4], 3), 3),
    ],
)
def test_samples_report_the_log_density_they_have(make) -> None:
    density, z = make(), torch.randn(5, LATENT)
    value, log_prob = density.sample(z)
    torch.testing.assert_close(log_prob, density.log_prob(value, z))


def test_the_normal_s_network_gives_mean_and_log_std() -> None:
    density, z, x = ConditionalNormal(MLP(LATENT, [4], 6)), torch.randn(5, LATENT), torch.randn(5, 3)
    mean, log_std = density.network(z).chunk(2, -1)
    torch.testing.assert_close(density.log_prob(x, z), Normal(mean, log_std.exp()).log_prob(x).sum(1))


def test_an_image_s_bound_is_on_a_probability_whatever_holds_its_integers() -> None:
    model = vae(DataSpec(SHAPE, LEVELS), hidden=[6])
    x = all_images()
    with torch.no_grad():
        torch.testing.assert_close(model.importance_bound(x, 2000).exp().sum(), torch.tensor(1.0), atol=0.02, rtol=0)
    for each in (x.float(), x.to(torch.uint8)):
        torch.manual_seed(1)
        expected = model.log_prob(x)
        torch.manual_seed(1)
        torch.testing.assert_close(model.log_prob(each), expected)


def test_an_unknown_decoder_is_named() -> None:
    with pytest.raises(ValueError, match="decoder is 'gaussian'; for integer images it is logistic or categorical"):
        vae(DataSpec(SHAPE, LEVELS), decoder="gaussian")
