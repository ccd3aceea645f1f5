"""The gated PixelCNN: what each pixel sees, normalization, and its parallel sampler."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from models.autoregressive.pixelcnn import PixelCNN, pixelcnn
from models.nets.masked_conv import GatedPixelCNN
from models.registry import DataSpec

pytestmark = pytest.mark.usefixtures("float64")


def small(shape: tuple[int, int, int], levels: int, blocks: int = 2) -> PixelCNN:
    network = GatedPixelCNN(shape[0], levels, features=4 * shape[0], blocks=blocks, first=3, head=4 * shape[0])
    for parameter in network.parameters():  # sharper than at the start, so that pixels matter to each other
        parameter.data.mul_(2)
    return PixelCNN(network, shape)


def in_raster_order(x: Tensor) -> Tensor:
    """(..., C, H, W) -> (..., H * W * C): the order in which values are generated."""
    return x.movedim(-3, -1).flatten(-3)


@pytest.mark.parametrize("shape", [(1, 4, 5), (2, 3, 3), (3, 3, 3)])
def test_logits_depend_on_all_earlier_values_and_on_no_other(shape: tuple[int, int, int]) -> None:
    """No blind spot: the Jacobian's pattern is the full strict lower triangle in raster order."""
    network, x = small(shape, levels=3, blocks=4).network, torch.rand(1, *shape)
    for parameter in network.parameters():  # all signs positive: no dependence is cancelled or behind a dead unit
        parameter.data.abs_().mul_(0.2)
    jacobian = torch.autograd.functional.jacobian(lambda y: network(y)[0].sum(0), x)[:, :, :, 0]
    seen = in_raster_order(in_raster_order(jacobian).movedim(-1, 0)).T != 0
    assert torch.equal(seen, torch.ones_like(seen).tril(-1))


def test_a_shallow_network_sees_as_far_as_it_says() -> None:
    """first // 2 + blocks * (size // 2) pixels: here 2, of a row of 6."""
    network = small((1, 1, 6), levels=2, blocks=1).network
    x = torch.rand(1, 1, 1, 6)
    for parameter in network.parameters():
        parameter.data.abs_()
    jacobian = torch.autograd.functional.jacobian(lambda y: network(y)[0].sum(0).flatten(), x).flatten(1)
    expected = torch.ones(6, 6, dtype=torch.bool).tril(-1).triu(-2)
    assert torch.equal(jacobian != 0, expected)


@pytest.mark.parametrize(("shape", "levels"), [((1, 2, 2), 2), ((1, 2, 2), 3), ((2, 1, 2), 3)])
def test_probabilities_of_all_images_sum_to_one(shape: tuple[int, int, int], levels: int) -> None:
    model = small(shape, levels)
    images = torch.tensor(list(itertools.product(range(levels), repeat=4))).view(-1, *shape)
    torch.testing.assert_close(model.log_prob(images).exp().sum(), torch.tensor(1.0))


def ancestral_sample(model: PixelCNN, noise: Tensor) -> Tensor:
    """One value at a time, each the quantile of its own noise."""
    x = torch.zeros_like(noise, dtype=torch.long)
    colours, height, width = model.shape
    for i, j, c in itertools.product(range(height), range(width), range(colours)):
        probability = model.network(2 * x.to(noise) / (model.levels - 1) - 1)[:, :, c, i, j].softmax(1)
        x[:, c, i, j] = (probability.cumsum(1) <= noise[:, c, i, j, None]).sum(1).clamp(max=model.levels - 1)
    return x


@pytest.mark.parametrize("shape", [(1, 4, 4), (2, 3, 3)])
def test_the_parallel_sampler_gives_the_ancestral_sample(shape: tuple[int, int, int]) -> None:
    model, noise = small(shape, levels=4), torch.rand(16, *shape)
    with torch.no_grad():
        expected = ancestral_sample(model, noise)
    assert torch.equal(model.decode(noise), expected)


def test_sampling_takes_at_most_one_pass_per_value() -> None:
    model, calls = small((1, 3, 3), levels=4), []
    model.network.register_forward_hook(lambda *_: calls.append(1))
    model.sample(20)
    assert len(calls) <= 9


def test_samples_occur_as_often_as_the_probabilities_say() -> None:
    model, n = small((1, 2, 2), levels=2), 20_000
    images = torch.tensor(list(itertools.product(range(2), repeat=4))).view(-1, 1, 2, 2)
    share = torch.bincount(model.sample(n).flatten(1) @ torch.tensor([8, 4, 2, 1]), minlength=16) / n
    assert (share - model.log_prob(images).exp()).abs().max() < 5 * 0.5 / n**0.5


def test_it_refuses_what_is_not_an_integer_image() -> None:
    with pytest.raises(ValueError, match="integer images"):
        pixelcnn(DataSpec((2,)))
    with pytest.raises(ValueError, match="multiples of the image's 3 channels"):
        pixelcnn(DataSpec((3, 4, 4), levels=4), features=16)
