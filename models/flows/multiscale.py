"""Multi-scale flows on images (batch, C, H, W): squeeze, transform, set half of the channels aside, repeat."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.base import StandardNormal
from models.flows.conditioner import Coupling
from models.flows.linear import InvertibleConv1x1
from models.flows.normalization import ActNorm
from models.flows.univariate import AffineMap, Scale
from models.layer import Layer
from models.nets.conv import ResidualConvNet
from models.relaxed.surjections import Slice


class Squeeze(Layer):
    """(C, H, W) -> (4C, H/2, W/2): the 2x2 neighbourhoods become channels. log|det| = 0.

    Dinh et al. 2017, arXiv 1605.08803, section 3.6.
    """

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return F.pixel_unshuffle(x, 2), x.new_zeros(x.shape[0])

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return F.pixel_shuffle(z, 2), z.new_zeros(z.shape[0])


def glow_step(channels: int, width: int, blocks: int, scale: Scale) -> list[Layer]:
    """ActNorm, invertible 1x1 convolution, affine coupling (Kingma & Dhariwal 2018, arXiv 1807.03039, table 1)."""
    moved = torch.arange(channels) >= channels // 2
    kept = channels // 2
    network = ResidualConvNet(kept, width, (channels - kept) * AffineMap.n_params, blocks)
    return [ActNorm(channels), InvertibleConv1x1(channels), Coupling(AffineMap(scale), moved, network)]


def glow_layers(
    shape: tuple[int, int, int], *, scales: int, steps: int, width: int, blocks: int, scale: Scale
) -> tuple[list[Layer], tuple[int, int, int]]:
    """``scales`` times (squeeze, ``steps`` Glow steps, set half aside), and the shape that is left at the end."""
    channels, height, wide = shape
    if height % 2**scales or wide % 2**scales:
        raise ValueError(f"scales is {scales}, but {height}x{wide} images cannot be halved that often; choose fewer")
    layers: list[Layer] = []
    for level in range(scales):
        channels, height, wide = 4 * channels, height // 2, wide // 2
        layers.append(Squeeze())
        for _ in range(steps):
            layers += glow_step(channels, width, blocks, scale)
        if level < scales - 1:
            aside = channels // 2
            layers.append(Slice(StandardNormal((aside, height, wide)), channels - aside))
            channels -= aside
    return layers, (channels, height, wide)
