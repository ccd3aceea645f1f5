"""A small residual convolutional network for images (batch, C, H, W), of the same height and width out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.nets.mlp import Activation, activation_module


class ResidualConvNet(nn.Module):
    """3x3 convolution, ``blocks`` pre-activation residual blocks (3x3 then 1x1), 3x3 convolution.

    The last convolution starts at zero, so that a layer conditioned on this network starts as a fixed map. A
    context (batch, c, H, W) is appended along the channels, and ``c_in`` counts it.
    """

    def __init__(self, c_in: int, width: int, c_out: int, blocks: int = 1, activation: Activation = "relu") -> None:
        super().__init__()
        self.first = nn.Conv2d(c_in, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                activation_module(activation),
                nn.Conv2d(width, width, 3, padding=1),
                activation_module(activation),
                nn.Conv2d(width, width, 1),
            )
            for _ in range(blocks)
        )
        self.last = nn.Sequential(activation_module(activation), nn.Conv2d(width, c_out, 3, padding=1))
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        h = self.first(x if context is None else torch.cat([x, context], 1))
        for block in self.blocks:
            h = h + block(h)
        return self.last(h)
