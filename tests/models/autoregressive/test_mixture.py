from __future__ import annotations

import math

import pytest
import torch
from nflows.nn.nde.made import MixtureOfGaussiansMADE
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, Normal
from torch.nn.functional import softplus

from models.autoregressive.mixture import AutoregressiveMixture, draw, mixture_log_density
from models.nets.made import MADE
from models.nets.recurrent import Recurrent
from models.nets.transformer import CausalTransformer
from models.registry import DataSpec, build

pytestmark = pytest.mark.usefixtures("float64")
NETWORKS = {
    "made": lambda dim, parts: MADE(dim, [16, 16], 3 * parts),
    "recurrent": lambda dim, parts: Recurrent(dim, 3 * parts, hidden=8),
    "transformer": lambda dim, parts: CausalTransformer(dim, 3 * parts, width=8, heads=2, layers=1),
}


def mixture(network: str = "made", dim: int = 2, parts: int = 3, gain: float = 3.0) -> AutoregressiveMixture:
    made = AutoregressiveMixture(NETWORKS[network](dim, parts)).eval()
    with torch.no_grad():
        made.network.last.weight *= gain
    return made


def grid(low: float, high: float, n: int) -> tuple[Tensor, float]:
    """Points of a plane and the area of each cell."""
    axis = torch.linspace(low, high, n)
    return torch.cartesian_prod(axis, axis), float(axis[1] - axis[0]) ** 2


def plain(made: AutoregressiveMixture, x: Tensor) -> Tensor:
    """The definition, by torch's own distributions, one element after another."""
    total = torch.zeros(len(x))
    for i in range(x.shape[1]):
        seen = torch.cat([x[:, :i], torch.full_like(x[:, i:], 7.0)], 1)  # what must not be read is something else
        logits, means, log_stds = made.network(seen)[:, i].chunk(3, 1)
        total += MixtureSameFamily(Categorical(logits=logits), Normal(means, log_stds.exp())).log_prob(x[:, i])
    return total


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("parts", [1, 4])
def test_it_is_the_product_of_its_conditionals(network: str, parts: int) -> None:
    made, x = mixture(network, 5, parts), 2 * torch.randn(40, 5)
    torch.testing.assert_close(made.log_prob(x), plain(made, x), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("network", NETWORKS)
def test_it_integrates_to_one(network: str) -> None:
    points, area = grid(-12, 12, 500)
    with torch.no_grad():
        assert float(mixture(network, gain=1.0).log_prob(points).exp().sum() * area) == pytest.approx(1, abs=1e-5)


@torch.no_grad()
def test_it_is_nflows() -> None:
    """With copied weights. Its deviations are softplus(·) + .01, here e^(·): they agree where x does not move them."""
    dim, parts, hidden = 5, 4, 16
    theirs = MixtureOfGaussiansMADE(dim, hidden, num_blocks=2, num_mixture_components=parts)
    for parameter in theirs.parameters():
        parameter.normal_(std=0.5)
    last = theirs.final_layer
    last.weight.view(dim, parts, 3, hidden)[:, :, 2] = 0
    made = MADE(dim, [hidden, hidden], 3 * parts, residual=True)
    order = (torch.arange(hidden) % (dim - 1)).argsort(stable=True)  # hidden units ascend in degree here
    made.first.weight.copy_(theirs.initial_layer.weight[order])
    made.first.bias.copy_(theirs.initial_layer.bias[order])
    for block, other in zip(made.blocks, theirs.blocks, strict=True):
        linears = [module for module in block if isinstance(module, nn.Linear)]
        for mine, its in zip(linears, other.linear_layers, strict=True):
            mine.weight.copy_(its.weight[order][:, order])
            mine.bias.copy_(its.bias[order])
    base = AutoregressiveMixture(made)
    # nflows puts the three numbers of a part together, here all logits come first, then all means.
    made.last.weight.copy_(last.weight.view(dim, parts, 3, hidden).transpose(1, 2).reshape(-1, hidden)[:, order])
    bias = last.bias.view(dim, parts, 3).transpose(1, 2).clone()
    bias[:, 2] = torch.log(softplus(bias[:, 2]) + theirs.epsilon)
    made.last.bias.copy_(bias.reshape(-1))
    x = torch.cat([torch.randn(30, dim), 30 * torch.randn(10, dim)])
    torch.testing.assert_close(base.log_prob(x), theirs.log_prob(x), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("network", NETWORKS)
@torch.no_grad()
def test_samples_are_those_of_the_textbook(network: str) -> None:
    """The same random numbers in D full passes, one element drawn in each."""
    made = mixture(network, 6)
    torch.manual_seed(3)
    samples = made.sample(9)
    torch.manual_seed(3)
    x = torch.zeros(9, 6)
    for i in range(6):
        x[:, i] = draw(made.network(x)[:, i])
    torch.testing.assert_close(samples, x, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("network", NETWORKS)
@torch.no_grad()
def test_samples_have_the_density(network: str) -> None:
    """Means of several functions over 20,000 draws against the integral on a grid, within four standard errors."""
    made, n = mixture(network, gain=1.0), 20_000
    points, area = grid(-12, 12, 400)
    weight = made.log_prob(points).exp() * area
    samples = made.sample(n)
    for f in (
        lambda v: v[:, 0],
        lambda v: v[:, 1] ** 2,
        lambda v: v[:, 0] * v[:, 1],
        lambda v: torch.cos(2 * v[:, 1] - v[:, 0]),
        made.log_prob,
    ):
        expected, found = (weight * f(points)).sum(), f(samples)
        assert abs(found.mean() - expected) < 4 * found.std() / math.sqrt(n) + 1e-4


def test_far_points_have_finite_scores_and_gradients() -> None:
    for dtype in (torch.float32, torch.float64):
        made = mixture(dim=4, gain=1.0).to(dtype)
        x = torch.tensor([1e6, -1e6, 1e6, 0.0], dtype=dtype).expand(3, 4).clone().requires_grad_()
        params = (20 * torch.randn(3, 4, 15, dtype=dtype)).requires_grad_()  # with σ far too small for a square
        score = mixture_log_density(x, params)
        gradients = torch.autograd.grad(score.sum(), [x, params])
        assert all(torch.isfinite(value).all() for value in (score, *gradients))
        assert torch.isfinite(made.log_prob(x.detach() / 1e3)).all()


def test_equal_parts_are_one_gaussian() -> None:
    x, mean, log_std = torch.randn(3), torch.randn(3), torch.randn(3)
    params = torch.stack([torch.randn(3), torch.randn(3), mean, mean, log_std, log_std], 1)
    torch.testing.assert_close(mixture_log_density(x, params), Normal(mean, log_std.exp()).log_prob(x))


def test_parts_start_apart() -> None:
    means = mixture(dim=3, parts=10).network(torch.zeros(1, 3)).unflatten(-1, (3, 10))[0, :, 1]
    assert (means.std(1) > 0.4).all()


def test_made_learns_a_mixture_that_one_gaussian_cannot() -> None:
    """x_1 = ±2, x_2 = x_1 x_1 / 2 ± 1, all with a little noise: four modes, entropy log 4 + 2 log(.2 √(2πe))."""
    n = 4000
    sign = torch.randint(0, 2, (n, 2)) * 2.0 - 1
    x = torch.stack([2 * sign[:, 0], 2 + sign[:, 1]], 1) + 0.2 * torch.randn(n, 2)
    entropy = math.log(4) + 2 * math.log(0.2 * math.sqrt(2 * math.pi * math.e))
    spec = DataSpec((2,), mean=x.mean(0), std=x.std(0))
    scores = {}
    for components in (1, 4):
        torch.manual_seed(1)
        model = build("made", spec, hidden=[32], components=components)
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for step in range(300):
            loss = model.loss(x[(torch.arange(400) + 400 * step) % n])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scores[components] = -model.log_prob(x).mean().item()
    assert scores[4] == pytest.approx(entropy, abs=0.1)
    assert scores[1] > entropy + 1


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="components is 0"):
        build("made", DataSpec((2,)), components=0)
    with pytest.raises(ValueError, match="made takes vectors"):
        build("made", DataSpec((1, 4, 4), levels=4))
    with pytest.raises(ValueError, match="4 outputs per element"):
        AutoregressiveMixture(MADE(2, [4], 4))


def test_networks_are_modules_of_the_base() -> None:
    assert any(isinstance(module, nn.GRU) for module in mixture("recurrent").modules())
