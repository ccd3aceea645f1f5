from __future__ import annotations

import pytest
import torch

from models.flows.linear import (
    InvertibleConv1x1,
    LULinear,
    PackedLU,
    PackedQR,
    PackedTriangular,
    Permutation,
    Rescale,
    Reverse,
)
from models.layer import Model
from models.registry import DataSpec, build

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


FACTORED = {
    "lu": lambda n: PackedLU(torch.eye(n)),
    "qr": PackedQR,
    "lower": lambda n: PackedTriangular(n, upper=False),
    "upper": lambda n: PackedTriangular(n, upper=True),
}


@pytest.mark.parametrize("kind", FACTORED)
@pytest.mark.parametrize("n", [1, 2, 9])
def test_a_factored_matrix_is_consistent_under_any_parameter(kind: str, n: int) -> None:
    weight = FACTORED[kind](n)
    for parameter in weight.parameters():
        torch.nn.init.normal_(parameter)
    matrix = weight.matrix()
    torch.testing.assert_close(weight.log_abs_det(), torch.linalg.slogdet(matrix).logabsdet)
    torch.testing.assert_close(matrix @ weight.solve(torch.eye(n)), torch.eye(n), atol=1e-6, rtol=0)


def test_triangular_matrices_are_and_start_as_the_identity() -> None:
    for upper, part in ((False, torch.tril), (True, torch.triu)):
        weight = PackedTriangular(5, upper=upper)
        assert torch.equal(weight.matrix(), torch.eye(5))
        torch.nn.init.normal_(weight.packed)
        assert torch.equal(part(weight.matrix()), weight.matrix()) and (weight.matrix().diagonal() > 0).all()


def test_qr_starts_as_a_rotation_and_keeps_q_orthogonal() -> None:
    weight = PackedQR(6)
    torch.testing.assert_close(weight.matrix() @ weight.matrix().T, torch.eye(6))
    for parameter in weight.parameters():
        torch.nn.init.normal_(parameter, std=3.0)
    q = weight.orthogonal.matrix()
    torch.testing.assert_close(q @ q.T, torch.eye(6))
    torch.testing.assert_close(q.T @ weight.matrix(), weight.triangular.matrix())


def test_qr_reflections_are_those_of_householder_one_after_another() -> None:
    weight = PackedQR(4)
    product = torch.eye(4)
    for v in weight.orthogonal.vectors.T:
        product = product @ (torch.eye(4) - 2 * torch.outer(v, v) / (v @ v))
    torch.testing.assert_close(weight.orthogonal.matrix(), product)


@pytest.mark.parametrize("kind", ["lu", "qr", "triangular"])
def test_a_full_linear_flow_learns_any_gaussian(kind: str) -> None:
    """By maximum likelihood the density becomes N(mean, cov) of the rows, whose entropy is known in closed form."""
    x = torch.randn(500, 3) @ torch.randn(3, 3) + torch.randn(3)
    model = build("linear", DataSpec((3,)), kind=kind)
    _fit(model, x)
    expected = torch.distributions.MultivariateNormal(x.mean(0), x.T.cov(correction=0))
    torch.testing.assert_close(model.log_prob(x), expected.log_prob(x), atol=1e-3, rtol=1e-3)


def test_a_permutation_with_scales_learns_a_diagonal_gaussian() -> None:
    x = torch.randn(500, 3) * torch.tensor([0.5, 1.0, 4.0]) + torch.randn(3)
    model = build("linear", DataSpec((3,)), kind="permutation")
    _fit(model, x)
    expected = torch.distributions.Normal(x.mean(0), x.std(0, correction=0))
    torch.testing.assert_close(model.log_prob(x), expected.log_prob(x).sum(1), atol=1e-3, rtol=1e-3)


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="kind is 'svd'; it takes permutation, lu, qr, triangular"):
        build("linear", DataSpec((3,)), kind="svd")


def test_rescaling() -> None:
    layer, x = Rescale(3), torch.randn(4, 3)
    assert torch.equal(layer.encode(x)[0], x)
    with torch.no_grad():
        layer.log_scale.copy_(torch.tensor([0.5, -1.0, 2.0]))
    z, contribution = layer.encode(x)
    torch.testing.assert_close(z, x * torch.tensor([0.5, -1.0, 2.0]).exp())
    torch.testing.assert_close(contribution, torch.full((4,), 1.5))
    shifted = Rescale(3, shift=True)
    with torch.no_grad():
        shifted.log_scale.copy_(layer.log_scale)
        shifted.shift.copy_(torch.tensor([1.0, 2.0, 3.0]))
    torch.testing.assert_close(shifted.encode(x)[0], z + shifted.shift)
    torch.testing.assert_close(shifted.decode(z + shifted.shift)[0], x)


def _fit(model: Model, x: torch.Tensor) -> None:
    model.train().loss(x)  # actnorm starts from the first batch
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=300, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model.loss(x)
        loss.backward()
        return loss

    optimizer.step(closure)
