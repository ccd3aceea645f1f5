from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.flows.linear import Rescale
from models.flows.univariate import DeepDenseSigmoid, DeepSigmoid
from models.flows.univariate.naf import LogMatmul
from models.registry import DataSpec, build

pytestmark = pytest.mark.usefixtures("float64")

MAPS = {
    "dsf": lambda: DeepSigmoid(5, 1, signal=6),
    "dsf-twice": lambda: DeepSigmoid(5, 2, signal=6),
    "ddsf": lambda: DeepDenseSigmoid(5, 2, signal=6),
    "ddsf-three-layers": lambda: DeepDenseSigmoid(4, 3, signal=6),
}
each = pytest.mark.parametrize("name", MAPS)


def trained(name: str, size: float = 0.7) -> DeepDenseSigmoid:
    """With parameters off their small beginnings."""
    f = MAPS[name]()
    with torch.no_grad():
        for parameter in f.parameters():
            parameter.add_(size * torch.randn_like(parameter))
    return f


def by_the_paper(f: DeepDenseSigmoid, x: Tensor, params: Tensor) -> Tensor:
    """logit(W σ(a ⊙ U h + b)) with a matrix W and U for each element."""
    vectors = iter(f.expand(params).unflatten(-1, (f.vectors, f.dimension)).unbind(-2))
    h = x[..., None]
    for u, w in zip(f.mix_in, f.mix_out, strict=True):
        if u is not None:
            h = (torch.softmax(u + next(vectors)[..., None, :], -1) @ h[..., None])[..., 0]
        a, b = F.softplus(next(vectors) + math.log(math.e - 1)) + 1e-6, next(vectors)
        inner = torch.sigmoid(a * h + b)
        h = torch.logit((torch.softmax(w + next(vectors)[..., None, :], -1) @ inner[..., None])[..., 0])
    return h[..., 0]


@each
def test_it_is_the_papers_formula_and_the_slope_autograds(name: str) -> None:
    f = trained(name)
    x, params = torch.randn(40, 3, requires_grad=True), torch.randn(40, 3, f.n_params)
    z, log_slope = f(x, params)
    torch.testing.assert_close(z, by_the_paper(f, x, params), rtol=1e-10, atol=1e-10)
    (slope,) = torch.autograd.grad(z.sum(), x, retain_graph=True)
    torch.testing.assert_close(log_slope, slope.log(), rtol=1e-10, atol=1e-10)
    (slope,) = torch.autograd.grad(by_the_paper(f, x, params).sum(), x)
    torch.testing.assert_close(log_slope, slope.log(), rtol=1e-10, atol=1e-10)


@each
def test_all_gradients(name: str) -> None:
    f = trained(name)
    x, params = torch.randn(5, requires_grad=True), torch.randn(5, f.n_params, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, params, *_: f(x, params), (x, params, *f.parameters()))
    assert torch.autograd.gradcheck(f.inverse, (x, params), eps=1e-6, atol=1e-5, rtol=1e-4)


def test_the_logarithm_of_a_product() -> None:
    weight, u, v = torch.rand(3, 4, requires_grad=True), *torch.randn(2, 4, 5, requires_grad=True).unbind()
    assert torch.autograd.gradcheck(LogMatmul.apply, (weight, u, v))
    for mine, exponent in zip(LogMatmul.apply(weight, u + 1e4, v - 1e4), (u + 1e4, v - 1e4), strict=True):
        torch.testing.assert_close(mine, torch.logsumexp(weight.log()[..., None] + exponent, 1))


@each
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    points=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=8, unique=True),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    size=st.sampled_from([0.1, 1.0, 5.0]),
)
def test_it_increases_inverts_and_is_finite_however_far_out(
    name: str, seed: int, points: list[float], dtype: torch.dtype, size: float
) -> None:
    """The authors' logit stops at ±14.5 and others' become infinite."""
    torch.manual_seed(seed)
    f = trained(name, size).to(dtype)
    x = torch.tensor(sorted([*points, 0.0]), dtype=dtype, requires_grad=True)
    params = torch.randn(f.n_params, dtype=dtype).repeat(len(x), 1).requires_grad_()
    z, log_slope = f(x, params)
    gradients = torch.autograd.grad(z.sum() + log_slope.sum(), [x, params, *f.parameters()])
    assert all(torch.isfinite(t).all() for t in (z, log_slope, *gradients))
    eps = torch.finfo(dtype).eps
    assert (z.diff() >= -1e3 * eps * (1 + x.abs().max() + z.abs().max())).all()
    with torch.no_grad():
        back, _ = f.inverse(x, params)  # any number is some x's z
        forth, there = f(back, params)
        assert torch.isfinite(back).all()
        rounding = 1e3 * eps * (1 + x.abs() + (1 + there.exp()) * (1 + back.abs()) * (1 + size) ** 2)
        assert ((forth - x).abs() <= rounding).all()


def test_a_step_between_two_plateaus_keeps_its_slope() -> None:
    """Two sigmoids far apart: between them the slope is 4 e^-200, 0 in float32, but its logarithm is not."""
    f = DeepSigmoid(2, 1, signal=6).float()
    with torch.no_grad():
        f.mix_out[0].zero_()
        f.expand.weight.copy_(torch.eye(6))
        f.expand.bias.zero_()
    params = torch.tensor([[0.0, 0.0, 200.0, -200.0, 0.0, 0.0]], dtype=torch.float32)
    with torch.no_grad():
        z, log_slope = f(torch.zeros(1, dtype=torch.float32), params)
    assert abs(float(z)) < 1e-6
    assert float(log_slope) == pytest.approx(math.log(4) - 200, abs=1e-3)


def test_zeros_give_the_identity() -> None:
    for f in (DeepSigmoid(5, 2), DeepDenseSigmoid(5, 3)):
        with torch.no_grad():
            for parameter in f.parameters():
                parameter.zero_()
        x = torch.linspace(-30, 30, 61)
        z, log_slope = f(x, torch.randn(61, f.n_params))
        torch.testing.assert_close(z, x, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(log_slope, torch.zeros(61), rtol=0, atol=1e-5)


def test_the_number_of_parameters_is_the_signal_alone() -> None:
    assert DeepDenseSigmoid().n_params == DeepSigmoid().n_params == 16
    assert [tuple(p.shape) for p in DeepDenseSigmoid(8, 3, signal=5).mix_in if p is not None] == [(8, 8), (8, 8)]


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="layers 0"):
        DeepDenseSigmoid(4, 0)
    with pytest.raises(ValueError, match="transformer is 'affine'; it takes ddsf or dsf"):
        build("naf", DataSpec((2,)), transformer="affine")
    with pytest.raises(ValueError, match="naf takes vectors"):
        build("naf", DataSpec((1, 4, 4), levels=2))


def test_the_flow_ends_in_a_free_scale_and_shift() -> None:
    last = build("naf", DataSpec((2,)), flows=2, hidden=[16]).chain.layers[-1]
    assert isinstance(last, Rescale) and last.shift.requires_grad and last.log_scale.requires_grad


@pytest.mark.parametrize("transformer", ["ddsf", "dsf"])
def test_the_flow_is_a_density(transformer: str) -> None:
    model = build("naf", DataSpec((2,)), flows=2, transformer=transformer, hidden=[16])
    side = torch.linspace(-9, 9, 250)
    with torch.no_grad():
        density = model.log_prob(torch.cartesian_prod(side, side)).exp()
    assert density.sum() * (side[1] - side[0]) ** 2 == pytest.approx(1, abs=2e-3)
