from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.flows.univariate import AffineMap, RationalQuadraticSpline, Univariate

pytestmark = pytest.mark.usefixtures("float64")

MAPS = {
    "affine-exp": AffineMap("exp"),
    "affine-tanh": AffineMap("tanh"),
    "affine-sigmoid": AffineMap("sigmoid"),
    "rational-quadratic": RationalQuadraticSpline(bins=5, bound=2.0),
    "rational-quadratic-scaled": RationalQuadraticSpline(bins=4, bound=3.0, logit_scale=0.25),
}


def log_slope_by_autograd(f: Univariate, x: Tensor, params: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(f(x, params)[0].sum(), x)[0].log()


@pytest.mark.parametrize("name", MAPS)
def test_log_slope_is_autograds_and_the_inverse_agrees(name: str) -> None:
    f = MAPS[name]
    x, params = 2 * torch.randn(500, 3), 2 * torch.randn(500, 3, f.n_params)
    z, log_slope = f(x, params)
    torch.testing.assert_close(log_slope, log_slope_by_autograd(f, x, params), atol=1e-9, rtol=1e-9)
    back, again = f.inverse(z, params)
    torch.testing.assert_close(back, x, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(again, log_slope, atol=1e-7, rtol=1e-7)


def test_bounds_of_the_affine_scale() -> None:
    extreme = torch.tensor([[-1e4, 0.0], [1e4, 0.0]])
    for scale, low, high in (("tanh", -2.0, 2.0), ("sigmoid", -6.9078, 0.0010)):
        log_scale = AffineMap(scale)(torch.ones(2), extreme)[1]
        torch.testing.assert_close(log_scale, torch.tensor([low, high]), atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="scale is 'softplus'"):
        AffineMap("softplus")  # type: ignore[arg-type]


def test_the_number_of_bins_is_checked() -> None:
    for bins in (1, 1000):
        with pytest.raises(ValueError, match=f"bins is {bins}"):
            RationalQuadraticSpline(bins)


SPLINE = RationalQuadraticSpline(bins=6, bound=3.0)
LOGITS = st.lists(st.floats(-30, 30), min_size=SPLINE.n_params, max_size=SPLINE.n_params)
POINTS = st.lists(
    st.one_of(st.floats(-3.5, 3.5), st.sampled_from([-3.0, 3.0, 0.0, -1e6, 1e6])), min_size=2, max_size=20, unique=True
)


@settings(max_examples=150, deadline=None)
@given(LOGITS, POINTS)
def test_any_spline_increases_inverts_and_fixes_the_tails(logits: list[float], points: list[float]) -> None:
    x = torch.tensor(sorted(points), dtype=torch.float64)
    params = torch.tensor(logits, dtype=torch.float64).expand(len(x), -1)
    z, log_slope = SPLINE(x, params)
    assert torch.isfinite(z).all() and torch.isfinite(log_slope).all()
    assert (z.diff() >= -1e-15 * (1 + z[1:].abs())).all()  # increasing, up to the rounding of a value
    tails = x.abs() >= 3
    assert torch.equal(z[tails], x[tails]) and (log_slope[x.abs() > 3] == 0).all()
    back, again = SPLINE.inverse(z, params)
    # A rounding error of z grows by 1 / slope on the way back.
    allowed = 1e-12 * (1 + torch.exp(-log_slope)) * (1 + x.abs())
    assert ((back - x).abs() <= allowed).all()
    forth, _ = SPLINE(back, params)
    torch.testing.assert_close(forth, z, atol=1e-10, rtol=1e-12)


@settings(max_examples=100, deadline=None)
@given(LOGITS, st.sampled_from([torch.float32, torch.float64]))
def test_gradients_are_finite_on_the_edges_of_bins_and_far_out(logits: list[float], dtype: torch.dtype) -> None:
    edges = 6 * torch.tensor(logits[:6], dtype=torch.float64).softmax(0).cumsum(0) - 3
    x = torch.cat([edges, torch.tensor([-3.0, 3.0, -1e6, 1e6])]).to(dtype).requires_grad_()
    params = torch.tensor(logits, dtype=dtype).expand(len(x), -1).clone().requires_grad_()
    for direction in (SPLINE.forward, SPLINE.inverse):
        value, log_slope = direction(x, params)
        gradients = torch.autograd.grad(value.sum() + log_slope.sum(), [x, params])
        assert all(torch.isfinite(t).all() for t in (value, log_slope, *gradients))


def test_a_point_on_a_knot_goes_to_the_knot() -> None:
    params = torch.randn(SPLINE.n_params)
    widths, heights = (
        SPLINE.minimum + (1 - 6 * SPLINE.minimum) * params[part].softmax(0) for part in (slice(0, 6), slice(6, 12))
    )
    x, z = (6 * shares.cumsum(0) - 3 for shares in (widths, heights))
    torch.testing.assert_close(SPLINE(x, params.expand(6, -1))[0], z)
    torch.testing.assert_close(SPLINE.inverse(z, params.expand(6, -1))[0], x)


def test_a_batch_outside_the_interval_passes_unchanged() -> None:
    x, params = torch.tensor([-1e6, -4.0, 4.0, 1e6]), torch.randn(4, SPLINE.n_params)
    for direction in (SPLINE.forward, SPLINE.inverse):
        value, log_slope = direction(x, params)
        assert torch.equal(value, x) and (log_slope == 0).all()


def test_not_a_number_stays_one() -> None:
    z, _ = SPLINE(torch.tensor([float("nan"), 0.0]), torch.randn(2, SPLINE.n_params))
    assert z.isnan().tolist() == [True, False]


def test_float32_keeps_its_digits() -> None:
    x, params = 2 * torch.randn(2000), 3 * torch.randn(2000, SPLINE.n_params)
    for direction in (SPLINE.forward, SPLINE.inverse):
        exact, _ = direction(x.float().double(), params.float().double())
        value, _ = direction(x.float(), params.float())
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), exact, atol=2e-3, rtol=0)
        assert (value.double() - exact).abs().median() < 1e-6
