"""What every layer promises, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.layer import Kind, Layer
from tests.contracts.case import LayerCase
from tests.contracts.cases import LAYERS

pytestmark = pytest.mark.usefixtures("float64")
BATCH = 4


@pytest.fixture(params=sorted(LAYERS))
def case(request: pytest.FixtureRequest) -> LayerCase:
    return LAYERS[request.param]


def made(case: LayerCase) -> Layer:
    """A layer as it is after training: data-dependent initialisation done, parameters off their starting point."""
    torch.manual_seed(1)
    layer = case.make().double()
    layer.train()
    layer.encode(case.x(8))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return layer.eval()


def test_contributions_have_one_number_per_example(case: LayerCase) -> None:
    layer = made(case)
    for value, contribution in (layer.encode(case.x(BATCH)), layer.decode(case.z(BATCH))):
        assert len(value) == BATCH
        assert contribution.shape == (BATCH,)
        assert torch.isfinite(contribution).all()


def test_decode_inverts_encode(case: LayerCase) -> None:
    if case.roundtrip not in ("x", "both"):
        pytest.skip("x is not recoverable from z")
    layer, x = made(case), case.x(BATCH)
    z, there = layer.encode(x)
    back, again = layer.decode(z)
    torch.testing.assert_close(back.double(), x.double(), atol=case.tolerance, rtol=case.tolerance)
    if layer.kind is Kind.BIJECTION:
        torch.testing.assert_close(again, there, atol=10 * case.tolerance, rtol=10 * case.tolerance)


def test_encode_inverts_decode(case: LayerCase) -> None:
    if case.roundtrip not in ("z", "both"):
        pytest.skip("z is not recoverable from x")
    layer, z = made(case), case.z(BATCH)
    x, there = layer.decode(z)
    back, again = layer.encode(x)
    torch.testing.assert_close(back, z, atol=case.tolerance, rtol=case.tolerance)
    if layer.kind.exact:
        torch.testing.assert_close(again, there, atol=10 * case.tolerance, rtol=10 * case.tolerance)


def test_contribution_is_the_log_determinant(case: LayerCase) -> None:
    if not case.jacobian:
        pytest.skip("no square Jacobian")
    layer, x = made(case), case.x(BATCH)
    _, contribution = layer.encode(x)

    def flat(row: Tensor) -> Tensor:
        return layer.encode(row.reshape(1, *x.shape[1:]))[0].reshape(-1)

    for row, expected in zip(x, contribution, strict=True):
        jacobian = torch.autograd.functional.jacobian(flat, row.reshape(-1))
        torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, expected, atol=1e-6, rtol=1e-6)


def test_works_without_gradients_as_with_them(case: LayerCase) -> None:
    layer, x = made(case), case.x(BATCH)
    torch.manual_seed(2)
    with torch.no_grad():
        quiet = layer.encode(x)
    torch.manual_seed(2)
    for with_, without in zip(layer.encode(x), quiet, strict=True):
        torch.testing.assert_close(with_, without)


def test_a_seed_gives_the_same_bits_twice(case: LayerCase) -> None:
    layer, x, z = made(case), case.x(BATCH), case.z(BATCH)
    for step, value in ((layer.encode, x), (layer.decode, z)):
        torch.manual_seed(3)
        first = step(value)
        torch.manual_seed(3)
        assert all(torch.equal(a, b) for a, b in zip(first, step(value), strict=True))
