"""SurVAE flows as densities: they integrate to one, have the symmetry they claim, and the baseline's parameters."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from models.layer import Model
from models.registry import DataSpec, build
from models.relaxed.surjections import MaxPool2d, SignedAbs

PLANE = DataSpec((2,))


def size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def off_its_start(model: Model) -> Model:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def integral(model: Model, x: Tensor, weights: Tensor) -> float:
    with torch.no_grad():
        return float((torch.cat([model.log_prob(part) for part in x.split(50_000)]).exp() * weights).sum())


def line(half_width: float, cells: int) -> tuple[Tensor, Tensor]:
    """Midpoint nodes and weights of an interval about zero."""
    step = 2 * half_width / cells
    return (torch.arange(cells) + 0.5) * step - half_width, torch.full((cells,), step)


def half_line(cells: int) -> tuple[Tensor, Tensor]:
    """(0, inf) in logarithmic steps: behind a logarithm, mass lies arbitrarily close to zero."""
    t, step = line(9, cells)
    return (t - 5).exp(), (t - 5).exp() * step


def plane(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return torch.cartesian_prod(first[0], second[0]), torch.cartesian_prod(first[1], second[1]).prod(1)


def small(family: str) -> Model:
    return off_its_start(build(family, PLANE, hidden=[8, 8]))


@pytest.mark.usefixtures("float64")
def test_baseline_integrates_to_one() -> None:
    x, weights = plane(line(20, 500), line(20, 500))
    assert integral(small("survae-baseline"), x, weights) == pytest.approx(1, abs=1e-3)


@pytest.mark.usefixtures("float64")
def test_abs_flow_integrates_to_one() -> None:
    model = small("abs-flow")
    x, weights = plane(half_line(400), half_line(400))
    quadrants = [torch.tensor([a, b]) for a in (-1.0, 1.0) for b in (-1.0, 1.0)]
    assert sum(integral(model, x * signs, weights) for signs in quadrants) == pytest.approx(1, abs=1e-3)


@pytest.mark.usefixtures("float64")
def test_sort_flow_integrates_to_one() -> None:
    model = small("sort-flow")
    x, weights = plane(line(20, 500), half_line(400))
    x = torch.stack([x[:, 0], x.sum(1)], 1)
    assert sum(integral(model, order, weights) for order in (x, x.flip(1))) == pytest.approx(1, abs=1e-3)


@pytest.mark.usefixtures("float64")
def test_abs_flow_is_even_and_sort_flow_exchangeable() -> None:
    x = 2 * torch.randn(40, 2)
    even, exchangeable = (off_its_start(build(name, PLANE, hidden=[8])) for name in ("abs-flow", "sort-flow"))
    for signs in ([-1.0, 1.0], [1.0, -1.0]):
        torch.testing.assert_close(even.log_prob(x * torch.tensor(signs)), even.log_prob(x))
    torch.testing.assert_close(exchangeable.log_prob(x.flip(1)), exchangeable.log_prob(x))


def test_equal_parameter_counts() -> None:
    """82,808 in the plane, as published; a flow with the symmetry has no more than the baseline."""
    counts = {name: size(build(name, PLANE)) for name in ("survae-baseline", "abs-flow", "sort-flow")}
    assert set(counts.values()) == {82_808}, counts
    image = DataSpec((3, 16, 16), levels=256)
    pooled, baseline = (build("max-pool-flow", image, pooling=p, steps=2) for p in ("max", "none"))
    assert size(pooled) == size(baseline)
    assert pooled.base.shape == baseline.base.shape == (12, 4, 4)


def test_tail_points_have_a_score() -> None:
    """Beyond the bound, on an axis and on the diagonal, in single precision."""
    x = torch.tensor([[4.0, 4.0], [4.5, -0.1], [-6.0, 9.0], [0.0, 1.0], [1.5, 1.5], [1e-20, -2.0]])
    for family in ("abs-flow", "sort-flow"):
        model = build(family, PLANE, hidden=[16])
        assert torch.isfinite(model.log_prob(x)).all()
        model.loss(x).backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters())


class DarkSquares(nn.Module):
    """The sign that the checkerboard has at z: positive where the cells of |x1| and x2 have even sum."""

    def forward(self, z: Tensor) -> Tensor:
        even = (z / 2).floor().sum(-1, keepdim=True) % 2 == 0
        return torch.where(even, math.inf, -math.inf).to(z)


@pytest.mark.usefixtures("float64")
def test_signed_abs_flow_can_be_the_checkerboard_exactly() -> None:
    """With the best sign, density 1/32 on the eight dark squares and 0 on the light ones; and samples only there."""
    model = build("signed-abs-flow", PLANE)
    sign = next(layer for layer in model.chain.layers if isinstance(layer, SignedAbs))
    sign.network = DarkSquares()
    cells = torch.cartesian_prod(torch.arange(-4.0, 4, 2), torch.arange(-4.0, 4, 2))
    dark = (cells / 2).sum(1) % 2 == 0
    x = cells + 2 * torch.rand(100, 16, 2)
    expected = torch.where(dark, -math.log(32), -math.inf).expand(100, 16)
    torch.testing.assert_close(model.log_prob(x.flatten(0, 1)), expected.flatten())
    landed = (model.sample(500) / 2).floor().sum(1) % 2 == 0
    assert landed.all()
    assert torch.isneginf(model.log_prob(torch.tensor([[4.1, 0.0], [0.0, -4.1]]))).all()


@pytest.mark.usefixtures("float64")
def test_signed_abs_flow_integrates_to_one_for_any_sign() -> None:
    model = off_its_start(build("signed-abs-flow", PLANE, hidden=[8]))
    x, weights = plane(line(4.5, 360), line(4.5, 360))
    assert integral(model, x, weights) == pytest.approx(1, abs=1e-10)


@pytest.mark.usefixtures("float64")
def test_max_pool_flow_pools_between_its_scales() -> None:
    spec = DataSpec((1, 8, 8), levels=17)
    model = build("max-pool-flow", spec, scales=2, steps=1, width=4)
    assert sum(isinstance(layer, MaxPool2d) for layer in model.chain.layers) == 1
    assert model.base.shape == (4, 2, 2)
    x = torch.randint(0, 17, (64, 1, 8, 8))
    scores = [model.importance_bound(x, k).mean() for k in (1, 16)]
    assert scores[0] < scores[1] < 0


@pytest.mark.parametrize(
    ("family", "shape", "settings", "message"),
    [
        ("abs-flow", (1, 8, 8), {}, "takes vectors"),
        ("sort-flow", (1,), {}, "two values or more"),
        ("signed-abs-flow", (1, 8, 8), {}, "takes vectors"),
        ("max-pool-flow", (2,), {}, "takes images"),
        ("max-pool-flow", (1, 6, 6), {}, "choose fewer"),
        ("max-pool-flow", (1, 8, 8), {"pooling": "mean"}, "max or none"),
    ],
)
def test_wrong_use_says_what_to_do(family: str, shape: tuple[int, ...], settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(family, DataSpec(shape), **settings)
