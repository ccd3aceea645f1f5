"""Convolutions that see only what comes earlier in raster order, and the gated PixelCNN's network.

Raster order: row by row, left to right, and within a pixel channel by channel. Feature i belongs to colour
i mod C: it may see the colours before its own (in the first layer) or up to its own (in the later ones).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MaskedConv2d(nn.Conv2d):
    """A convolution with its own padding (left, right, top, bottom; negative crops) and a mask on its weights."""

    def __init__(
        self, c_in: int, c_out: int, kernel: tuple[int, int], pad: tuple[int, int, int, int], mask: Tensor | None = None
    ) -> None:
        super().__init__(c_in, c_out, kernel)
        self.pad = pad
        self.register_buffer("mask", None if mask is None else mask.expand_as(self.weight), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight if self.mask is None else self.weight * self.mask
        return F.conv2d(F.pad(x, self.pad), weight, self.bias)


def vertical_conv(c_in: int, c_out: int, size: int, *, strict: bool) -> MaskedConv2d:
    """Sees size // 2 rows above at full width, and the own row too unless ``strict``."""
    reach = size // 2
    height, crop = (reach, -1) if strict else (reach + 1, 0)
    return MaskedConv2d(c_in, c_out, (height, size), (reach, reach, reach, crop))


def horizontal_conv(c_in: int, c_out: int, size: int, colours: int, *, strict: bool) -> MaskedConv2d:
    """Sees size // 2 pixels to the left, and of the own pixel the colours that ``colour_mask`` opens."""
    reach = size // 2
    mask = torch.ones(c_out, c_in, 1, reach + 1)
    mask[..., -1] = colour_mask(c_in, c_out, colours, strict=strict)[..., 0]
    return MaskedConv2d(c_in, c_out, (1, reach + 1), (reach, 0, 0, 0), mask)


def pointwise_conv(c_in: int, c_out: int, colours: int) -> MaskedConv2d:
    """A 1x1 convolution within the horizontal stack."""
    return MaskedConv2d(c_in, c_out, (1, 1), (0, 0, 0, 0), colour_mask(c_in, c_out, colours, strict=False))


def colour_mask(c_in: int, c_out: int, colours: int, *, strict: bool) -> Tensor:
    """(c_out, c_in, 1, 1): one where the input's colour precedes the output's (or equals it, unless strict)."""
    source, target = torch.arange(c_in) % colours, torch.arange(c_out)[:, None] % colours
    return (source < target if strict else source <= target).to(torch.get_default_dtype())[..., None, None]


class GatedBlock(nn.Module):
    """Two stacks, y = tanh(a) * sigmoid(b) in each (van den Oord et al. 2016, arXiv 1606.05328, eq. 2, figure 2).

    The vertical stack knows every row above, the horizontal one the own row to the left; the link from the
    first to the second is what leaves no blind spot. Only the horizontal stack is residual.
    """

    def __init__(self, features: int, size: int, colours: int) -> None:
        super().__init__()
        self.vertical = vertical_conv(features, 2 * features, size, strict=False)
        self.link = nn.Conv2d(2 * features, 2 * features, 1)
        self.horizontal = horizontal_conv(features, 2 * features, size, colours, strict=False)
        self.out = pointwise_conv(features, features, colours)

    def forward(self, vertical: Tensor, horizontal: Tensor) -> tuple[Tensor, Tensor]:
        above = self.vertical(vertical)
        left = self.horizontal(horizontal) + self.link(above)
        return gate(above), horizontal + self.out(gate(left))


def gate(x: Tensor) -> Tensor:
    a, b = x.chunk(2, 1)
    return torch.tanh(a) * torch.sigmoid(b)


class GatedPixelCNN(nn.Module):
    """(B, C, H, W) real -> logits (B, levels, C, H, W); those of one value depend on the earlier values only.

    A pixel sees ``first // 2 + blocks * (size // 2)`` pixels far in every direction that is open to it.
    """

    def __init__(
        self, colours: int, levels: int, features: int, blocks: int, first: int = 7, size: int = 3, head: int = 32
    ) -> None:
        super().__init__()
        if features % colours or head % colours:
            raise ValueError(f"features {features} and head {head} must be multiples of the image's {colours} channels")
        if first < 3 or size < 3 or not first % 2 or not size % 2:
            raise ValueError(f"first is {first} and size is {size}; a masked convolution takes an odd side, at least 3")
        self.colours, self.levels = colours, levels
        self.vertical = vertical_conv(colours, features, first, strict=True)
        self.horizontal = horizontal_conv(colours, features, first, colours, strict=True)
        self.blocks = nn.ModuleList(GatedBlock(features, size, colours) for _ in range(blocks))
        self.head = nn.Sequential(
            nn.ReLU(),
            pointwise_conv(features, head, colours),
            nn.ReLU(),
            pointwise_conv(head, levels * colours, colours),
        )

    def forward(self, x: Tensor) -> Tensor:
        vertical, horizontal = self.vertical(x), self.horizontal(x)
        for block in self.blocks:
            vertical, horizontal = block(vertical, horizontal)
        return self.head(horizontal).unflatten(1, (self.levels, self.colours))
