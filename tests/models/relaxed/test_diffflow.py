"""DiffFlow: the discrete chain against Gaussians evaluated step by step, its limits, its twin ODE, its samplers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torchdiffeq import odeint

from models.base import StandardNormal
from models.layer import ChainModel
from models.nets.time import TimeMLP
from models.registry import DataSpec, build
from models.relaxed.diffflow import DiffFlow, DiffusionPath

pytestmark = pytest.mark.usefixtures("float64")


class Linear(nn.Module):
    """The field c·x."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.slope * x


def network(seed: int = 0) -> TimeMLP:
    """A field that is not zero."""
    field = TimeMLP(2, [16])
    nn.init.normal_(field.output.weight, std=0.3)
    return field


def path(steps: int = 6, noise=(0.3, 0.9), **options) -> DiffusionPath:
    return DiffusionPath(network(), network(), steps, noise, **options)


def recorded(monkeypatch) -> list[Tensor]:
    """The standard normal draws from now on, in order."""
    draws, original = [], torch.randn_like
    monkeypatch.setattr(torch, "randn_like", lambda x: draws.append(original(x)) or draws[-1])
    return draws


def by_kernels(layer: DiffusionPath, states: list[Tensor]) -> Tensor:
    """Σ log N(x_i; backward mean and sd) - log N(x_{i+1}; forward mean and sd), one step at a time."""
    t = torch.linspace(0, 1, layer.steps + 1) ** (1 / 0.9)
    g = layer.log_noise.exp()[0] ** (1 - t) * layer.log_noise.exp()[1] ** t
    total = 0.0
    for i, (x, z) in enumerate(zip(states[:-1], states[1:], strict=True)):
        span = t[i + 1] - t[i]
        forward = Normal(x + layer.drift(t[i], x) * span, g[i] * span.sqrt())
        velocity = layer.drift(t[i + 1], z) - g[i + 1] ** 2 * layer.score(t[i + 1], z)
        backward = Normal(z - velocity * span, g[i + 1] * span.sqrt())
        total = total + backward.log_prob(x).sum(1) - forward.log_prob(z).sum(1)
    return total


def test_encode_contributes_the_ratio_of_its_gaussian_kernels(monkeypatch):
    layer, x = path(), torch.randn(5, 2)
    noises = recorded(monkeypatch)
    z, contribution = layer.encode(x)
    t = layer.grid(layer.steps)
    states = [x]
    for i, noise in enumerate(noises):
        span = t[i + 1] - t[i]
        states.append(states[-1] + layer.drift(t[i], states[-1]) * span + layer.diffusion(t[i]) * span.sqrt() * noise)
    torch.testing.assert_close(z, states[-1])
    torch.testing.assert_close(contribution, by_kernels(layer, states))


def test_decode_contributes_the_ratio_of_its_gaussian_kernels(monkeypatch):
    layer, z = path(), torch.randn(5, 2)
    noises = recorded(monkeypatch)
    x, contribution = layer.decode(z)
    t = layer.grid(layer.steps)
    states = [z]
    for i, noise in zip(reversed(range(layer.steps)), noises, strict=True):
        span, g, here = t[i + 1] - t[i], layer.diffusion(t[i + 1]), states[0]
        velocity = layer.drift(t[i + 1], here) - g**2 * layer.score(t[i + 1], here)
        states.insert(0, here - velocity * span + g * span.sqrt() * noise)
    torch.testing.assert_close(x, states[0])
    torch.testing.assert_close(contribution, by_kernels(layer, states))


def test_contribution_is_half_the_noises_and_the_volume(monkeypatch):
    """½ Σ (||δF||² - ||δB||²) - d log(g_N / g_0), with δF the noise that was drawn."""
    layer, x = path(steps=1), torch.randn(5, 2)
    (noises := recorded(monkeypatch)).clear()
    z, contribution = layer.encode(x)
    g = layer.log_noise.exp()[1]
    back = (x - z + layer.drift(torch.tensor(1.0), z) - g**2 * layer.score(torch.tensor(1.0), z)) / g
    expected = 0.5 * (noises[0] ** 2 - back**2).sum(1) - 2 * math.log(0.9 / 0.3)
    torch.testing.assert_close(contribution, expected)


def test_stationary_diffusion_is_scored_almost_exactly():
    """f = -½ g² x and s = -x keep N(0, I): the bound tends to log N(x) with the square of the step."""
    g, x = 1.2, torch.randn(200_000, 2)
    gaps = []
    for steps in (5, 10):
        model = DiffFlow([DiffusionPath(Linear(-(g**2) / 2), Linear(-1.0), steps, (g, g))], StandardNormal((2,)))
        gaps.append((model.base.log_prob(x) - model.log_prob(x)).mean().item())
    assert 0.003 < gaps[0] < 0.006
    assert gaps[1] == pytest.approx(gaps[0] / 4, rel=0.4)
    ode = model.probability_flow()
    torch.testing.assert_close(ode.log_prob(x[:20]), model.base.log_prob(x[:20]), atol=1e-5, rtol=0)


def test_a_bound_lies_below_what_importance_sampling_makes_of_it():
    model = DiffFlow([path()], StandardNormal((2,)))
    x = torch.randn(1000, 2)
    with torch.no_grad():
        bounds = [model.importance_bound(x, k).mean().item() for k in (1, 4, 16)]
    assert bounds[0] < bounds[1] < bounds[2]


def test_path_weights_are_unbiased():
    """Samples of the chain, weighted by N(0, I) / path probability, average to one."""
    g = 0.8
    layer = DiffusionPath(Linear(-0.3), Linear(-1.0), 8, (g, g))
    model = DiffFlow([layer], StandardNormal((2,)))
    with torch.no_grad():
        x, log_path = model.sample_with_log_prob(100_000)
    weights = (model.base.log_prob(x) - log_path).exp()
    error = (weights.std() / math.sqrt(len(weights))).item()
    assert error < 0.02
    assert abs(weights.mean().item() - 1) < 4 * error


def test_without_noise_the_path_is_the_euler_solution_of_the_flow():
    layer = DiffusionPath(network(), network(), 12, (1e-9, 1e-9))
    x, t = torch.randn(5, 2), torch.linspace(0, 1, 13) ** (1 / 0.9)
    flowed = odeint(layer.drift, x, t, method="euler")[-1]
    torch.testing.assert_close(layer.encode(x)[0], flowed)
    returned = odeint(layer.drift, flowed, t.flip(0), method="euler")[-1]
    torch.testing.assert_close(layer.simulate(flowed, None), returned)


def test_with_little_noise_and_fine_steps_the_bound_is_the_flow_s_likelihood():
    """g -> 0 after Δ -> 0: the score no longer matters and -½ Σ(δB² - δF²) becomes ∫ tr ∂f/∂x dt."""
    slope, g, steps = -0.5, 0.05, 4000
    layer = DiffusionPath(Linear(slope), Linear(0.0), steps, (g, g))
    _, contribution = layer.encode(0.1 * torch.randn(400, 2))
    error = (contribution.std() / math.sqrt(400)).item()
    assert contribution.mean().item() == pytest.approx(2 * slope, abs=4 * error + 0.02)


def test_decode_and_simulate_are_the_same_sampler():
    model = DiffFlow([path()], StandardNormal((2,)))
    torch.manual_seed(4)
    x = model.sample(6)
    torch.manual_seed(4)
    torch.testing.assert_close(model.sample_with_log_prob(6)[0], x)


def test_sampling_without_noise_approaches_the_ode():
    model = DiffFlow([path()], StandardNormal((2,)))
    z = model.base.sample(10)
    exact = model.probability_flow().chain.decode(z)[0]
    layer = model.chain.layers[0]
    errors = [(layer.simulate(z, None, steps, 0.0) - exact).abs().max().item() for steps in (50, 100)]
    assert errors[1] < 0.02
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.2)


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.5])
def test_every_noise_level_has_the_same_marginals(noise):
    """With f = -½ g² x and the true score -x, N(0, I) stays N(0, I) for every λ."""
    g = 1.2
    layer = DiffusionPath(Linear(-(g**2) / 2), Linear(-1.0), 1, (g, g))
    x = layer.simulate(torch.randn(100_000, 2), None, 50, noise)
    assert x.var().item() == pytest.approx(1, abs=0.02 + 4 * math.sqrt(2 / x.numel()))


def test_sampling_steps_and_noise_can_be_set_after_training(monkeypatch):
    model = DiffFlow([path()], StandardNormal((2,)))
    calls = []
    model.chain.layers[0].score.register_forward_hook(lambda *_: calls.append(1))
    model.sampling_steps = 3
    assert model.sample(4).shape == (4, 2)
    assert len(calls) == 3
    model.sampling_noise = 0.0
    torch.manual_seed(7)
    first = model.sample(4)
    torch.manual_seed(7)
    z = model.base.sample(4)
    torch.testing.assert_close(model.chain.layers[0].simulate(z, None, 3, 0.0), first)


def test_replay_changes_no_gradient():
    plain = path()
    replayed = DiffusionPath(plain.drift, plain.score, plain.steps, (0.3, 0.9), replay=True)
    x, gradients = torch.randn(5, 2), []
    for layer in (plain, replayed):
        torch.manual_seed(2)
        gradients.append(torch.autograd.grad(layer.encode(x)[1].sum(), [*plain.parameters()]))
    torch.testing.assert_close(*gradients)


def test_context_reaches_both_fields():
    layer = DiffusionPath(TimeMLP(2, [8], d_context=3), TimeMLP(2, [8], d_context=3), 4)
    for field in (layer.drift, layer.score):
        nn.init.normal_(field.output.weight)
    x, results = torch.randn(5, 2), []
    for context in (torch.zeros(5, 3), torch.ones(5, 3)):
        torch.manual_seed(1)
        results.append((*layer.encode(x, context), *layer.decode(x, context)))
    assert all(not torch.allclose(a, b) for a, b in zip(*results, strict=True))


def test_the_family_offers_the_bound_then_the_ode():
    model = build("diffflow", DataSpec((2,), mean=torch.ones(2), std=torch.tensor([1.0, 3.0])), steps=3, hidden=[8])
    kinds = [likelihood.kind for likelihood, _ in model.estimators()]
    assert kinds == ["lower_bound", "ode", "importance_bound"]
    assert isinstance(model, ChainModel)
    x = torch.randn(4, 2)
    untrained = Normal(0.0, 1.0).log_prob((x - 1) / torch.tensor([1.0, 3.0])).sum(1) - math.log(3)
    torch.testing.assert_close(model.estimators()[1][1](x), untrained)


def test_a_trained_bound_stays_below_the_ode():
    """Not a theorem, since the ODE is another sampler: it holds where training has made s nearly the score."""
    model = build("diffflow", DataSpec((2,)), steps=10, hidden=[32], noise=[0.4, 0.4])
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)

    def ring(n: int) -> Tensor:
        angle = 2 * math.pi * torch.rand(n)
        return 1.5 * torch.stack([angle.cos(), angle.sin()], 1) + 0.3 * torch.randn(n, 2)

    for _ in range(150):
        optimizer.zero_grad()
        model.loss(ring(128)).backward()
        optimizer.step()
    with torch.no_grad():
        x = ring(2000)
        bound, ode, tighter = (score(x) for _, score in model.estimators())
    assert bound.mean() < tighter.mean()
    assert (bound - ode).mean() < 3 * (bound - ode).std() / math.sqrt(2000)


def test_nonsense_is_refused_in_one_line():
    with pytest.raises(ValueError, match="steps >= 1 and two noise levels > 0"):
        DiffusionPath(Linear(0.0), Linear(0.0), 0)
