"""Surjections against what defines them: p(.|z) sums to one over the preimages of z, and densities integrate to one."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.base import Base, GaussianMixture, StandardNormal, normal_log_density
from models.layer import ChainModel, Layer
from models.relaxed.surjections import (
    Abs,
    Augment,
    HalfLine,
    Increments,
    MaxPool2d,
    SignedAbs,
    Slice,
    Sort,
    StochasticPermutation,
)

pytestmark = pytest.mark.usefixtures("float64")


def mixture() -> GaussianMixture:
    """A density without any symmetry, for two values."""
    return GaussianMixture(torch.tensor([[1.0, -0.5], [-0.7, 1.4]]), torch.tensor([[0.6, 0.9], [0.8, 0.5]]))


class Conditional(Base):
    """N(weight * mean of the context, std^2): a prior that reads its context."""

    def __init__(self, size: int, weight: float, std: float) -> None:
        super().__init__((size,))
        self.weight, self.log_std = weight, math.log(std)

    def _mean(self, context: Tensor) -> Tensor:
        return self.weight * context.mean(1, keepdim=True)

    def log_prob(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return normal_log_density(z, self._mean(context), self.log_std).sum(1)

    def sample(self, n: int, context: Tensor | None = None) -> Tensor:
        return self._mean(context) + math.exp(self.log_std) * torch.randn(n, *self.shape)


def quadrature(low: float, high: float, nodes: int, dim: int) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre nodes (nodes^dim, dim) and weights of a box."""
    x, w = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(nodes))
    x, w = (high - low) / 2 * (x + 1) + low, w * (high - low) / 2
    return torch.cartesian_prod(*[x] * dim).reshape(-1, dim), torch.cartesian_prod(*[w] * dim).reshape(-1, dim).prod(1)


def integral(model: ChainModel, low: float = -9.0, high: float = 9.0, nodes: int = 300) -> float:
    """Over both sides of every kink at zero separately, where Gauss-Legendre would lose its accuracy."""
    halves = [quadrature(a, b, nodes // 2, 1) for a, b in ((low, 0.0), (0.0, high))]
    x, w = (torch.cat(parts).flatten() for parts in zip(*halves, strict=True))
    grid, weights = torch.cartesian_prod(x, x), torch.cartesian_prod(w, w).prod(1)
    with torch.no_grad():
        return float((model.log_prob(grid).exp() * weights).sum())


# --- p(x|z) is a distribution over the preimages of z ---------------------------------------------------------


def test_abs_preimages_have_probability_one():
    z = torch.rand(3)
    x = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=3))) * z
    image, contribution = Abs().encode(x)
    assert torch.equal(image, z.expand_as(x))
    assert contribution.exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_signed_abs_preimages_have_the_probability_of_the_network():
    network = nn.Linear(2, 1)
    layer = SignedAbs(network, element=1)
    z = torch.tensor([[-0.4, 0.9]])
    _, positive = layer.encode(torch.tensor([[-0.4, 0.9]]))
    image, negative = layer.encode(torch.tensor([[-0.4, -0.9]]))
    assert torch.equal(image, z)
    assert positive.exp().item() == pytest.approx(torch.sigmoid(network(z)).item(), abs=1e-12)
    assert (positive.exp() + negative.exp()).item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("shape", [(4,), (4, 2)])
def test_sort_preimages_have_probability_one(shape: tuple[int, ...]):
    points = torch.randn(shape)
    x = torch.stack([points[list(order)] for order in itertools.permutations(range(4))])
    z, contribution = Sort(key=len(shape) - 1).encode(x)
    key = z if z.dim() == 2 else z[..., 1]
    assert (key.diff(dim=1) > 0).all() and torch.equal(z, z[:1].expand_as(z))
    assert contribution.exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_max_pool_preimages_have_probability_one():
    below, weights = quadrature(0.0, 8.0, 24, 3)
    total = 0.0
    for place in range(4):
        windows = -torch.cat([below[:, :place], below.new_zeros(len(below), 1), below[:, place:]], 1)
        z, contribution = MaxPool2d().encode(0.3 + windows.reshape(-1, 1, 2, 2))
        torch.testing.assert_close(z, torch.full_like(z, 0.3))
        total += float((contribution.exp() * weights).sum())
    assert total == pytest.approx(1, abs=1e-8)


def test_slice_and_augment_hold_conditional_densities():
    rest, weights = quadrature(-8.0, 8.0, 60, 2)
    kept = torch.tensor([[0.7, -1.9]]).expand(len(rest), -1)
    both = torch.cat([kept, rest], 1)
    z, contribution = Slice(Conditional(2, 1.5, 0.8), keep=2).encode(both)
    assert torch.equal(z, kept)
    assert float((contribution.exp() * weights).sum()) == pytest.approx(1, abs=1e-8)
    x, contribution = Augment(Conditional(2, 1.5, 0.8), size=2).decode(both)
    assert torch.equal(x, kept)
    assert float(((-contribution).exp() * weights).sum()) == pytest.approx(1, abs=1e-8)


# --- generation: decode lands in the preimage, with the contribution of that pair ------------------------------

IMAGES = [
    (Abs(), lambda: torch.rand(64, 3)),
    (SignedAbs(nn.Linear(3, 1, dtype=torch.float64)), lambda: torch.rand(64, 3)),
    (MaxPool2d(), lambda: torch.randn(8, 2, 3, 2)),
    (Sort(), lambda: torch.randn(64, 5).sort(1).values),
    (Slice(StandardNormal((3,)).double(), keep=2), lambda: torch.randn(64, 2)),
]


@pytest.mark.parametrize(("layer", "draw"), IMAGES, ids=lambda v: type(v).__name__ if isinstance(v, Layer) else "")
def test_decode_answers_encode(layer: Layer, draw):
    z = draw()
    x, contribution = layer.decode(z)
    back, expected = layer.encode(x)
    torch.testing.assert_close(back, z)
    torch.testing.assert_close(contribution, expected)


def test_max_pool_is_max_pooling_and_its_place_is_uniform():
    x = torch.randn(4, 3, 6, 4)
    assert torch.equal(MaxPool2d().encode(x)[0], F.max_pool2d(x, 2))
    x, _ = MaxPool2d().decode(torch.zeros(8000, 1, 1, 1))
    places = x.flatten(1).argmax(1).bincount(minlength=4) / 8000
    assert (places - 0.25).abs().max() < 4 * math.sqrt(0.25 * 0.75 / 8000)
    with pytest.raises(ValueError, match="even height and width"):
        MaxPool2d().encode(torch.randn(1, 1, 3, 4))


def test_signs_and_orders_are_uniform():
    n = 6000
    signs = (Abs().decode(torch.ones(n, 2))[0] > 0).long() @ torch.tensor([1, 2])
    assert (signs.bincount(minlength=4) / n - 0.25).abs().max() < 4 * math.sqrt(0.1875 / n)
    for layer in (Sort(), StochasticPermutation()):
        orders = layer.decode(torch.arange(3.0).expand(n, 3))[0] @ torch.tensor([9.0, 3.0, 1.0])
        counts = orders.unique(return_counts=True)[1] / n
        assert len(counts) == 6 and (counts - 1 / 6).abs().max() < 4 * math.sqrt(5 / 36 / n)


# --- the bijections behind Abs and Sort -----------------------------------------------------------------------


@pytest.mark.parametrize("bound", [1.0, 4.0])
def test_half_line_is_a_smooth_bijection(bound: float):
    layer = HalfLine(bound)
    x = torch.cat([torch.logspace(-15, -3, 40), torch.linspace(0.01, 3, 300)])[:, None] * bound
    x.requires_grad_()
    z, log_det = layer.encode(x)
    (slope,) = torch.autograd.grad(z.sum(), x)
    torch.testing.assert_close(log_det, slope[:, 0].log())
    back, same = layer.decode(z)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(same, log_det)
    assert (z.diff(dim=0) > 0).all()
    below, above = (layer.encode(torch.full((1, 1), bound * (0.98 + e)))[1] for e in (-1e-9, 1e-9))
    assert below.item() == pytest.approx(above.item(), abs=1e-6)


def test_half_line_in_single_precision_has_no_gap():
    x = torch.tensor([[0.0], [1e-38], [3.999999], [4.0], [5.0], [1e4]], dtype=torch.float32)
    z, log_det = HalfLine(4.0).encode(x)
    assert torch.isfinite(z).all() and torch.isfinite(log_det).all()


@pytest.mark.parametrize("shape", [(5,), (5, 3)])
def test_increments_match_autograd(shape: tuple[int, ...]):
    layer = Increments(key=len(shape) - 1)
    x, _ = Sort(key=len(shape) - 1).encode(torch.randn(1, *shape))
    z, log_det = layer.encode(x)
    jacobian = torch.autograd.functional.jacobian(lambda v: layer.encode(v)[0].flatten(), x)
    n = x.numel()
    assert log_det.item() == pytest.approx(torch.linalg.slogdet(jacobian.reshape(n, n)).logabsdet.item(), abs=1e-10)
    back, same = layer.decode(z)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(same, log_det)


# --- densities -------------------------------------------------------------------------------------------------


def test_abs_then_a_flow_integrates_to_one():
    assert integral(ChainModel([Abs(), HalfLine(4.0)], mixture())) == pytest.approx(1, abs=1e-5)


def test_signed_abs_integrates_to_one():
    class FoldFirst(Base):
        """|x_1| and x_2 of the mixture: the density behind a learned sign."""

        def log_prob(self, z: Tensor, context: Tensor | None = None) -> Tensor:
            return torch.logaddexp(mixture().log_prob(z), mixture().log_prob(z * torch.tensor([-1.0, 1.0])))

    network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    assert integral(ChainModel([SignedAbs(network)], FoldFirst((2,)))) == pytest.approx(1, abs=1e-8)


def test_sort_then_a_flow_integrates_to_one_and_without_its_bijection_it_does_not():
    model = ChainModel([Sort(), Increments()], mixture())
    x, y = torch.meshgrid(torch.linspace(-9, 9, 1001), torch.linspace(-9, 9, 1001), indexing="ij")
    grid, cell = torch.stack([x.flatten(), y.flatten()], 1), (18 / 1000) ** 2
    off_diagonal = (x != y).flatten()
    assert float(model.log_prob(grid[off_diagonal]).exp().sum()) * cell == pytest.approx(1, abs=1e-5)
    leaking = ChainModel([Sort()], mixture())
    assert float(leaking.log_prob(grid).exp().sum()) * cell < 0.7


@pytest.mark.parametrize("fold", ["abs", "sort"])
def test_a_folded_density_scores_as_its_symmetrised_mixture(fold: str):
    """With p(z) the sum of f over a fibre, Abs and Sort give the mean of f over the orbit of x."""
    f = mixture()
    signs = [torch.tensor(s) for s in itertools.product([-1.0, 1.0], repeat=2)]
    orbit = {"abs": lambda x: [s * x for s in signs], "sort": lambda x: [x, x.flip(1)]}[fold]

    class Folded(Base):
        def log_prob(self, z: Tensor, context: Tensor | None = None) -> Tensor:
            return torch.logsumexp(torch.stack([f.log_prob(y) for y in orbit(z)]), 0)

    model = ChainModel([{"abs": Abs(), "sort": Sort()}[fold]], Folded((2,)))
    x = torch.randn(50, 2)
    symmetrised = torch.stack([f.log_prob(y).exp() for y in orbit(x)]).mean(0).log()
    torch.testing.assert_close(model.log_prob(x), symmetrised)


def test_max_pool_density_integrates_to_one():
    model = ChainModel([MaxPool2d()], StandardNormal((1, 1, 1)))
    n, std = 100_000, 1.6
    x = std * torch.randn(n, 1, 2, 2) - 0.6
    weight = (model.log_prob(x) - normal_log_density(x, -0.6, math.log(std)).flatten(1).sum(1)).exp()
    assert weight.mean().item() == pytest.approx(1, abs=4 * (weight.std() / math.sqrt(n)).item())
    assert weight.std() / math.sqrt(n) < 0.02


# --- bounds ----------------------------------------------------------------------------------------------------


def augmented(weight: float, std: float) -> ChainModel:
    """x, z2 ~ N(0, I) after the shear x <- x + z2: x ~ N(0, 2) exactly, and p(z2|x) = N(x/2, 1/2)."""

    class Shear(Layer):
        def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
            return torch.stack([x[:, 0] - x[:, 1], x[:, 1]], 1), x.new_zeros(len(x))

    return ChainModel([Augment(Conditional(1, weight, std), size=1), Shear()], StandardNormal((2,)))


EXACT = 0.5 * math.log(2)


def test_augment_is_tight_at_the_posterior():
    x = 1.5 * torch.randn(40, 1)
    torch.testing.assert_close(
        augmented(0.5, math.sqrt(0.5)).log_prob(x), normal_log_density(x, 0.0, EXACT)[:, 0], atol=1e-12, rtol=0
    )


def test_augment_is_a_bound_and_importance_sampling_closes_it():
    x = 1.5 * torch.randn(4000, 1)
    model = augmented(0.2, 1.1)
    exact = normal_log_density(x, 0.0, EXACT).mean().item()
    bounds = [model.importance_bound(x, k).mean().item() for k in (1, 4, 32)]
    assert bounds[0] + 0.1 < bounds[1] < bounds[2] < exact + 0.005
    assert exact - bounds[2] < 0.1 * (exact - bounds[0])


def test_stochastic_permutation_bounds_the_symmetrised_density():
    """E over orders of log f <= log of the mean of f, and equality once the density behind is exchangeable."""
    x = torch.randn(200, 2)
    model = ChainModel([StochasticPermutation()], mixture())
    exact = torch.stack([mixture().log_prob(x), mixture().log_prob(x.flip(1))]).exp().mean(0).log()
    bounds = [model.importance_bound(x, k).mean() for k in (1, 8, 200)]
    assert bounds[0] < bounds[1] < bounds[2]
    torch.testing.assert_close(bounds[2], exact.mean(), atol=0.02, rtol=0)
    even = ChainModel([StochasticPermutation()], StandardNormal((2,)))
    torch.testing.assert_close(even.log_prob(x), StandardNormal((2,)).log_prob(x))
