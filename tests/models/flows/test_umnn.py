from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from zuko.transforms import UnconstrainedMonotonicTransform

from models.flows.univariate import MonotonicNetwork, umnn
from models.flows.univariate.umnn import clenshaw_curtis
from models.registry import DataSpec, build

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("steps", [2, 4, 20, 50])
def test_clenshaw_curtis_is_exact_for_polynomials(steps: int) -> None:
    nodes, weights = clenshaw_curtis(steps)
    assert nodes[0] == 0 and nodes[-1] == 1 and (nodes.diff() > 0).all() and (weights > 0).all()
    for power in range(steps + 1):
        assert float(nodes**power @ weights) == pytest.approx(1 / (power + 1), rel=1e-12)


def integrand(f: MonotonicNetwork, t: Tensor, params: Tensor) -> Tensor:
    """m + 1 + elu(network(t, h)), layer by layer."""
    unit = torch.cat([t[..., None], params[..., :-1]], -1)
    for linear in f.linears[:-1]:
        unit = torch.relu(linear(unit))
    return F.elu(f.linears[-1](unit))[..., 0] + 1 + f.minimum


def plainly(f: MonotonicNetwork, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
    """All nodes of all points through the network in one call of autograd's."""
    at_nodes = integrand(f, x[..., None] * f.nodes, params[..., None, :].expand(*x.shape, len(f.nodes), -1))
    return params[..., -1] + x * (at_nodes @ f.weights), integrand(f, x, params).log()


@pytest.mark.parametrize("rows", [60, 1 << 12])
@pytest.mark.parametrize("keep", [0, 1 << 27])
def test_values_and_gradients_are_autograds(rows: int, keep: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In several blocks or one, with units kept or computed again; x's derivative of z is the slope (next test)."""
    monkeypatch.setattr(MonotonicNetwork, "ROWS", rows)
    monkeypatch.setattr(MonotonicNetwork, "KEEP", keep)
    f = MonotonicNetwork(4, (7, 5, 6), 20)
    x, params = 2 * torch.randn(7, 3), torch.randn(7, 3, f.n_params, requires_grad=True)
    weights = torch.randn(2, 7, 3)
    found = []
    for z, log_slope in (f(x, params), plainly(f, x, params)):
        loss = (weights[0] * z).sum() + (weights[1] * log_slope).sum()
        found.append([z, log_slope, *torch.autograd.grad(loss, [params, *f.parameters()])])
    for mine, expected in zip(*found, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-11, atol=1e-11)


def test_the_slope_is_the_derivative_and_the_integrand() -> None:
    f = MonotonicNetwork(4, (7, 5), 50)
    x, params = torch.randn(50, requires_grad=True), torch.randn(50, f.n_params)
    z, log_slope = f(x, params)
    (slope,) = torch.autograd.grad(z.sum(), x, retain_graph=True)
    torch.testing.assert_close(slope.log(), log_slope)
    torch.testing.assert_close(slope, integrand(f, x, params))
    # Of the log-slope too, by finite differences.
    (curvature,) = torch.autograd.grad(log_slope.sum(), x)
    step = 1e-6
    with torch.no_grad():
        difference = (f(x + step, params)[1] - f(x - step, params)[1]) / (2 * step)
    assert ((curvature - difference).abs() < 1e-6).double().mean() > 0.95  # the rest lies within a step of a kink


def test_it_is_zukos_integral_of_the_same_network() -> None:
    f = MonotonicNetwork(4, (16, 16), 200)
    x, params = 2 * torch.randn(60), torch.randn(60, f.n_params)
    theirs = UnconstrainedMonotonicTransform(g=lambda t: integrand(f, t, params.expand(*t.shape, -1)), n=200)
    expected, log_det = theirs.call_and_ladj(x)
    z, log_slope = f(x, params)
    torch.testing.assert_close(z, expected + params[:, -1], atol=2e-5, rtol=2e-5)  # ReLU's kinks limit both
    torch.testing.assert_close(log_slope, log_det)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many points there are, no more than ROWS rows exist at a time once they exceed what may be kept."""
    sizes: list[int] = []
    room = umnn._room

    def recorded(like: Tensor, layers: list[Tensor], size: int) -> list[Tensor]:
        sizes.append(size)
        return room(like, layers, size)

    monkeypatch.setattr(umnn, "_room", recorded)
    monkeypatch.setattr(MonotonicNetwork, "KEEP", 1 << 16)
    f = MonotonicNetwork(4, (8, 8), 20)
    x, params = torch.randn(3000, requires_grad=True), torch.randn(3000, f.n_params)
    z, _ = f(x, params)
    z.sum().backward()
    assert len(sizes) == 2 and max(sizes) <= MonotonicNetwork.ROWS


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10**6),
    st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=8, unique=True),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_it_increases_inverts_and_is_finite_however_far_out(seed: int, points: list[float], dtype: torch.dtype) -> None:
    torch.manual_seed(seed)
    f = MonotonicNetwork(4, (8, 8), 20).to(dtype)
    x = torch.tensor(sorted([*points, 0.0]), dtype=dtype, requires_grad=True)
    params = torch.randn(f.n_params, dtype=dtype).repeat(len(x), 1).requires_grad_()
    z, log_slope = f(x, params)
    gradients = torch.autograd.grad(z.sum() + log_slope.sum(), [x, params, *f.parameters()])
    assert all(torch.isfinite(t).all() for t in (z, log_slope, *gradients))
    eps = torch.finfo(dtype).eps
    with torch.no_grad():
        back, _ = f.inverse(x, params)
        forth, there = f(back, params)
        assert ((forth - x).abs() <= 100 * eps * (1 + x.abs() + (1 + there.exp()) * (1 + back.abs()))).all()


def test_a_slope_that_dies_out_still_takes_every_value() -> None:
    """With elu + 1 alone, z would stop where the network's output falls: no x would have z = ±1000."""
    f = MonotonicNetwork(1, (2,), 20)
    with torch.no_grad():
        f.linears[0].weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
        f.linears[0].bias.zero_()
        f.linears[1].weight.fill_(-30.0)
        f.linears[1].bias.zero_()
    z, params = torch.tensor([-1000.0, 0.0, 1000.0]), torch.zeros(3, 2)
    x, _ = f.inverse(z, params)
    torch.testing.assert_close(f(x, params)[0], z)


def test_settings_are_checked() -> None:
    for settings_, message in (
        ({"steps": 21}, "steps is 21"),
        ({"hidden": ()}, r"hidden is \[\]"),
        ({"embedding": 0}, "embedding is 0"),
        ({"minimum": 0.0}, "minimum is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            MonotonicNetwork(**settings_)


def test_the_flow_is_a_density() -> None:
    model = build("umnn", DataSpec((2,)), flows=2, embedding=4, integrand=[12, 12], steps=20, hidden=[16])
    side = torch.linspace(-10, 10, 250)
    with torch.no_grad():
        density = model.log_prob(torch.cartesian_prod(side, side)).exp()
    assert density.sum() * (side[1] - side[0]) ** 2 == pytest.approx(1, abs=1e-2)
