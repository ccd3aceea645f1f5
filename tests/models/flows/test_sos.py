from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial.legendre import leggauss
from zuko.transforms import SOSPolynomialTransform

from models.flows.univariate import SumOfSquares
from models.registry import DataSpec, build

pytestmark = pytest.mark.usefixtures("float64")


def test_z_is_the_integral_of_the_slope() -> None:
    """Twenty Gauss-Legendre points are exact for degree 39; here it is 2 * 4."""
    f = SumOfSquares(3, 4, bound=20.0)
    x, params = 2 * torch.randn(100), torch.randn(100, f.n_params)
    nodes, weights = (torch.from_numpy(a) for a in leggauss(20))
    inner = x[:, None] * (nodes + 1) / 2
    log_slope = f(inner, params[:, None].expand(100, 20, -1))[1]
    integral = params[:, -1] + x / 2 * (log_slope.exp() @ weights)
    torch.testing.assert_close(f(x, params)[0], integral, rtol=1e-11, atol=1e-11)


def test_it_is_zukos() -> None:
    """Their polynomials are in x / 10 and averaged over k."""
    f = SumOfSquares(5, 4)
    x, a, shift = torch.randn(50, 3), torch.randn(50, 3, 5, 5), torch.randn(50, 3)
    theirs = SOSPolynomialTransform(a, slope=f.minimum)
    mine = a / 10.0 ** torch.arange(5) / 5**0.5
    z, log_slope = f(x, torch.cat([mine.flatten(-2), shift[..., None]], -1))
    expected, log_det = theirs.call_and_ladj(x)
    torch.testing.assert_close(z, expected + shift, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(log_slope, log_det, rtol=1e-12, atol=1e-12)


def test_zeros_give_about_the_identity() -> None:
    f, x = SumOfSquares(), torch.linspace(-9, 9, 50)
    z, _ = f(x, torch.zeros(50, f.n_params))
    torch.testing.assert_close(z, 1.001 * x)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(-5, 5), min_size=11, max_size=11),
    st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=10, unique=True),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_any_polynomial_increases_inverts_and_has_finite_gradients(
    coefficients: list[float], points: list[float], dtype: torch.dtype
) -> None:
    f = SumOfSquares(2, 4).to(dtype)
    x = torch.tensor(sorted([*points, 0.0]), dtype=dtype, requires_grad=True)
    params = torch.tensor(coefficients, dtype=dtype).repeat(len(x), 1).requires_grad_()
    z, log_slope = f(x, params)
    gradients = torch.autograd.grad(z.sum() + log_slope.sum(), [x, params])
    assert all(torch.isfinite(t).all() for t in (z, log_slope, *gradients))
    eps = torch.finfo(dtype).eps
    assert (z.diff() >= -100 * eps * (1 + z.abs().max())).all()
    with torch.no_grad():
        back, _ = f.inverse(x, params)  # any number is some x's z
        forth, there = f(back, params)
        allowed = 200 * eps * (1 + x.abs() + there.exp() * (1 + back.abs()) + params[:, -1].abs())
        assert ((forth - x).abs() <= allowed).all()


def test_the_search_begins_near_its_end() -> None:
    """As near as the cubic Hermite interpolant at 33 knots, which errs by the fourth power of a bin's width."""
    f = SumOfSquares(3, 4, bound=1.0)
    x, params = torch.linspace(-1.2, 1.2, 2000), 0.5 * torch.randn(2000, f.n_params)
    error = (f.start(f(x, params)[0], params) - x).abs()
    assert error.median() < 1e-6 and error.max() < 1e-2
    assert error[x.abs() > 1].max() < 1e-12, "the tangents are the map itself"


def test_the_gradient_of_both_directions() -> None:
    f = SumOfSquares(2, 3, bound=1.0)
    value, params = torch.randn(20, requires_grad=True), torch.randn(20, f.n_params, requires_grad=True)
    assert torch.autograd.gradcheck(f, (value, params))
    assert torch.autograd.gradcheck(f.inverse, (value, params), eps=1e-6, atol=1e-5, rtol=1e-4)


def test_settings_are_checked() -> None:
    for settings_ in ({"polynomials": 0}, {"degree": 0}, {"bound": 0.0}, {"minimum": 0.0}):
        with pytest.raises(ValueError, match=f"{next(iter(settings_))} is 0"):
            SumOfSquares(**settings_)
    with pytest.raises(ValueError, match="flows is 0"):
        build("sos", DataSpec((2,)), flows=0)


def test_the_flow_is_a_density() -> None:
    model = build("sos", DataSpec((2,)), flows=2, hidden=[16], batch_norm=False)
    side = torch.linspace(-12, 12, 700)
    with torch.no_grad():
        density = model.log_prob(torch.cartesian_prod(side, side)).exp()
    assert density.sum() * (side[1] - side[0]) ** 2 == pytest.approx(1, abs=2e-3)
