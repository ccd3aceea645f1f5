from __future__ import annotations

import pytest
import torch

from models.flows.normalization import ActNorm, BatchNorm

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("shape", [(500, 3), (50, 3, 4, 5)])
def test_actnorm_standardises_the_first_training_batch_only(shape: tuple[int, ...]) -> None:
    layer, x = ActNorm(3), 2 + 3 * torch.randn(shape)
    layer.eval()
    assert torch.equal(layer.encode(x)[0], x)
    layer.train()
    z, _ = layer.encode(x)
    z = z.movedim(1, 0).flatten(1)
    torch.testing.assert_close(z.mean(1), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(z.std(1, unbiased=False), torch.ones(3), atol=1e-6, rtol=0)
    again, _ = layer.encode(10 * x)
    assert again.std() > 5


def test_actnorm_remembers_across_saving_that_it_was_initialised() -> None:
    layer, x = ActNorm(3), 2 + 3 * torch.randn(100, 3)
    layer.encode(x)
    other = ActNorm(3)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.encode(7 * x)[0], layer.encode(7 * x)[0])


def test_a_pixel_counts_in_the_log_determinant() -> None:
    layer = ActNorm(3)
    with torch.no_grad():
        layer.log_scale.copy_(torch.tensor([0.1, 0.2, 0.3]))
    layer.eval()
    assert layer.encode(torch.randn(2, 3, 4, 5))[1].tolist() == pytest.approx([0.6 * 20] * 2)
    assert layer.decode(torch.randn(2, 3))[1].tolist() == pytest.approx([0.6] * 2)


def test_batchnorm_uses_the_batch_in_training_and_what_it_settled_on_after() -> None:
    layer, x = BatchNorm(3), 2 + 3 * torch.randn(400, 3)
    z, _ = layer.encode(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(3), atol=1e-8, rtol=0)
    torch.testing.assert_close(z.std(0, unbiased=False), torch.ones(3), atol=1e-5, rtol=0)
    layer.eval().settle([x], [None])
    single, contribution = layer.encode(x[:5])
    torch.testing.assert_close(single, z[:5], atol=1e-6, rtol=0)
    torch.testing.assert_close(contribution, -x.std(0, unbiased=False).log().sum().expand(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(layer.decode(single)[0], x[:5])


def test_batchnorm_differentiates_through_the_batch_statistics() -> None:
    """Shifting and scaling the whole batch changes nothing in training but the log-determinant."""
    layer, x = BatchNorm(2), torch.randn(50, 2)
    scale = torch.tensor(2.0, requires_grad=True)
    z, contribution = layer.encode(scale * x + 1)
    (gradient,) = torch.autograd.grad(contribution.mean() + z.square().mean(), scale)
    torch.testing.assert_close(gradient, torch.tensor(-2 / 2.0), atol=1e-4, rtol=0)
