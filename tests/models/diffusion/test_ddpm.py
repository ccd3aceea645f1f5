"""DDPM against Gaussian data, for which the optimal denoiser and the exact likelihood are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from models.diffusion.ddpm import DDPM, Diffusion, DiscretizedStep, log_normal_mass, noise_schedule
from models.registry import DataSpec, build

pytestmark = pytest.mark.usefixtures("float64")
D = 2


class OptimalNoise(nn.Module):
    """E[ε | x_t] = sqrt(1 - ᾱ) x_t / (ᾱ s² + 1 - ᾱ) for data N(0, s² I)."""

    def __init__(self, diffusion: Diffusion, s: float) -> None:
        super().__init__()
        self.alpha_bar, self.s = diffusion.alpha_bar, s

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        index = (t * len(self.alpha_bar)).round().long() - 1
        bar = self.alpha_bar[index].reshape(-1, *[1] * (x.dim() - 1))
        return (1 - bar).sqrt() * x / (bar * self.s**2 + 1 - bar)


def gaussian_ddpm(s: float, steps: int, **options: object) -> DDPM:
    model = build("ddpm", DataSpec((D,)), steps=steps, **options).eval()
    model.diffusion.network = OptimalNoise(model.diffusion, s)
    return model


def test_stationary_data_make_every_path_exact() -> None:
    """For N(0, I) data the reverse kernels are the true ones: each path's estimate is log p(x), with no noise."""
    model, x = gaussian_ddpm(1.0, 30), torch.randn(5, D)
    exact = model.base.log_prob(x)
    torch.testing.assert_close(model.log_prob(x), exact)
    torch.testing.assert_close(model.importance_bound(x, 3), exact)


def test_the_bound_is_below_the_exact_value_and_tightens_with_t() -> None:
    s = 0.5
    truth = torch.distributions.Normal(0.0, s)
    x = truth.sample((4000, D))
    gaps = []
    for steps in (10, 40, 160, 640):
        gap = truth.log_prob(x).sum(1) - gaussian_ddpm(s, steps).log_prob(x)
        gaps.append(gap.mean().item())
        assert gaps[-1] > -3 * gap.std().item() / math.sqrt(len(x))
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2] > 8 * gaps[3]
    assert gaps[3] < 0.03


@pytest.mark.parametrize("variance", ["large", "small"])
def test_analytic_training_bound_and_path_estimate_agree_in_expectation(variance: str) -> None:
    model = gaussian_ddpm(0.5, 8, variance=variance, loss="bound")
    x = torch.tensor([[0.4, -0.8]])
    paths = model.log_prob(x.expand(40_000, D))
    losses = torch.stack([model.loss(x.expand(64, D)) for _ in range(800)])
    error = math.hypot(paths.std().item() / 200, losses.std().item() / math.sqrt(800))
    assert abs(paths.mean().item() + losses.mean().item()) < 4 * error
    assert error < 0.01 * abs(paths.mean().item())  # sharp enough to see a wrong term


def test_simple_loss_of_the_optimal_denoiser_is_the_conditional_variance() -> None:
    s = 0.5
    model = gaussian_ddpm(s, 20, loss="simple")
    bar = model.diffusion.alpha_bar
    expected = (bar * s**2 / (bar * s**2 + 1 - bar)).mean().item()
    losses = torch.stack([model.loss(s * torch.randn(1000, D)) for _ in range(50)])
    assert abs(losses.mean().item() - expected) < 4 * losses.std().item() / math.sqrt(50)


@pytest.mark.parametrize("sampling_steps", [100, 200])
def test_samples_of_the_optimal_denoiser_are_the_data(sampling_steps: int) -> None:
    """200 of 200: ancestral; 100: DDIM. Both approach N(0, s²) as T grows."""
    model = gaussian_ddpm(0.5, 200, sampling_steps=sampling_steps)
    x = model.sample(20_000)
    assert abs(x.mean().item()) < 0.02
    assert abs(x.std().item() - 0.5) < 0.02


def test_fewer_steps_are_fewer_passes_and_no_noise() -> None:
    model = build("ddpm", DataSpec((D,)), steps=20, hidden=[8]).eval()
    calls = []
    model.diffusion.network.register_forward_hook(lambda *_: calls.append(1))
    for steps in (20, 7, 1):
        model.sampling_steps = steps
        calls.clear()
        model.sample(3)
        assert len(calls) == steps
    model.sampling_steps = 21
    with pytest.raises(ValueError, match="takes 1 to 20"):
        model.sample(3)


def test_the_network_is_kept_once() -> None:
    model = build("ddpm", DataSpec((D,)), steps=50, hidden=[8])
    own = {name.removeprefix("diffusion.network.") for name in model.state_dict()}
    assert own == set(model.diffusion.network.state_dict())


def discretized(levels: int) -> DiscretizedStep:
    return DiscretizedStep(Diffusion(nn.Identity(), noise_schedule("linear", 10)), levels)


@pytest.mark.parametrize("mean", [-1.3, -0.2, 0.0, 0.9, 5.0])
@pytest.mark.parametrize("log_std", [-3.0, 0.0])
def test_discretised_decoder_is_a_distribution(mean: float, log_std: float) -> None:
    step, levels = discretized(7), torch.arange(7)
    x = step.to_real(levels)[:, None]
    log_p = step.log_likelihood(x, torch.full_like(x, mean), torch.tensor(log_std))
    assert torch.isfinite(log_p).all()
    assert math.isclose(log_p.exp().sum().item(), 1, abs_tol=1e-12)
    assert torch.equal(step.to_data(x[:, 0]), levels)


def test_log_normal_mass_by_quadrature_and_in_the_tail() -> None:
    normal = torch.distributions.Normal(0.0, 1.0)
    lower, upper = torch.tensor([-3.0, -0.5, -math.inf]), torch.tensor([-2.0, 0.7, 0.1])
    torch.testing.assert_close(log_normal_mass(lower, upper), (normal.cdf(upper) - normal.cdf(lower)).log())
    far = log_normal_mass(torch.tensor(-41.0), torch.tensor(-40.0))  # beyond the range of Φ
    assert -805 < far.item() < -800  # φ(40) / 40 = exp(-804.6)


def test_integers_score_as_integers() -> None:
    """The optimal noise for N(0, 1) generates N(0, 1), so P(level) is the normal mass of its cell."""
    model = build("ddpm", DataSpec((1, 1, 1), levels=33), steps=20, hidden=[8]).eval()
    model.diffusion.network = OptimalNoise(model.diffusion, 1.0)
    levels = torch.arange(4, 29, 4)  # the outer two take the tails, which a path hardly visits
    normal = torch.distributions.Normal(0.0, 1.0)
    edges = [(2 * (levels + shift) / 32 - 1) for shift in (-0.5, 0.5)]
    truth = (normal.cdf(edges[1]) - normal.cdf(edges[0])).log()
    images = levels.reshape(-1, 1, 1, 1)
    paths = model.log_prob(images.expand(-1, 4000, 1, 1).reshape(-1, 1, 1, 1)).reshape(-1, 4000)
    torch.testing.assert_close(paths.mean(1), truth, rtol=0, atol=0.02)  # cells far finer than β_1: nearly tight


def test_schedules() -> None:
    linear = noise_schedule("linear", 1000)
    torch.testing.assert_close(linear[[0, -1]], torch.tensor([1e-4, 0.02]))
    short = torch.cumprod(1 - noise_schedule("linear", 100), 0)[-1].log()
    torch.testing.assert_close(short, torch.cumprod(1 - linear, 0)[-1].log(), rtol=0.15, atol=0)
    half = torch.cumprod(1 - noise_schedule("cosine", 1000), 0)[499]
    shifted = [math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2 for t in (0.5, 0.0)]
    assert math.isclose(half.item(), shifted[0] / shifted[1], rel_tol=1e-9)
    for options, message in (
        ({"schedule": "quadratic"}, "linear or cosine"),
        ({"variance": "huge"}, "large or small"),
        ({"loss": "l1"}, "bound or simple"),
    ):
        with pytest.raises(ValueError, match=message):
            build("ddpm", DataSpec((D,)), steps=5, **options)
