from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.flows.conditioner import Coupling, MaskedAutoregressive
from models.flows.univariate import AffineMap, RationalQuadraticSpline
from models.nets.conv import ResidualConvNet
from models.nets.made import MADE
from models.nets.mlp import MLP

pytestmark = pytest.mark.usefixtures("float64")
MASK = torch.tensor([True, False, True, False, True])


def test_a_coupling_keeps_one_part_and_reads_no_other() -> None:
    layer, x = Coupling(AffineMap(), MASK, MLP(2, [8], 6)), torch.randn(4, 5)
    z, _ = layer.encode(x)
    assert torch.equal(z[:, ~MASK], x[:, ~MASK]) and (z[:, MASK] != x[:, MASK]).all()
    jacobian = torch.autograd.functional.jacobian(lambda v: layer.encode(v)[0].sum(0), x)[:, 0]
    moved = jacobian[MASK][:, MASK]
    assert torch.equal(moved != 0, torch.eye(3).bool())


def test_each_element_gets_its_own_parameters() -> None:
    """Only the last element of B changes when only its parameters do: the grouping is by element."""
    network = MLP(2, [8], 6)
    layer, x = Coupling(AffineMap(), MASK, network), torch.randn(4, 5)
    before, _ = layer.encode(x)
    with torch.no_grad():
        network.layers[-1].bias[4:] += 1
    assert torch.equal((layer.encode(x)[0] != before).any(0), torch.tensor([False] * 4 + [True]))


def test_images_are_split_along_channels_and_sequences_along_any_dimension() -> None:
    network = ResidualConvNet(2, 8, 2 * 11)
    torch.nn.init.normal_(network.last[-1].weight, std=0.1)
    layer = Coupling(RationalQuadraticSpline(4), torch.tensor([False, False, True, True]), network, unconditional=True)
    x = torch.randn(3, 4, 2, 6)
    z, contribution = layer.encode(x)
    back, again = layer.decode(z)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(again, contribution)
    points = Coupling(AffineMap(), torch.tensor([False, True]), MLP(1, [8], 2), dim=2)
    x = torch.randn(3, 7, 2)
    torch.testing.assert_close(points.decode(points.encode(x)[0])[0], x)


def test_free_parameters_move_the_other_part() -> None:
    layer, x = Coupling(RationalQuadraticSpline(4), MASK, MLP(2, [8], 33), unconditional=True), torch.randn(6, 5)
    z, contribution = layer.encode(x)
    assert (z != x).any(0).all()
    back, again = layer.decode(z)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(again, contribution)


def test_masks_are_checked() -> None:
    for mask in (torch.ones(3), torch.zeros(3), torch.eye(2)):
        with pytest.raises(ValueError, match="mask"):
            Coupling(AffineMap(), mask.bool(), MLP(1, [1], 1))


@pytest.mark.parametrize("context_dim", [0, 2])
def test_context_reaches_both_conditioners(context_dim: int) -> None:
    x = torch.randn(4, 5)
    context = torch.randn(4, context_dim) if context_dim else None
    for layer in (
        Coupling(AffineMap(), MASK, MLP(2 + context_dim, [8], 6)),
        MaskedAutoregressive(AffineMap(), MADE(5, [16], 2, context_dim=context_dim)),
    ):
        z, contribution = layer.encode(x, context)
        back, again = layer.decode(z, context)
        torch.testing.assert_close(back, x)
        torch.testing.assert_close(again, contribution)
        if context is not None:
            assert (layer.encode(x, context + 1)[1] != contribution).all()


def counted(layer: MaskedAutoregressive) -> list[int]:
    """A list that grows by one with every pass of the layer's network."""
    passes: list[int] = []
    layer.made.register_forward_hook(lambda *_: passes.append(1))
    return passes


def autoregressive(dim: int, gain: float) -> MaskedAutoregressive:
    made = MADE(dim, [64], 2)
    with torch.no_grad():
        made.last.weight *= gain
    return MaskedAutoregressive(AffineMap(), made)


def by_hand(layer: MaskedAutoregressive, z: Tensor) -> Tensor:
    """The textbook inverse: one element per pass, D passes."""
    x = torch.zeros_like(z)
    for i in range(z.shape[1]):
        x[:, i] = layer.univariate.inverse(z, layer.made(x))[0][:, i]
    return x


@pytest.mark.parametrize("gain", [0.1, 3.0])
def test_the_parallel_inverse_is_the_sequential_one_in_at_most_d_passes(gain: float) -> None:
    layer, z = autoregressive(12, gain), torch.randn(20, 12)
    with torch.no_grad():
        expected = by_hand(layer, z)
        passes = counted(layer)
        x, contribution = layer.decode(z)
    torch.testing.assert_close(x, expected, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(contribution, layer.encode(x)[1], atol=1e-9, rtol=1e-9)
    assert len(passes) - 1 <= 12  # the last one is encode's, just above


def test_a_weak_dependence_takes_few_passes_and_a_gradient_all() -> None:
    layer, z = autoregressive(30, 0.05), torch.randn(5, 30)
    passes = counted(layer)
    with torch.no_grad():
        layer.decode(z)
    assert len(passes) < 15
    passes.clear()
    layer.decode(z)
    assert len(passes) == 30


def test_the_gradient_of_the_inverse_is_the_inverse_of_the_gradient() -> None:
    layer, z = autoregressive(4, 2.0), torch.randn(1, 4)
    x = layer.decode(z)[0].detach()
    there = torch.autograd.functional.jacobian(lambda v: layer.encode(v)[0], x)[0, :, 0]
    back = torch.autograd.functional.jacobian(lambda v: layer.decode(v)[0], z)[0, :, 0]
    torch.testing.assert_close(there @ back, torch.eye(4))


def test_a_guess_that_overflows_spoils_nothing() -> None:
    """Far wrong first guesses of later elements must not reach earlier ones through masked (zero) weights."""
    layer = autoregressive(6, 1.0)
    with torch.no_grad():
        layer.made.last.weight *= 200
        x = 0.3 * torch.randn(50, 6).float().double()
        layer.float()
        z, _ = layer.encode(x.float())
        keep = torch.isfinite(z).all(1)
        back, _ = layer.decode(torch.where(keep[:, None], z, 0.0))
        expected = by_hand(layer, torch.where(keep[:, None], z, 0.0))
    assert keep.sum() > 5 and not torch.isnan(back).any()
    torch.testing.assert_close(back[keep], expected[keep])
