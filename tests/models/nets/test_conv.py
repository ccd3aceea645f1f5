from __future__ import annotations

import pytest
import torch

from models.nets.conv import ResidualConvNet

pytestmark = pytest.mark.usefixtures("float64")


def test_starts_at_zero_and_keeps_height_and_width() -> None:
    out = ResidualConvNet(3, 8, 5, blocks=2)(torch.randn(2, 3, 4, 6))
    assert out.shape == (2, 5, 4, 6)
    assert (out == 0).all()


def test_a_context_is_appended_along_the_channels() -> None:
    net, x, context = ResidualConvNet(3, 8, 2), torch.randn(2, 2, 4, 4), torch.randn(2, 1, 4, 4)
    torch.nn.init.normal_(net.last[-1].weight)
    torch.testing.assert_close(net(x, context), net(torch.cat([x, context], 1)))
