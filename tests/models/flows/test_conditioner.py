from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.flows.conditioner import Coupling, MaskedAutoregressive, Separate
from models.flows.univariate import AdditiveMap, AffineMap, RationalQuadraticSpline
from models.nets.conv import ResidualConvNet
from models.nets.made import MADE
from models.nets.mlp import MLP
from models.nets.recurrent import Recurrent
from models.nets.transformer import CausalTransformer

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


def autoregressive(dim: int, gain: float, network: str = "made") -> MaskedAutoregressive:
    """Affine maps whose parameters depend on the elements before them the more, the higher the gain."""
    nets = {
        "made": lambda: MADE(dim, [64], 2),
        "residual": lambda: MADE(dim, [16, 16], 2, residual=True),
        "recurrent": lambda: Recurrent(dim, 2, hidden=8),
        "transformer": lambda: CausalTransformer(dim, 2, width=8, heads=2, layers=2),
    }
    net = nets[network]()
    with torch.no_grad():
        net.last.weight *= gain
    return MaskedAutoregressive(AffineMap(), net)


NETWORKS = ["made", "residual", "recurrent", "transformer"]


def by_hand(layer: MaskedAutoregressive, z: Tensor) -> Tensor:
    """The textbook inverse: one element per pass, D passes; plain autograd goes through all of them."""
    x = torch.zeros_like(z)
    for i in range(z.shape[1]):
        new = layer.univariate.inverse(z, layer.made(x))[0]
        x = torch.cat([x[:, :i], new[:, i : i + 1], x[:, i + 1 :]], 1)
    return x


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("gain", [0.1, 3.0])
def test_the_inverse_is_the_textbook_one_and_asks_for_each_element_once(gain: float, network: str) -> None:
    layer, z = autoregressive(12, gain, network), torch.randn(20, 12)
    passes: list[int] = []
    with torch.no_grad():
        expected = by_hand(layer, z)
        layer.made.register_forward_hook(lambda _, __, out: passes.append(out.dim()))
        x, contribution = layer.decode(z)
    assert passes == [2] * 12  # the parameters of one element, twelve times
    torch.testing.assert_close(x, expected, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(contribution, layer.encode(x)[1], atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("dim", [1, 2, 7])
def test_the_gradient_of_the_inverse_is_that_of_all_passes(dim: int, network: str) -> None:
    """With respect to z and to every weight, of the elements and of the contribution together."""
    layer, z = autoregressive(dim, 2.0, network), torch.randn(6, dim, requires_grad=True)
    weight = torch.randn(6, dim)

    def gradients(x: Tensor, contribution: Tensor) -> list[Tensor]:
        loss = (weight * x).sum() + (contribution**2).sum()
        found = torch.autograd.grad(loss, [z, *layer.parameters()], allow_unused=True)
        return [torch.zeros(()) if g is None else g for g in found]

    x = by_hand(layer, z)
    expected = gradients(x, layer.encode(x)[1])
    torch.testing.assert_close(gradients(*layer.decode(z)), expected, atol=1e-8, rtol=1e-8)


def test_the_gradient_of_the_inverse_is_the_inverse_of_the_gradient() -> None:
    layer, z = autoregressive(4, 2.0), torch.randn(1, 4)
    x = layer.decode(z)[0].detach()
    there = torch.autograd.functional.jacobian(lambda v: layer.encode(v)[0], x)[0, :, 0]
    back = torch.autograd.functional.jacobian(lambda v: layer.decode(v)[0], z)[0, :, 0]
    torch.testing.assert_close(there @ back, torch.eye(4))


def test_a_second_derivative_of_the_inverse_is_refused() -> None:
    layer, z = autoregressive(4, 1.0), torch.randn(2, 4, requires_grad=True)
    with pytest.raises(RuntimeError, match="differentiable once"):
        torch.autograd.grad(layer.decode(z)[0].sum(), z, create_graph=True)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_the_gradient_of_the_inverse_is_exact_at_any_scale(scale: float) -> None:
    layer, z = autoregressive(30, 2.0), torch.randn(3, 30, requires_grad=True)
    weight = torch.randn(3, 30)
    (expected,) = torch.autograd.grad((weight * by_hand(layer, z)).sum(), z)
    (found,) = torch.autograd.grad((scale * weight * layer.decode(z)[0]).sum(), z)
    torch.testing.assert_close(found / scale, expected, atol=1e-10, rtol=1e-10)


class Summing(torch.nn.Module):
    """Shifts c (x_1 + ... + x_{i-1}): a matrix with zeros above its diagonal, as masked weights have."""

    def __init__(self, dim: int, c: float) -> None:
        super().__init__()
        self.weight = c * torch.ones(dim, dim).tril(-1)

    def memory(self, x: Tensor) -> list[int]:
        return []

    def forward(self, x: Tensor, context: Tensor | None = None, memory: list[int] | None = None) -> Tensor:
        if memory is None:
            return (x @ self.weight.T)[..., None]
        memory.append(1)
        i = len(memory) - 1
        return x[:, :i] @ self.weight[i, :i, None]


def test_gradients_that_overflow_on_their_way_spoil_nothing() -> None:
    """The rounds grow as 2.9^k, beyond float32, before the last of them is right; and it is of order one."""
    dim, c = 120, 1.9
    layer = MaskedAutoregressive(AdditiveMap(), Summing(dim, c))
    z, weight = torch.randn(5, dim), torch.randn(5, dim)
    jacobian = torch.eye(dim) + layer.made.weight
    expected = torch.linalg.solve_triangular(jacobian.T, weight.T, upper=True).T
    layer.made.weight = layer.made.weight.float()
    z = z.float().requires_grad_()
    (found,) = torch.autograd.grad((weight.float() * layer.decode(z)[0]).sum(), z)
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-4)


def test_separate_networks_give_each_element_its_own_pair() -> None:
    scale, shift = MLP(2, [8], 3), MLP(2, [8], 3)
    layer, x = Coupling(AffineMap(), MASK, Separate([scale, shift])), torch.randn(4, 5)
    kept = x[:, ~MASK]
    torch.testing.assert_close(layer.encode(x)[0][:, MASK], x[:, MASK] * scale(kept).exp() + shift(kept))
    torch.testing.assert_close(layer.encode(x)[1], scale(kept).sum(1))
