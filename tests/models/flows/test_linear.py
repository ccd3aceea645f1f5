from __future__ import annotations

import pytest
import torch

from models.flows.linear import InvertibleConv1x1, LULinear, PackedLU, Permutation, Reverse

pytestmark = pytest.mark.usefixtures("float64")


def test_packed_lu_is_the_matrix_it_was_made_from() -> None:
    matrix = torch.randn(6, 6)
    packed = PackedLU(matrix)
    torch.testing.assert_close(packed.matrix(), matrix)
    torch.testing.assert_close(packed.log_abs_det(), torch.linalg.slogdet(matrix).logabsdet)
    columns = torch.randn(6, 3)
    torch.testing.assert_close(packed.solve(columns), torch.linalg.solve(matrix, columns))


def test_packed_lu_stays_invertible_and_right_under_any_parameter() -> None:
    packed = PackedLU(torch.randn(5, 5))
    torch.nn.init.normal_(packed.packed)
    torch.testing.assert_close(packed.log_abs_det(), torch.linalg.slogdet(packed.matrix()).logabsdet)
    torch.testing.assert_close(packed.matrix() @ packed.solve(torch.eye(5)), torch.eye(5))


def test_lu_linear_starts_as_the_identity() -> None:
    x = torch.randn(4, 3)
    z, contribution = LULinear(3).encode(x)
    assert torch.equal(z, x) and (contribution == 0).all()


def test_the_convolution_starts_as_a_rotation_of_the_channels() -> None:
    layer, x = InvertibleConv1x1(6), torch.randn(2, 6, 3, 5)
    z, contribution = layer.encode(x)
    torch.testing.assert_close(z.square().sum(1), x.square().sum(1))
    torch.testing.assert_close(contribution, torch.zeros(2))
    torch.testing.assert_close(z[:, :, 1, 2], x[:, :, 1, 2] @ layer.weight.matrix().T)


def test_permutations() -> None:
    x = torch.arange(6.0).reshape(2, 3)
    z, _ = Permutation(torch.tensor([2, 0, 1])).encode(x)
    assert torch.equal(z, x[:, [2, 0, 1]])
    assert torch.equal(Reverse().encode(x)[0], x[:, [2, 1, 0]])
    random = Permutation(50)
    assert torch.equal(random.order.sort().values, torch.arange(50))
    assert not torch.equal(random.order, torch.arange(50))


def test_a_saved_permutation_and_rotation_come_back() -> None:
    for make, x in (
        (lambda: Permutation(20), torch.randn(2, 20)),
        (lambda: InvertibleConv1x1(5), torch.randn(2, 5, 2, 2)),
    ):
        layer, other = make(), make()
        other.load_state_dict(layer.state_dict())
        assert torch.equal(other.encode(x)[0], layer.encode(x)[0])
