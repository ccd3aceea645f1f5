from __future__ import annotations

import math

import pytest
import torch
import zuko
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from torch import Tensor

from models.baselines import LearnedMixture
from models.flows.gaussianization import KernelLayer, log_mills, log_normal_quantile
from models.flows.linear import Householder, Rotation
from models.registry import DataSpec, build

pytestmark = pytest.mark.usefixtures("float64")


def kernels(dim: int, anchors: int, spread: float = 0.5) -> KernelLayer:
    layer = KernelLayer(dim, anchors, "normal")
    with torch.no_grad():
        layer.log_widths.add_(spread * torch.randn_like(layer.log_widths))
    return layer


def reflections_one_by_one(vectors: Tensor) -> Tensor:
    product = torch.eye(len(vectors))
    for v in vectors.T:
        product = product @ (torch.eye(len(v)) - 2 * torch.outer(v, v) / (v @ v))
    return product


@pytest.mark.parametrize(("dim", "count"), [(1, 1), (3, 2), (5, 5), (4, 9)])
def test_householder_is_the_product_of_its_reflections(dim: int, count: int) -> None:
    orthogonal = Householder(dim, count)
    q = orthogonal.matrix()
    torch.testing.assert_close(q, reflections_one_by_one(orthogonal.vectors))
    torch.testing.assert_close(q.T @ q, torch.eye(dim))
    assert torch.linalg.det(q).item() == pytest.approx((-1) ** count)


def test_householder_takes_a_reflection_at_least() -> None:
    with pytest.raises(ValueError, match="reflections is 0"):
        Householder(3, 0)


def test_rotation_keeps_lengths() -> None:
    x = torch.randn(5, 4)
    z, log_det = Rotation(4, 4).encode(x)
    torch.testing.assert_close(z.norm(dim=1), x.norm(dim=1))
    assert (log_det == 0).all()


def test_the_quantile_of_a_logarithm_is_scipys_from_a_half_to_nothing() -> None:
    log_p = -torch.cat([torch.linspace(math.log(2), 60, 4000), torch.logspace(1.5, 12, 500)])
    expected = torch.from_numpy(special.ndtri_exp(log_p.numpy()))
    torch.testing.assert_close(log_normal_quantile(log_p), expected, rtol=2e-12, atol=1e-14)  # scipy errs by 7e-13
    single = log_normal_quantile(log_p.float()).double()
    expected = torch.from_numpy(special.ndtri_exp(log_p.float().double().numpy()))
    torch.testing.assert_close(single, expected, rtol=1e-6, atol=2e-7)


def test_the_mills_ratio_is_scipys_and_so_is_its_slope() -> None:
    z = -torch.cat([torch.linspace(0, 100, 3000), torch.logspace(2, 6, 100)]).requires_grad_()
    x = z.detach().numpy()
    value = log_mills(z)
    slope = torch.autograd.grad(value.sum(), z)[0]
    # log Φ/φ = log(√(π/2) erfcx(-z/√2)); its slope is φ/Φ + z, which cancels, so that only |z| < 100 can be compared.
    expected = torch.from_numpy(special.erfcx(-x / math.sqrt(2))).log() + 0.5 * math.log(math.pi / 2)
    torch.testing.assert_close(value.detach(), expected, rtol=1e-11, atol=1e-12)
    near = z.detach() > -100
    ratio = torch.from_numpy(1 / special.erfcx(-x / math.sqrt(2))) * math.sqrt(2 / math.pi) + z.detach()
    torch.testing.assert_close(slope[near], ratio[near], rtol=1e-8, atol=0)


def test_the_quantile_can_be_differentiated_twice() -> None:
    log_p = -torch.tensor([0.8, 3.0, 50.0, 1e4]).requires_grad_()
    assert torch.autograd.gradcheck(log_normal_quantile, log_p, eps=1e-5, atol=1e-6)
    assert torch.autograd.gradgradcheck(log_normal_quantile, log_p, eps=1e-4, atol=1e-6)


def test_kernels_are_scipys_logistic_mixture() -> None:
    layer = kernels(1, 5)
    x = torch.linspace(-6, 6, 101)[:, None]
    mu, h = layer.anchors.detach().numpy()[:, 0], layer.log_widths.detach().exp().numpy()[:, 0]
    parts = stats.logistic(mu, h)
    cdf, pdf = parts.cdf(x.numpy()).mean(1), parts.pdf(x.numpy()).mean(1)
    z, log_slope = layer.encode(x)
    torch.testing.assert_close(z[:, 0].detach(), torch.from_numpy(special.ndtri(cdf)), rtol=1e-8, atol=1e-10)
    expected = torch.from_numpy(pdf).log() - torch.distributions.Normal(0.0, 1.0).log_prob(z[:, 0])
    torch.testing.assert_close(log_slope, expected, rtol=1e-8, atol=1e-8)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=8),
    st.sampled_from([torch.float32, torch.float64]),
    st.floats(-16, 8),
)
def test_value_slope_and_gradients_are_finite_however_far_out(
    points: list[float], dtype: torch.dtype, log_width: float
) -> None:
    layer = KernelLayer(1, 3, "normal").to(dtype)
    with torch.no_grad():
        layer.log_widths.fill_(log_width)
        layer.anchors.copy_(torch.tensor([[-1.0], [0.0], [2.0]]))
    x = torch.tensor([*points, -1e6, 1e6, 0.0, 2.0], dtype=dtype)[:, None].requires_grad_()
    z, log_slope = layer.encode(x)
    gradients = torch.autograd.grad(z.sum() + log_slope.sum(), [x, layer.anchors, layer.log_widths])
    assert all(torch.isfinite(value).all() for value in (z, log_slope, *gradients))
    assert (z[x[:, 0].argsort()].diff(dim=0) >= -1e-6 * (1 + z.abs().max())).all()


def test_far_tails_are_those_of_a_logistic() -> None:
    """log F = -|x - μ| / h there, so that log dz/dx is log 1/h plus the logarithm of Mills' ratio."""
    layer = KernelLayer(1, 1, "normal")
    with torch.no_grad():
        layer.anchors.fill_(0.5)
        layer.log_widths.fill_(math.log(0.01))
    x = torch.tensor([[-1e6], [-1e3], [1e3], [1e6]])
    z, log_slope = layer.encode(x)
    log_tail = -(x[:, 0] - 0.5).abs() / 0.01
    expected = torch.sign(x[:, 0]) * -torch.from_numpy(special.ndtri_exp(log_tail.numpy()))
    torch.testing.assert_close(z[:, 0], expected, rtol=1e-12, atol=0)
    mills = torch.from_numpy(special.erfcx(expected.abs().numpy() / math.sqrt(2))) * math.sqrt(math.pi / 2)
    torch.testing.assert_close(log_slope, mills.log() - math.log(0.01), rtol=1e-12, atol=1e-12)


def test_zukos_tails_are_flat_and_ours_are_not() -> None:
    x = torch.tensor([50.0, 100.0])
    theirs, slope = zuko.transforms.GaussianizationTransform(torch.zeros(2, 1), torch.zeros(2, 1)).call_and_ladj(x)
    assert theirs[0] == theirs[1] and slope.isinf().all()
    mine, log_slope = KernelLayer(1, 1, "normal").encode(x[:, None])
    assert mine[1] > mine[0] + 1 and torch.isfinite(log_slope).all()


def test_the_inverse_returns_from_far_out() -> None:
    layer = kernels(3, 7)
    x = torch.cat([3 * torch.randn(50, 3), torch.tensor([[-1e6, 1e6, 0.0], [1e4, -1e3, 30.0]])])
    z, there = layer.encode(x)
    back, again = layer.decode(z)
    torch.testing.assert_close(back, x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(again, there, rtol=1e-7, atol=1e-7)
    forth, _ = layer.encode(layer.decode(z)[0])
    torch.testing.assert_close(forth, z, rtol=1e-10, atol=1e-10)


def test_anchors_start_at_the_quantiles_of_the_first_batch_and_stay() -> None:
    layer = KernelLayer(2, 4)
    first = torch.tensor([3.0, -20.0]) + torch.tensor([2.0, 5.0]) * torch.randn(4001, 2)
    layer.eval().encode(first)
    assert not layer.initialized
    layer.train().encode(first)
    expected = torch.quantile(first, torch.tensor([0.125, 0.375, 0.625, 0.875]), dim=0)
    torch.testing.assert_close(layer.anchors.detach(), expected)
    bandwidth = (4 * math.sqrt(math.pi) / (math.pi**4 * 4)) ** 0.2
    torch.testing.assert_close(layer.log_widths.exp()[0].detach(), bandwidth * first.std(0, unbiased=False))
    before = layer.anchors.clone()
    layer.encode(10 * first)
    assert torch.equal(layer.anchors, before)
    z, _ = layer.encode(first)
    assert z.mean(0).abs().max() < 0.05 and (z.std(0) - 1).abs().max() < 0.35  # Gaussian already, if too narrow


def test_a_loaded_layer_does_not_start_again() -> None:
    trained, fresh = KernelLayer(2, 4), KernelLayer(2, 4)
    trained.encode(torch.randn(30, 2))
    fresh.load_state_dict(trained.state_dict())
    fresh.train().encode(100 + torch.randn(30, 2))
    assert torch.equal(fresh.anchors, trained.anchors)


@pytest.mark.parametrize("start", ["data", "normal"])
def test_the_density_integrates_to_one(start: str) -> None:
    model = build("gaussianization", DataSpec((2,)), layers=3, anchors=5, start=start)
    model.loss(torch.randn(100, 2) * torch.tensor([1.0, 0.3]))
    side = torch.linspace(-20, 20, 400)
    grid = torch.cartesian_prod(side, side)
    with torch.no_grad():
        mass = model.eval().log_prob(grid).exp().sum() * (side[1] - side[0]) ** 2
    assert mass.item() == pytest.approx(1, abs=2e-3)


def test_it_learns_a_skewed_density() -> None:
    x = torch.randn(2000, 2).exp()
    model = build("gaussianization", DataSpec((2,), mean=x.mean(0), std=x.std(0)), layers=2, anchors=20)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        loss = model.loss(x)
        loss.backward()
        optimizer.step()
    truth = -torch.distributions.LogNormal(0.0, 1.0).log_prob(x).sum(1).mean()
    assert truth - 0.1 < loss < truth + 0.15  # a Gaussian's loss is 1.3 nats above it


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"layers": 0}, "layers is 0"),
        ({"anchors": 0}, "anchors is 0"),
        ({"start": "zero"}, "start is 'zero'; it takes data or normal"),
    ],
)
def test_wrong_settings_say_what_is_allowed(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build("gaussianization", DataSpec((2,)), **wrong)


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_the_mixture_is_torchs(covariance: str) -> None:
    mixture = LearnedMixture(3, 4, covariance)
    with torch.no_grad():
        for parameter in mixture.parameters():
            parameter.normal_()
    mixture.eval()
    factor = torch.diag_embed(mixture.log_diagonal.exp())
    if covariance == "full":
        factor = factor + mixture.below.tril(-1)
    parts = torch.distributions.MultivariateNormal(mixture.means, precision_matrix=factor @ factor.mT)
    reference = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(logits=mixture.logits), parts)
    x = 3 * torch.randn(50, 3)
    torch.testing.assert_close(mixture.log_prob(x), reference.log_prob(x), rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        draws = mixture.sample(40_000)
    error = (reference.variance / len(draws)).sqrt()
    assert ((draws.mean(0) - reference.mean).abs() < 5 * error).all()
    assert mixture.log_prob(draws).mean().item() == pytest.approx(
        reference.log_prob(reference.sample((40_000,))).mean().item(), abs=0.1
    )


def test_a_mixture_starts_at_rows_of_the_first_batch() -> None:
    x = torch.tensor([[100.0, -3.0], [200.0, 4.0]]).repeat_interleave(50, 0) + torch.randn(100, 2)
    mixture = LearnedMixture(2, 20)
    before = mixture.log_prob(x).mean()
    distance = torch.cdist(mixture.means.detach() / x.std(0), x / x.std(0)).amin(1)
    assert distance.max() < 0.5
    assert before.item() == pytest.approx(-(math.log(50) + math.log(3.6) + 2.8), abs=1.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"components": 0}, "components is 0"),
        ({"covariance": "tied"}, "covariance is 'tied'; it takes full or diagonal"),
    ],
)
def test_wrong_mixtures_say_what_is_allowed(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build("mixture", DataSpec((2,)), **wrong)


def test_images_are_refused() -> None:
    for family in ("mixture", "gaussianization"):
        with pytest.raises(ValueError, match=f"{family} takes vectors"):
            build(family, DataSpec((1, 4, 4), levels=5))
