"""Flow matching on Gaussian data, whose marginal velocity is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from models.diffusion.flow_matching import FlowMatching
from models.registry import DataSpec, build

pytestmark = pytest.mark.usefixtures("float64")
D, MEAN, SD, SIGMA = 2, 0.7, 0.5, 0.01


class ExactVelocity(nn.Module):
    """E[u | x_t] for data N(MEAN, SD² I), by the conditional mean of jointly Gaussian variables."""

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        t = t.reshape(-1, 1)
        scale = 1 - (1 - SIGMA) * t
        slope = (t * SD**2 - (1 - SIGMA) * scale) / (scale**2 + t**2 * SD**2)
        return MEAN + slope * (x - t * MEAN)


def gaussian_model(**options: object) -> FlowMatching:
    model = build("flow-matching", DataSpec((D,)), sigma=SIGMA, rtol=1e-8, atol=1e-8, **options).eval()
    model.chain.layers[1].field = ExactVelocity()
    return model


def test_likelihood_is_the_datas_blurred_by_sigma() -> None:
    truth, x = torch.distributions.Normal(MEAN, math.hypot(SD, SIGMA)), torch.randn(10, D)
    with torch.no_grad():
        torch.testing.assert_close(gaussian_model().log_prob(x), truth.log_prob(x).sum(1), rtol=0, atol=1e-6)


def test_loss_of_the_exact_velocity_is_the_conditional_variance() -> None:
    t = torch.linspace(0, 1, 20_001)
    scale = 1 - (1 - SIGMA) * t
    covariance = t * SD**2 - (1 - SIGMA) * scale
    conditional = SD**2 + (1 - SIGMA) ** 2 - covariance**2 / (scale**2 + t**2 * SD**2)
    expected = torch.trapezoid(conditional, t).item()
    model = gaussian_model()
    losses = torch.stack([model.loss(MEAN + SD * torch.randn(2000, D)) for _ in range(50)])
    assert abs(losses.mean().item() - expected) < 4 * losses.std().item() / math.sqrt(50)


@pytest.mark.parametrize("steps", [None, 100])
def test_samples_are_the_data(steps: int | None) -> None:
    with torch.no_grad():
        x = gaussian_model(sampling_steps=steps).sample(10_000)
    assert abs(x.mean().item() - MEAN) < 0.02
    assert abs(x.std().item() - SD) < 0.02


def test_training_learns_a_density() -> None:
    """A few steps on N(.7, .5²) bring the likelihood near minus the entropy, and never above it."""
    model = build("flow-matching", DataSpec((D,)), hidden=[32, 32], rtol=1e-4, atol=1e-4)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        model.loss(MEAN + SD * torch.randn(128, D)).backward()
        optimizer.step()
    truth = torch.distributions.Normal(MEAN, SD)
    x = truth.sample((1000, D))
    with torch.no_grad():
        gap = truth.log_prob(x).sum(1) - model.eval().log_prob(x)
    assert -3 * gap.std().item() / math.sqrt(1000) < gap.mean().item() < 0.1
