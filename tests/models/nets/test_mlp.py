from __future__ import annotations

import pytest
import torch
from torch import nn

from models.nets.mlp import MLP, ResidualMLP

pytestmark = pytest.mark.usefixtures("float64")


def test_mlp_is_affine_maps_with_the_activation_between() -> None:
    net = MLP(3, [4], 2, activation="tanh")
    first, _, last = net.layers
    x = torch.randn(5, 3)
    torch.testing.assert_close(net(x), torch.tanh(x @ first.weight.T + first.bias) @ last.weight.T + last.bias)


@pytest.mark.parametrize("make", [MLP, ResidualMLP])
def test_a_context_is_appended_to_the_input(make: type[nn.Module]) -> None:
    net, x, context = make(5, [4, 4], 2), torch.randn(6, 3), torch.randn(6, 2)
    torch.testing.assert_close(net(x, context), net(torch.cat([x, context], 1)))


def test_residual_blocks_start_near_the_identity() -> None:
    net, x = ResidualMLP(3, [16, 16], 2), torch.randn(50, 3)
    torch.testing.assert_close(net(x), net.last(net.first(x)), atol=0.02, rtol=0)


def test_dropout_acts_in_training_only() -> None:
    net, x = ResidualMLP(3, [16], 2, dropout=0.5), torch.randn(5, 3)
    nn.init.normal_(net.blocks[0][-1].weight)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ValueError, match="activation is 'rleu'"):
        MLP(1, [2], 1, activation="rleu")
    with pytest.raises(ValueError, match=r"hidden is \[4, 8\]"):
        ResidualMLP(1, [4, 8], 1)
