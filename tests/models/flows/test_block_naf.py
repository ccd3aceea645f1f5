from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from torch import Tensor

from models.flows.block_naf import BlockLinear, BlockNAF, log_matmul, log_tanh_slope
from models.registry import DataSpec, build

pytestmark = pytest.mark.usefixtures("float64")


@torch.no_grad()
def scattered(dim: int, hidden: list[int], gated: bool = True, scale: float = 0.5) -> BlockNAF:
    layer = BlockNAF(dim, hidden, gated=gated)
    for parameter in layer.parameters():
        parameter.add_(scale * torch.randn_like(parameter))
    return layer


def jacobian(layer: BlockNAF, x: Tensor) -> Tensor:
    return torch.func.vmap(torch.func.jacrev(lambda row: layer.encode(row[None])[0][0]))(x)


def test_a_block_matrix_is_triangular_positive_on_its_diagonal_and_has_rows_of_the_stated_norm() -> None:
    linear = BlockLinear(3, 2, 4)
    weight, _, log_diagonal = linear.weights()
    torch.testing.assert_close(weight.norm(dim=1), linear.log_scale.exp()[:, 0])
    blocks = weight.view(3, 4, 3, 2).movedim(2, 1)
    for i in range(3):
        assert (blocks[i, i] > 0).all() and (blocks[i, i + 1 :] == 0).all() and (blocks[i, :i] != 0).all()
        torch.testing.assert_close(blocks[i, i].log(), log_diagonal[i])


def test_weights_off_the_diagonal_are_never_exponentiated() -> None:
    linear = BlockLinear(2, 1, 1)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[0.0, 1e4], [1e4, 0.0]]))
    weight, _, log_diagonal = linear.weights()
    gradient = torch.autograd.grad(weight.sum() + log_diagonal.sum(), linear.weight)[0]
    assert torch.isfinite(weight).all() and torch.isfinite(gradient).all()
    assert gradient[0, 1] == 0


def test_log_matmul_is_the_log_of_the_product_where_the_product_would_underflow() -> None:
    a, b = torch.randn(3, 4, 5), torch.randn(3, 5, 6)
    torch.testing.assert_close(log_matmul(a, b), (a.exp() @ b.exp()).log())
    torch.testing.assert_close(log_matmul(a - 1e6, b + 3e5), (a.exp() @ b.exp()).log() - 7e5)
    apart = torch.tensor([[0.0, -2000.0]]), torch.tensor([[-2000.0], [0.0]])  # underflows even so: a finite floor
    apart[0].requires_grad_()
    floor = log_matmul(*apart)
    floor.sum().backward()
    assert -720 < floor.item() < -700 and torch.isfinite(apart[0].grad).all()


def test_the_slope_of_tanh() -> None:
    x = torch.linspace(-15, 15, 301)
    torch.testing.assert_close(log_tanh_slope(x), -2 * torch.cosh(x).log(), rtol=1e-12, atol=1e-12)
    far = torch.tensor([-1e6, 1e6], requires_grad=True)
    value = log_tanh_slope(far)
    torch.testing.assert_close(value.detach(), torch.full((2,), 2 * math.log(2) - 2e6))
    assert torch.autograd.grad(value.sum(), far)[0].tolist() == [2, -2]


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("hidden", [[3], [4, 7], [5, 2, 3]])
def test_the_jacobian_is_triangular_increasing_and_in_the_contribution(hidden: list[int], gated: bool) -> None:
    layer, x = scattered(4, hidden, gated), 2 * torch.randn(20, 4)
    _, contribution = layer.encode(x)
    found = jacobian(layer, x)
    assert (found.triu(1) == 0).all() and (found.diagonal(dim1=1, dim2=2) > 0).all()
    expected = found.diagonal(dim1=1, dim2=2).log().sum(1)
    torch.testing.assert_close(contribution, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dim", [1, 2, 6])
def test_inverse_of_the_map_and_the_map_of_the_inverse(dim: int) -> None:
    layer, x = scattered(dim, [6, 6]), 3 * torch.randn(50, dim)
    z, there = layer.encode(x)
    back, again = layer.decode(z)
    torch.testing.assert_close(back, x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(again, there, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(layer.encode(layer.decode(z)[0])[0], z, rtol=1e-11, atol=1e-11)


def test_the_inverse_is_scipys_root() -> None:
    layer = scattered(1, [5])
    z = torch.tensor([[-30.0], [0.2], [7.0]])
    with torch.no_grad():
        values = z[:, 0].tolist()
        roots = [brentq(lambda t, v=v: layer.encode(torch.tensor([[t]]))[0].item() - v, -1e4, 1e4) for v in values]
        torch.testing.assert_close(layer.decode(z)[0][:, 0], torch.tensor(roots), rtol=1e-9, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3),
    st.sampled_from([torch.float32, torch.float64]),
    st.integers(0, 10**6),
)
def test_extreme_inputs_have_finite_values_and_gradients_and_come_back(
    point: list[float], dtype: torch.dtype, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = scattered(3, [4, 4]).to(dtype)
    x = torch.tensor([point, [1e6, -1e6, 1e6], [0.0, 0.0, 0.0]], dtype=dtype, requires_grad=True)
    z, log_det = layer.encode(x)
    gradients = torch.autograd.grad(z.sum() + log_det.sum(), [x, *layer.parameters()])
    assert all(torch.isfinite(value).all() for value in (z, log_det, *gradients))
    if dtype == torch.float64:
        with torch.no_grad():
            forth = layer.encode(layer.decode(z)[0])[0]
        torch.testing.assert_close(forth, z.detach(), rtol=1e-9, atol=1e-9)


def test_samples_have_the_derivative_of_the_inverse() -> None:
    layer, z = scattered(3, [4, 4]), torch.randn(1, 3)
    slope = torch.autograd.functional.jacobian(lambda z: layer.decode(z[None])[0][0], z[0])
    expected = torch.linalg.inv(jacobian(layer, layer.decode(z)[0]))[0]
    torch.testing.assert_close(slope, expected, rtol=1e-8, atol=1e-8)
    for parameter in layer.parameters():
        (gradient,) = torch.autograd.grad(layer.decode(z)[0].sum(), parameter)
        direction, numeric = torch.randn_like(parameter), 0.0
        with torch.no_grad():
            for step in (1e-5, -1e-5):
                parameter.add_(step * direction)
                numeric += layer.decode(z)[0].sum() / (2 * step)
                parameter.sub_(step * direction)
        torch.testing.assert_close((gradient * direction).sum(), numeric, rtol=1e-5, atol=1e-7)


def test_without_a_gate_the_range_is_bounded_and_the_inverse_says_so() -> None:
    layer = scattered(2, [4], gated=False)
    with pytest.raises(ArithmeticError), torch.no_grad():
        layer.decode(torch.full((1, 2), 1e3))


def mass(**settings: object) -> float:
    torch.manual_seed(3)
    model = build("block-naf", DataSpec((2,)), flows=2, layers=1, hidden=6, **settings)
    side = torch.linspace(-30, 30, 600)
    with torch.no_grad():
        return (model.log_prob(torch.cartesian_prod(side, side)).exp().sum() * (side[1] - side[0]) ** 2).item()


def test_the_density_integrates_to_one_if_every_flow_has_its_gate() -> None:
    assert mass() == pytest.approx(1, abs=2e-3)
    assert mass(gate_last=False) < 0.99


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"flows": 0}, "flows is 0"), ({"layers": 0}, "layers is 0"), ({"hidden": 0}, "hidden is 0")],
)
def test_wrong_settings_say_what_is_allowed(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build("block-naf", DataSpec((2,)), **wrong)


@pytest.mark.parametrize("gated", [False, True])
def test_it_is_pyros(gated: bool) -> None:
    """Pyro adds 1e-8 to its norms and gates, and its gate is the share of x, not of f."""
    peers = pytest.importorskip("pyro.distributions.transforms")
    theirs = peers.BlockAutoregressive(4, [5, 6], residual="gated" if gated else None)
    mine, x = scattered(4, [5, 6], gated), torch.randn(20, 4)
    with torch.no_grad():
        for linear, other in zip(mine.linears, theirs.layers, strict=True):
            other._weight.copy_(linear.weight)
            other._diag_weight.copy_(linear.log_scale)
            other.bias.copy_(linear.bias)
        if gated:
            theirs.gate.copy_(-mine.gate)
    z, contribution = mine.encode(x)
    expected = theirs(x)
    torch.testing.assert_close(z, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(contribution, theirs.log_abs_det_jacobian(x, expected), rtol=1e-6, atol=2e-6)
