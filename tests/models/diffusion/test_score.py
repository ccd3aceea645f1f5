"""Score SDEs against Gaussian data, whose score at every time is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from models.diffusion.score import VPSDE, Score, ScoreSDE
from models.registry import DataSpec, build

pytestmark = pytest.mark.usefixtures("float64")
D, MEAN, SD = 2, 0.5, 0.6


class ExactScore(Score):
    """The score of x_t for data N(MEAN, SD² I)."""

    def __init__(self, sde: VPSDE) -> None:
        super().__init__(sde, nn.Identity())

    def noise(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        factor, std = self.sde.marginal(t, x)
        return std * (x - factor * MEAN) / (factor**2 * SD**2 + std**2)


def gaussian_model(**options: object) -> ScoreSDE:
    """With so much noise that nothing of the data is left at t = 1."""
    model = build("score-sde-vp", DataSpec((D,)), beta_max=50.0, **options).eval()
    field = model.chain.layers[1].field
    field.score = ExactScore(field.sde)
    return model


def test_probability_flow_gives_the_true_density() -> None:
    model = gaussian_model(eps=1e-6, rtol=1e-7, atol=1e-7)
    truth = torch.distributions.Normal(MEAN, SD)
    x = truth.sample((20, D))
    with torch.no_grad():
        torch.testing.assert_close(model.log_prob(x), truth.log_prob(x).sum(1), rtol=0, atol=1e-4)


def test_time_stops_at_eps_without_correction() -> None:
    """The documented meaning: log_prob is the density of x_eps, a little wider than the data."""
    model = gaussian_model(eps=0.05, rtol=1e-7, atol=1e-7)
    factor, std = (v.item() for v in VPSDE(0.1, 50.0).marginal(torch.tensor(0.05), torch.zeros(())))
    blurred = torch.distributions.Normal(factor * MEAN, math.hypot(factor * SD, std))
    x = torch.randn(10, D)
    with torch.no_grad():
        torch.testing.assert_close(model.log_prob(x), blurred.log_prob(x).sum(1), rtol=0, atol=1e-4)


def test_marginal_solves_the_sdes_moment_equations() -> None:
    """d factor/dt = -½ β factor and d std²/dt = β (1 - std²)."""
    sde, t = VPSDE(), torch.linspace(0.01, 1, 7, requires_grad=True)
    factor, std = sde.marginal(t, t.detach())
    beta = sde.rate(t, t.detach())
    for value, slope in ((factor, -0.5 * beta * factor), (std**2, beta * (1 - std**2))):
        torch.testing.assert_close(torch.autograd.grad(value.sum(), t, retain_graph=True)[0], slope.detach())


@pytest.mark.parametrize("weighting", ["simple", "likelihood"])
def test_loss_of_the_exact_score_is_the_conditional_variance_over_its_times(weighting: str) -> None:
    """E ||ε - E[ε|x_t]||² = factor² SD² / (factor² SD² + std²), averaged over the weighting's density of times."""
    model = gaussian_model(weighting=weighting, eps=1e-3)
    sde = model.score.sde
    t = torch.linspace(1e-3, 1, 200_001)
    factor, std = sde.marginal(t, t)
    variance = factor**2 * SD**2 / (factor**2 * SD**2 + std**2)
    density = torch.ones_like(t) if weighting == "simple" else sde.rate(t, t) / std**2
    expected = (torch.trapezoid(density * variance, t) / torch.trapezoid(density, t)).item()
    losses = torch.stack([model.loss(MEAN + SD * torch.randn(2000, D)) for _ in range(50)])
    assert abs(losses.mean().item() - expected) < 4 * losses.std().item() / math.sqrt(50) + 1e-4


@pytest.mark.parametrize(
    ("sampler", "steps", "passes"),
    [("pc", 200, 399), ("euler-maruyama", 400, 400), ("langevin", 1000, 1000), ("ode", 400, 400)],
)
def test_every_sampler_draws_the_data(sampler: str, steps: int, passes: int) -> None:
    model = gaussian_model(sampler=sampler, sampling_steps=steps, eps=1e-4, snr=0.3)
    calls = []
    model.score.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        x = model.sample(4000)
    assert len(calls) == passes
    # Discretisation errs by a few hundredths; sampling by .007.
    assert abs(x.mean().item() - MEAN) < 0.05
    assert abs(x.std().item() - SD) < 0.05


def test_adaptive_ode_samples_invert_the_scoring() -> None:
    model = gaussian_model(sampler="ode", sampling_steps=None, eps=1e-5, rtol=1e-7, atol=1e-7)
    with torch.no_grad():
        torch.manual_seed(5)
        x = model.sample(4)
        torch.manual_seed(5)
        torch.testing.assert_close(model.chain.encode(x)[0], model.base.sample(4), rtol=0, atol=1e-4)


def test_an_untrained_model_is_its_prior() -> None:
    model, x = build("score-sde-vp", DataSpec((D,)), hidden=[8]).eval(), torch.randn(4, D)
    with torch.no_grad():
        torch.testing.assert_close(model.log_prob(x), model.base.log_prob(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weighting": "exact"}, "simple or likelihood"),
        ({"sampler": "heun"}, "it takes pc, euler-maruyama, langevin, ode"),
        ({"sampling_steps": None}, "needs sampling_steps"),
    ],
)
def test_refusals(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build("score-sde-vp", DataSpec((D,)), **options)
