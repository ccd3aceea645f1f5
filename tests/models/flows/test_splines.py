"""The quadratic and the cubic spline; the rational-quadratic one has its tests in test_univariate.py."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from nflows.transforms.splines import unconstrained_cubic_spline
from nflows.transforms.splines.quadratic import quadratic_spline
from torch import Tensor

from models.flows.univariate import SPLINES, CubicSpline, QuadraticSpline, Spline
from models.registry import DataSpec, build

pytestmark = pytest.mark.usefixtures("float64")

MAPS: dict[str, Spline] = {"quadratic": QuadraticSpline(6, 3.0), "cubic": CubicSpline(6, 3.0)}
LOGITS = st.lists(st.floats(-30, 30), min_size=14, max_size=14)
POINTS = st.lists(
    st.one_of(st.floats(-3.5, 3.5), st.sampled_from([-3.0, 3.0, 0.0, -1e6, 1e6])), min_size=2, max_size=20, unique=True
)
each = pytest.mark.parametrize("name", MAPS)


@each
def test_log_slope_is_autograds_and_the_inverse_agrees(name: str) -> None:
    f = MAPS[name]
    x, params = 2 * torch.randn(500, 3, requires_grad=True), 2 * torch.randn(500, 3, f.n_params)
    z, log_slope = f(x, params)
    (slope,) = torch.autograd.grad(z.sum(), x, retain_graph=True)
    torch.testing.assert_close(log_slope, slope.log(), atol=1e-9, rtol=1e-9)
    back, again = f.inverse(z, params)
    torch.testing.assert_close(back, x, atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(again, log_slope, atol=1e-6, rtol=1e-6)


@each
def test_the_gradients_of_both_directions(name: str) -> None:
    f = MAPS[name]
    value, params = (1.5 * torch.randn(40)).requires_grad_(), torch.randn(40, f.n_params, requires_grad=True)
    for direction in (f.forward, f.inverse):
        assert torch.autograd.gradcheck(direction, (value, params), eps=1e-6, atol=1e-5, rtol=1e-4)


@each
@settings(max_examples=150, deadline=None)
@given(logits=LOGITS, points=POINTS)
def test_any_spline_increases_inverts_and_fixes_the_tails(name: str, logits: list[float], points: list[float]) -> None:
    f = MAPS[name]
    x = torch.tensor(sorted(points), dtype=torch.float64)
    params = torch.tensor(logits[: f.n_params], dtype=torch.float64).expand(len(x), -1)
    z, log_slope = f(x, params)
    assert torch.isfinite(z).all() and torch.isfinite(log_slope).all()
    assert (z.diff() >= -1e-14 * (1 + z[1:].abs())).all()
    tails = x.abs() >= 3
    assert torch.equal(z[tails], x[tails]) and (log_slope[tails] == 0).all()
    back, again = f.inverse(z, params)
    allowed = 1e-12 * (1 + torch.exp(-log_slope)) * (1 + x.abs())
    assert ((back - x).abs() <= allowed).all()
    forth, _ = f(back, params)
    torch.testing.assert_close(forth, z, atol=1e-10, rtol=1e-12)


@each
@settings(max_examples=100, deadline=None)
@given(logits=LOGITS, dtype=st.sampled_from([torch.float32, torch.float64]))
def test_gradients_are_finite_on_the_edges_of_bins_and_far_out(
    name: str, logits: list[float], dtype: torch.dtype
) -> None:
    f = MAPS[name]
    shares = f.minimum + (1 - 6 * f.minimum) * torch.tensor(logits[:6], dtype=torch.float64).softmax(0)
    x = torch.cat([6 * shares.cumsum(0) - 3, torch.tensor([-3.0, 3.0, -1e6, 1e6])]).to(dtype).requires_grad_()
    params = torch.tensor(logits[: f.n_params], dtype=dtype).expand(len(x), -1).clone().requires_grad_()
    for direction in (f.forward, f.inverse):
        value, log_slope = direction(x, params)
        gradients = torch.autograd.grad(value.sum() + log_slope.sum(), [x, params])
        assert all(torch.isfinite(t).all() for t in (value, log_slope, *gradients))


@each
def test_a_batch_outside_the_interval_passes_unchanged_and_not_a_number_stays_one(name: str) -> None:
    f = MAPS[name]
    x, params = torch.tensor([-1e6, -4.0, 4.0, 1e6]), torch.randn(4, f.n_params)
    for direction in (f.forward, f.inverse):
        value, log_slope = direction(x, params)
        assert torch.equal(value, x) and (log_slope == 0).all()
        value, _ = direction(torch.tensor([float("nan"), 0.0]), params[:2])
        assert value.isnan().tolist() == [True, False]


@each
def test_float32_keeps_its_digits(name: str) -> None:
    f = MAPS[name]
    x, params = (2 * torch.randn(2000)).float(), (3 * torch.randn(2000, f.n_params)).float()
    for direction in (f.forward, f.inverse):
        exact, log_slope = direction(x.double(), params.double())
        value, _ = direction(x, params)
        # A rounding error of z grows by 1 / slope on the way back, and that of a bin's share by the slope.
        allowed = 2e-5 * (log_slope.exp() + torch.exp(-log_slope)).clamp_max(100)
        assert value.dtype == torch.float32 and ((value.double() - exact).abs() <= allowed).all()
        assert (value.double() - exact).abs().median() < 1e-6


def assert_both_ways(f: Spline, x: Tensor, params: Tensor, theirs, tolerance: float) -> None:
    for inverse, mine in ((False, f.forward), (True, f.inverse)):
        value, log_slope = mine(x, params)
        expected, log_det = theirs(inverse)
        torch.testing.assert_close(value, expected, atol=tolerance, rtol=tolerance)
        torch.testing.assert_close(log_slope, -log_det if inverse else log_det, atol=tolerance, rtol=tolerance)


def test_the_quadratic_spline_is_nflows() -> None:
    """Given the slopes at all knots. Those at the ends, which ought to be one, nflows gets wrong: it halves twice."""
    bins, bound = 7, 2.5
    f = QuadraticSpline(bins, bound, logit_scale=0.5)
    x, params = 0.9 * bound * (2 * torch.rand(400) - 1), 2 * torch.randn(400, f.n_params)
    widths, inner = (params / 2).split([bins, bins - 1], 1)
    shares = 1e-3 + (1 - 1e-3 * bins) * widths.softmax(1)
    inner = F.softplus(inner) + 1e-3
    beside = (inner * (shares[:, :-1] + shares[:, 1:]) / 2).sum(1, keepdim=True)
    end = beside / (1 - (shares[:, :1] + shares[:, -1:]) / 2)  # the area, if the ends are as high as the area
    raw = torch.log(torch.expm1(torch.cat([end, inner, end], 1) - 1e-3))
    box = {"left": -bound, "right": bound, "bottom": -bound, "top": bound}
    assert_both_ways(f, x, params, lambda inverse: quadratic_spline(x, widths, raw, inverse=inverse, **box), 1e-8)


def test_the_quadratic_spline_meets_its_tails_with_slope_one() -> None:
    f = QuadraticSpline(5, 3.0)
    params = torch.randn(2, 50, f.n_params)
    x = torch.tensor([[-3.0], [3.0]]).expand(2, 50) * (1 - 1e-12)
    for log_slope in (f(x, params)[1], f.inverse(x, params)[1]):
        torch.testing.assert_close(log_slope, torch.zeros(2, 50), atol=1e-7, rtol=0)


def test_the_cubic_spline_is_nflows() -> None:
    """Without the least end slope, which nflows does not have; its inverse is not polished and not as exact."""
    bins, bound = 5, 2.5
    f = CubicSpline(bins, bound, minimum=0.0)
    x, params = 2 * torch.randn(400), torch.randn(400, f.n_params)
    parts = params.split([bins, bins, 1, 1], 1)
    least = {"min_bin_width": 0.0, "min_bin_height": 0.0, "quadratic_threshold": 1e-9}
    assert_both_ways(
        f,
        x,
        params,
        lambda inverse: unconstrained_cubic_spline(x, *parts, inverse=inverse, tail_bound=bound, **least),
        1e-6,
    )


def test_a_cubic_that_is_a_line_or_a_parabola_inverts_as_well() -> None:
    """Equal bins with equal slopes: the cubic and the square coefficient vanish, on which textbook formulas divide."""
    f = CubicSpline(4, 1.0, minimum=0.0)
    params = torch.zeros(9, f.n_params)
    params[:, -2:] = torch.logit(torch.tensor(1 / 3))
    x = torch.linspace(-1, 1, 9)
    torch.testing.assert_close(f.inverse(x, params)[0], x)
    params[:, -2] = torch.logit(torch.tensor(0.5))  # e0 = 1.5, e1 = 1
    torch.testing.assert_close(f.inverse(f(x, params)[0], params)[0], x)


def test_a_cubic_reaches_its_least_slope() -> None:
    """All of the end's slope withdrawn: the map leaves the corner almost level, and comes back."""
    f = CubicSpline(3, 1.0)
    params = torch.zeros(50, f.n_params)
    params[:, -2] = -1e3
    x = -1 + torch.logspace(-12, -1, 50)
    z, log_slope = f(x, params)
    assert torch.isfinite(log_slope).all() and log_slope[0] < -5
    torch.testing.assert_close(f.inverse(z, params)[0], x, atol=1e-12, rtol=0)


def test_bins_and_names_are_checked() -> None:
    for spline in SPLINES.values():
        with pytest.raises(ValueError, match="bins is 1"):
            spline(1)
    with pytest.raises(ValueError, match="spline is 'linear'; it takes rq, quadratic, cubic"):
        build("nsf", DataSpec((3,)), spline="linear")


@pytest.mark.parametrize("conditioner", ["coupling", "autoregressive"])
@pytest.mark.parametrize("spline", SPLINES)
def test_a_spline_flow_is_a_density_for_each_context(conditioner: str, spline: str) -> None:
    settings_ = {"conditioner": conditioner, "spline": spline, "steps": 2, "hidden": [16], "bins": 4}
    model = build("nsf", DataSpec((2,), context_dim=1), **settings_)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    side = torch.linspace(-10, 10, 700)
    grid, context = torch.cartesian_prod(side, side), torch.tensor([[-1.0], [2.0]])
    with torch.no_grad():
        densities = [model.log_prob(grid, c.expand(len(grid), 1)).exp() for c in context]
    for density in densities:
        assert density.sum() * (side[1] - side[0]) ** 2 == pytest.approx(1, abs=1e-2)
    assert (densities[0] - densities[1]).abs().max() > 1e-3
