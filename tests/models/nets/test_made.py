from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.nets.made import MADE, BandedProduct, MaskedLinear, Memory

pytestmark = pytest.mark.usefixtures("float64")


def reads(net: MADE, wrt: str = "x") -> Tensor:
    """(D, inputs): whether any parameter of element i reads input j, by the Jacobian at ten points."""
    context_dim = net.context.in_features if net.context is not None else 0
    found = torch.zeros(net.dim, net.dim if wrt == "x" else context_dim, dtype=torch.bool)
    for _ in range(10):
        x = torch.randn(1, net.dim)
        context = torch.randn(1, context_dim) if context_dim else None
        if wrt == "x":
            jacobian = torch.autograd.functional.jacobian(lambda v, c=context: net(v, c), x)
        else:
            jacobian = torch.autograd.functional.jacobian(lambda c, v=x: net(v, c), context)
        found |= (jacobian[0, :, :, 0] != 0).any(1)
    return found


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("dim", [1, 2, 5])
@pytest.mark.parametrize("context_dim", [0, 3])
def test_element_i_reads_every_earlier_input_and_no_other(dim: int, residual: bool, context_dim: int) -> None:
    net = MADE(dim, [64, 64], 2, residual=residual, context_dim=context_dim)
    assert torch.equal(reads(net), torch.ones(dim, dim).tril(-1).bool())


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_every_element_reads_the_context(dim: int, residual: bool) -> None:
    assert reads(MADE(dim, [64, 64], 2, residual=residual, context_dim=3), wrt="context").all()


def test_shape_and_errors() -> None:
    assert MADE(4, [8], 5)(torch.randn(3, 4)).shape == (3, 4, 5)
    with pytest.raises(ValueError, match="at least one hidden layer"):
        MADE(4, [], 2)
    with pytest.raises(ValueError, match=r"hidden is \[8, 16\]"):
        MADE(4, [8, 16], 2, residual=True)


@pytest.mark.parametrize(("d_in", "d_out"), [(7, 10), (12, 12), (3, 2)])
def test_a_banded_product_is_the_masked_one(d_in: int, d_out: int) -> None:
    """Value and every gradient, against autograd of the dense product."""
    layer = MaskedLinear(torch.arange(d_in), torch.arange(d_out) * d_in // d_out)
    assert layer.bands[0][2] < layer.bands[-1][2] <= d_in and not layer.mask.all()
    x, weight, bias = torch.randn(5, d_in), layer.weight.detach() * layer.mask, layer.bias.detach()
    gradient = torch.randn(5, d_out)
    found, expected = [], []
    for product, results in (
        (lambda *values: BandedProduct.apply(*values, layer.bands), found),
        (torch.nn.functional.linear, expected),
    ):
        inputs = [value.clone().requires_grad_() for value in (x, weight, bias)]
        out = product(*inputs)
        by_x, by_weight, by_bias = torch.autograd.grad(out, inputs, gradient)
        results += [out, by_x, by_weight * layer.mask, by_bias]
    torch.testing.assert_close(found, expected)


def test_large_layers_are_banded_and_give_the_same_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = MADE(6, [128, 128], 3), torch.randn(9, 6)
    inner = net.blocks[0][-1]
    assert inner.banded and inner.bands == [(0, 32, 52), (32, 64, 78), (64, 96, 103), (96, 128, 128)]
    banded = net(x)
    monkeypatch.setattr(inner, "banded", False)
    torch.testing.assert_close(banded, net(x))


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(("dim", "hidden"), [(1, [8, 8]), (5, [16, 16]), (9, [4, 4]), (20, [12, 12])])
@pytest.mark.parametrize("context_dim", [0, 3])
@torch.no_grad()
def test_element_by_element_is_one_pass(dim: int, hidden: list[int], residual: bool, context_dim: int) -> None:
    """Also with fewer units than elements, so that some degrees have none; and what is not yet known is not read."""
    net = MADE(dim, hidden, 3, residual=residual, context_dim=context_dim, activation="tanh").eval()
    x, context = torch.randn(7, dim), torch.randn(7, context_dim) if context_dim else None
    memory, known = Memory(net, x), torch.full_like(x, torch.nan)
    for i, expected in enumerate(net(x, context).unbind(1)):
        torch.testing.assert_close(net(known, context, memory), expected)
        known[:, i] = x[:, i]


@torch.no_grad()
def test_weight_normalisation_starts_at_the_same_weights_and_scales_whole_rows() -> None:
    """W = s v / |v| before the mask: any multiple of v is the same network, and s multiplies it."""
    layer = MaskedLinear(torch.arange(5), torch.arange(5), weight_norm=True)
    start = layer.weight * layer.mask
    torch.testing.assert_close(layer.masked(), start)
    layer.weight *= torch.rand(5, 1) + 0.5
    torch.testing.assert_close(layer.masked(), start)
    layer.lengths *= 3
    torch.testing.assert_close(layer.masked(), 3 * start)


@torch.no_grad()
def test_weight_normalisation_element_by_element() -> None:
    net, x = MADE(5, [16, 16], 3, weight_norm=True), torch.randn(7, 5)
    for layer in net.modules():
        if isinstance(layer, MaskedLinear):
            layer.lengths *= 2
    memory = net.memory(x)
    for expected in net(x).unbind(1):
        torch.testing.assert_close(net(x, None, memory), expected)
