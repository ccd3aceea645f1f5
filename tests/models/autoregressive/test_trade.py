from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, Normal

from models.autoregressive.trade import BANDWIDTHS, TraDE, relaxed_sample, squared_mmd
from models.registry import DataSpec, build

pytestmark = pytest.mark.usefixtures("float64")
SMALL = {"components": 3, "width": 16, "heads": 2, "layers": 2, "dropout": 0.0}


def trade(dim: int = 2, **settings: object) -> TraDE:
    return build("trade", DataSpec((dim,), mean=torch.ones(dim), std=2 * torch.ones(dim)), **SMALL | settings)


@pytest.mark.parametrize("position", ["learned", "recurrent"])
def test_it_integrates_to_one(position: str) -> None:
    model = trade(position=position).eval()
    axis = torch.linspace(-20, 20, 320)
    with torch.no_grad():
        density = model.log_prob(torch.cartesian_prod(axis, axis)).exp()
    assert float(density.sum() * (axis[1] - axis[0]) ** 2) == pytest.approx(1, abs=1e-5)


def plain_mmd(x: Tensor, y: Tensor) -> float:
    """Gretton's equation 3, pair by pair."""
    both = [*x, *y]
    pairs = [((a - b) ** 2).sum().item() for i, a in enumerate(both) for j, b in enumerate(both) if i != j]
    scale = sum(pairs) / len(pairs)

    def kernel(a: Tensor, b: Tensor) -> float:
        square = ((a - b) ** 2).sum().item()
        return sum(math.exp(-square / (2 * width * scale)) for width in BANDWIDTHS) / len(BANDWIDTHS)

    n = len(x)
    within = sum(kernel(v[i], v[j]) for v in (x, y) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    return within - 2 * sum(kernel(a, b) for a in x for b in y) / n**2


def test_mmd_is_the_plain_sum() -> None:
    x, y = torch.randn(7, 3), 1 + torch.randn(7, 3)
    assert squared_mmd(x, y).item() == pytest.approx(plain_mmd(x, y), abs=1e-10)


def test_mmd_is_unbiased_under_equality_and_sees_a_difference() -> None:
    """Over 400 pairs of samples: mean zero within four standard errors where they agree."""
    same = torch.stack([squared_mmd(torch.randn(20, 2), torch.randn(20, 2)) for _ in range(400)])
    other = torch.stack([squared_mmd(torch.randn(20, 2), 1 + torch.randn(20, 2)) for _ in range(100)])
    assert abs(same.mean()) < 4 * same.std() / 20
    assert other.mean() > 0.05


def test_mmd_has_finite_gradients_at_coincident_points() -> None:
    x = torch.randn(5, 2)
    y = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(squared_mmd(x, y), y)
    assert torch.isfinite(gradient).all()


def test_relaxed_samples_are_the_mixtures_at_low_temperature() -> None:
    """The first element's distribution function, over 20,000 draws, within four standard errors."""
    model, n = trade().eval(), 20_000
    with torch.no_grad():
        samples = relaxed_sample(model.base.network, torch.zeros(n, 2), None, temperature=0.01)
        logits, means, log_stds = model.base.network(torch.zeros(1, 2))[0, 0].chunk(3)
    exact = MixtureSameFamily(Categorical(logits=logits), Normal(means, log_stds.exp()))
    for point in (-1.0, 0.0, 0.5, 2.0):
        share = exact.cdf(torch.tensor(point))
        error = math.sqrt(share * (1 - share) / n)
        assert abs((samples[:, 0] <= point).double().mean() - share) < 4 * error + 0.002


def test_the_gradient_of_relaxed_samples_is_that_of_differences() -> None:
    """Under fixed random numbers, with respect to one weight of every kind."""
    model = trade(dim=3, position="recurrent").eval()

    def value() -> Tensor:
        torch.manual_seed(5)
        return relaxed_sample(model.base.network, torch.zeros(4, 3), None, temperature=0.7).square().sum()

    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(value(), parameters.values(), allow_unused=True)
    for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
        assert gradient is not None, name
        entry, step = int(gradient.abs().argmax()), 1e-5
        flat = parameter.data.view(-1)
        flat[entry] += step
        above = value().item()
        flat[entry] -= 2 * step
        below = value().item()
        flat[entry] += step
        assert (above - below) / (2 * step) == pytest.approx(gradient.reshape(-1)[entry].item(), rel=1e-4, abs=1e-6)


def test_the_penalty_is_in_the_loss_and_not_in_the_score() -> None:
    plain, penalised, x = trade(), trade(penalty=2.0), torch.randn(30, 2)
    penalised.load_state_dict(plain.state_dict())
    assert torch.equal(plain.log_prob(x), penalised.log_prob(x))
    torch.testing.assert_close(plain.loss(x), -plain.log_prob(x).mean())
    torch.manual_seed(1)
    loss = penalised.loss(x)
    torch.manual_seed(1)
    z, _ = penalised.chain.encode(x)
    extra = squared_mmd(relaxed_sample(penalised.base.network, z, None, 1.0), z)
    torch.testing.assert_close(loss, -plain.log_prob(x).mean() + 2 * extra)


def test_it_learns_a_curve() -> None:
    """x_1 ~ N(0, 1), x_2 = x_1² / 2 + .3 ε: a score near the entropy log 2πe + log .3, with the penalty too."""
    x = torch.randn(4096, 2)
    x[:, 1] = x[:, 0] ** 2 / 2 + 0.3 * x[:, 1]
    entropy = math.log(2 * math.pi * math.e) + math.log(0.3)
    for penalty in (0.0, 0.5):
        torch.manual_seed(2)
        model = trade(penalty=penalty, width=32, layers=1)
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        for step in range(200):
            loss = model.loss(x[(torch.arange(128) + 128 * step) % len(x)])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            assert -model.eval().log_prob(x).mean().item() == pytest.approx(entropy, abs=0.15)


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="penalty is -1"):
        trade(penalty=-1)
    with pytest.raises(ValueError, match="batches of at least two rows, not 1"):
        squared_mmd(torch.zeros(1, 2), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="trade takes vectors"):
        build("trade", DataSpec((1, 4, 4), levels=4))
