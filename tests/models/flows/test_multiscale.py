from __future__ import annotations

import pytest
import torch

from models.flows.multiscale import Squeeze, glow_layers
from models.layer import Chain, Kind
from models.registry import DataSpec, build

pytestmark = pytest.mark.usefixtures("float64")


def test_squeeze_makes_channels_of_neighbourhoods() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    z, contribution = Squeeze().encode(x)
    assert z.shape == (1, 4, 2, 2) and contribution.item() == 0
    assert z[0, :, 0, 0].tolist() == [0, 1, 4, 5]
    assert torch.equal(Squeeze().decode(z)[0], x)


@pytest.mark.parametrize(("scales", "left"), [(1, (4, 4, 4)), (2, (8, 2, 2)), (3, (16, 1, 1))])
def test_each_scale_halves_what_goes_on(scales: int, left: tuple[int, int, int]) -> None:
    layers, shape = glow_layers((1, 8, 8), scales=scales, steps=1, width=4, blocks=1, scale="tanh")
    chain = Chain(layers)
    assert shape == left
    assert chain.encode(torch.randn(5, 1, 8, 8))[0].shape == (5, *left)
    assert chain.decode(torch.randn(5, *left))[0].shape == (5, 1, 8, 8)
    assert chain.kind is (Kind.BIJECTION if scales == 1 else Kind.INFERENCE_SURJECTION)


def test_the_first_batch_comes_out_standardised() -> None:
    layers, _ = glow_layers((1, 8, 8), scales=1, steps=3, width=4, blocks=1, scale="tanh")
    z, _ = Chain(layers).encode(5 + 3 * torch.randn(200, 1, 8, 8))
    assert abs(z.mean()) < 0.1 and abs(z.std() - 1) < 0.1


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match="28x28 images cannot be halved"):
        build("glow", DataSpec((1, 28, 28), levels=256), scales=3)
    with pytest.raises(ValueError, match=r"glow takes images, not data of shape \(2,\)"):
        build("glow", DataSpec((2,)))
    with pytest.raises(ValueError, match="there is glow"):
        build("maf", DataSpec((1, 8, 8), levels=17))
