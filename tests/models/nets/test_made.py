from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.nets.made import MADE

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
