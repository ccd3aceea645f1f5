from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models.flows.planar import Planar, Radial, Sylvester
from models.layer import Layer
from models.registry import DataSpec, build

pytestmark = pytest.mark.usefixtures("float64")
D = 4
LAYERS = {
    "planar": lambda: Planar(D),
    "radial": lambda: Radial(D),
    "sylvester": lambda: Sylvester(D, D, D),
    "sylvester-low-rank": lambda: Sylvester(D, 2, 1),
}


@torch.no_grad()
def scattered(layer: Layer, scale: float = 2.0) -> Layer:
    for parameter in layer.parameters():
        parameter.copy_(scale * torch.randn_like(parameter))
    return layer


def jacobian(layer: Layer, x: Tensor) -> Tensor:
    return torch.func.vmap(torch.func.jacrev(lambda row: layer.encode(row[None])[0][0]))(x)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("seed", range(5))
def test_log_det_and_inverse_for_any_parameters(name: str, seed: int) -> None:
    torch.manual_seed(seed)
    layer, x = scattered(LAYERS[name]()), 3 * torch.randn(200, D)
    z, there = layer.encode(x)
    sign, log_det = torch.linalg.slogdet(jacobian(layer, x))
    assert (sign == sign[0]).all()  # nowhere does it fold
    torch.testing.assert_close(there, log_det, rtol=1e-9, atol=1e-9)
    back, again = layer.decode(z)
    torch.testing.assert_close(layer.encode(back)[0], z, rtol=1e-12, atol=1e-12)
    steepest = torch.linalg.matrix_norm(torch.linalg.inv(jacobian(layer, x)), 2)[:, None]
    assert ((back - x).abs() <= 1e-12 * steepest * (1 + z.abs().amax(1, keepdim=True))).all()
    assert ((again - there).abs() <= 1e-11 * steepest[:, 0] ** 2 * 10).all()


def test_planar_is_the_papers_formula_where_its_constraint_holds_already() -> None:
    """û differs from u along w only, and wᵀû = m(wᵀu) = log(1 + e^(wᵀu)) - 1."""
    layer = scattered(Planar(D))
    x = torch.randn(1, D)
    u = (layer.encode(x)[0] - x)[0] / torch.tanh(x @ layer.w + layer.b)
    torch.testing.assert_close(u @ layer.w, torch.log1p(torch.exp(layer.u @ layer.w)) - 1)
    across = layer.w / layer.w.norm()
    torch.testing.assert_close(u - (u @ across) * across, layer.u - (layer.u @ across) * across)


@pytest.mark.parametrize("strength", [-1e3, -50.0, -5.0])
def test_a_planar_flow_on_the_verge_of_folding(strength: float) -> None:
    """wᵀû -> -1: the slope along w vanishes at wᵀx = -b, like a cube there; nothing overflows, the inverse holds."""
    layer = Planar(2)
    with torch.no_grad():
        layer.w.copy_(torch.tensor([1.0, 0.0]))
        layer.u.copy_(torch.tensor([strength, 0.5]))
        layer.b.zero_()
    x = torch.tensor([[1e-3, 1.0], [0.5, -1.0], [-4.0, 0.0], [1e6, 2.0], [-1e6, -2.0]])
    z, log_det = layer.encode(x)
    back, _ = layer.decode(z)
    assert torch.isfinite(log_det).all()
    torch.testing.assert_close(layer.encode(back)[0], z, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(back[1:], x[1:], rtol=1e-9, atol=1e-9)


def test_radial_is_the_papers_formula_and_its_center_is_no_trouble() -> None:
    layer = scattered(Radial(D))
    alpha, delta = nn.functional.softplus(layer.a), nn.functional.softplus(layer.d)
    x = torch.cat([torch.randn(5, D), layer.center[None], 1e6 * torch.randn(3, D)]).detach().requires_grad_()
    z, log_det = layer.encode(x)
    r = (x - layer.center).norm(dim=1, keepdim=True)
    torch.testing.assert_close(z, x + (delta - alpha) / (alpha + r) * (x - layer.center))
    gradients = torch.autograd.grad(z.sum() + log_det.sum(), [x, *layer.parameters()])
    assert all(torch.isfinite(g).all() for g in gradients)
    back, again = layer.decode(z)
    torch.testing.assert_close(back, x, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(again, log_det, rtol=1e-9, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(LAYERS)), st.integers(0, 10**6), st.sampled_from([1.0, 1e3, 1e6]))
def test_round_trips_far_out(name: str, seed: int, size: float) -> None:
    torch.manual_seed(seed)
    layer, z = scattered(LAYERS[name](), 1.0).double(), size * torch.randn(10, D, dtype=torch.float64)
    x, there = layer.decode(z)
    forth, again = layer.encode(x)
    torch.testing.assert_close(forth, z, rtol=1e-11, atol=1e-11)
    assert torch.isfinite(again).all()
    torch.testing.assert_close(there, again, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_samples_have_the_derivative_of_the_inverse(name: str) -> None:
    layer, z = scattered(LAYERS[name](), 0.7), torch.randn(1, D)
    slope = torch.autograd.functional.jacobian(lambda z: layer.decode(z[None])[0][0], z[0])
    expected = torch.linalg.inv(jacobian(layer, layer.decode(z)[0]))[0]
    torch.testing.assert_close(slope, expected, rtol=1e-8, atol=1e-8)
    weights = torch.randn(D)

    def along(step: float, parameter: nn.Parameter, direction: Tensor) -> Tensor:
        with torch.no_grad():
            parameter.add_(step * direction)
            value = layer.decode(z)[0][0] @ weights
            parameter.sub_(step * direction)
        return value

    for parameter in layer.parameters():
        (gradient,) = torch.autograd.grad(layer.decode(z)[0][0] @ weights, parameter)
        direction = torch.randn_like(parameter)
        numeric = (along(1e-5, parameter, direction) - along(-1e-5, parameter, direction)) / 2e-5
        torch.testing.assert_close((gradient * direction).sum(), numeric, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("family", ["planar", "radial", "sylvester"])
def test_the_density_integrates_to_one(family: str) -> None:
    model = build(family, DataSpec((2,)), flows=4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
        side = torch.linspace(-20, 20, 1500)
        mass = model.log_prob(torch.cartesian_prod(side, side)).exp().sum() * (side[1] - side[0]) ** 2
    assert mass.item() == pytest.approx(1, abs=1e-3)


def test_wrong_settings_say_what_is_allowed() -> None:
    with pytest.raises(ValueError, match="rank is 5; a Sylvester flow in 4 dimensions takes 1 to 4"):
        Sylvester(4, 5, 4)
    with pytest.raises(ValueError, match="flows is 0"):
        build("planar", DataSpec((2,)), flows=0)
    with pytest.raises(ValueError, match="radial takes vectors"):
        build("radial", DataSpec((1, 2, 2)))


def test_planar_and_radial_are_pyros() -> None:
    peers = pytest.importorskip("pyro.distributions.transforms")
    x = torch.randn(20, D)
    pairs = [
        (Planar(D), peers.Planar(D), {"u": "u", "w": "w", "b": "bias"}),
        (Radial(D), peers.Radial(D), {"center": "x0", "a": "alpha_prime", "d": "beta_prime"}),
    ]
    for mine, theirs, names in pairs:
        scattered(mine)
        with torch.no_grad():
            for here, there in names.items():
                getattr(theirs, there).copy_(getattr(mine, here))
        z, log_det = mine.encode(x)
        expected = theirs(x)
        torch.testing.assert_close(z, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(log_det, theirs.log_abs_det_jacobian(x, expected), rtol=1e-12, atol=1e-12)


def test_pyros_sylvester_flow_states_another_log_det_than_its_own_jacobian() -> None:
    """It multiplies rows by the matrices of the paper's columns, so that its product is no longer triangular."""
    peers = pytest.importorskip("pyro.distributions.transforms")
    theirs, x = peers.Sylvester(D, D), torch.randn(5, D)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_()
    stated = theirs.log_abs_det_jacobian(x, theirs(x))
    true = torch.linalg.slogdet(torch.func.vmap(torch.func.jacrev(lambda row: theirs._call(row[None])[0]))(x))
    assert (stated - true.logabsdet).abs().max() > 1e-2
