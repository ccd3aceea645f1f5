"""The U-Net: shapes at every size it claims, its zero start, and reach of its receptive field and time."""

from __future__ import annotations

import pytest
import torch

from models.nets.time import TimeMLP
from models.nets.unet import UNet, time_network

pytestmark = pytest.mark.usefixtures("float64")


def awake(net: UNet) -> UNet:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net


@pytest.mark.parametrize(
    ("shape", "widths"), [((1, 8, 8), (4, 8)), ((1, 28, 28), (4, 4, 8)), ((3, 32, 32), (4, 4, 4, 4))]
)
@pytest.mark.parametrize("blocks", [1, 2])
def test_shapes_and_times(shape: tuple[int, int, int], widths: tuple[int, ...], blocks: int) -> None:
    net, x = UNet(shape[0], widths, blocks), torch.randn(2, *shape)
    assert torch.equal(net(torch.tensor(0.3), x), torch.zeros_like(x))  # the output starts at zero
    out = awake(net)(torch.tensor(0.3), x)
    assert out.shape == x.shape
    torch.testing.assert_close(net(torch.full((2,), 0.3), x), out)
    assert (net(torch.tensor(0.9), x) - out).abs().max() > 1e-4


@pytest.mark.parametrize("attention", [True, False])
def test_every_pixel_sees_every_other(attention: bool) -> None:
    net = awake(UNet(1, (4, 8), attention=attention))
    x = torch.randn(1, 1, 8, 8, requires_grad=True)
    net(torch.tensor(0.5), x)[0, 0, 0, 0].backward()
    assert x.grad is not None
    assert (x.grad != 0).all()


def test_network_of_a_recipe() -> None:
    assert isinstance(time_network((2,), (8,)), TimeMLP)
    assert isinstance(time_network((1, 8, 8), (8,), widths=(4, 8)), UNet)
    for shape in ((2,), (1, 6, 6)):
        with pytest.raises(ValueError, match="sides divide by 4"):
            time_network(shape, (8,), widths=(4, 4, 4))
