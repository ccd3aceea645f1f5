"""A small U-Net for images of 8x8 to 32x32, and the choice between it and an MLP."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.nets.time import TimeFeatures, TimeMLP


class UNet(nn.Module):
    """A time-conditioned U-Net, ``field(t, x)``: (batch, channels, height, width) to the same shape.

    One resolution per entry of ``widths``, each half the one before (sides must divide by 2^(levels - 1)), with
    ``blocks`` residual blocks on the way down and one more on the way up; self-attention in the middle where
    ``attention``. After Ho et al. 2020 (arXiv 2006.11239, appendix B), smaller. The output starts at zero.
    """

    def __init__(
        self, channels: int, widths: Sequence[int] = (32, 64), blocks: int = 1, attention: bool = True
    ) -> None:
        super().__init__()
        size = 4 * widths[0]
        self.embedding = nn.Sequential(TimeFeatures(), nn.Linear(32, size), nn.SiLU(), nn.Linear(size, size))
        self.input = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        skips, width = [widths[0]], widths[0]
        for level, target in enumerate(widths):
            for _ in range(blocks):
                self.down.append(ResidualBlock(width, target, size))
                width = target
                skips.append(width)
            if level + 1 < len(widths):
                self.down.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
                skips.append(width)
        self.middle = nn.ModuleList([ResidualBlock(width, width, size), ResidualBlock(width, width, size)])
        self.attention = Attention(width) if attention else nn.Identity()
        for level, target in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                self.up.append(ResidualBlock(width + skips.pop(), target, size))
                width = target
            if level:
                self.up.append(Upsample(width))
        self.output = nn.Sequential(_norm(width), nn.SiLU(), nn.Conv2d(width, channels, 3, padding=1))
        for parameter in self.output[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        time = self.embedding(t)
        h = self.input(x)
        skips = [h]
        for module in self.down:
            h = module(h, time) if isinstance(module, ResidualBlock) else module(h)
            skips.append(h)
        h = self.middle[1](self.attention(self.middle[0](h, time)), time)
        for module in self.up:
            h = module(torch.cat([h, skips.pop()], 1), time) if isinstance(module, ResidualBlock) else module(h)
        return self.output(h)


class ResidualBlock(nn.Module):
    """x + conv(act(modulated(norm(conv(act(norm(x)))))), modulated(h) = (1 + scale(time)) h + shift(time) per channel.

    The time acts after the norm, which would take a bare shift away (Dhariwal and Nichol 2021, arXiv 2105.05233,
    section 3, "adaptive group normalization").
    """

    def __init__(self, width: int, target: int, d_time: int) -> None:
        super().__init__()
        self.first = nn.Sequential(_norm(width), nn.SiLU(), nn.Conv2d(width, target, 3, padding=1))
        self.norm = _norm(target)
        self.modulation = nn.Linear(d_time, 2 * target)
        self.second = nn.Conv2d(target, target, 3, padding=1)
        self.skip = nn.Conv2d(width, target, 1) if width != target else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.modulation(F.silu(time))[:, :, None, None].chunk(2, 1)
        h = (1 + scale) * self.norm(self.first(x)) + shift
        return self.skip(x) + self.second(F.silu(h))


class Attention(nn.Module):
    """Single-head self-attention over positions, added to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = _norm(width)
        self.qkv = nn.Conv1d(width, 3 * width, 1)
        self.out = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x).flatten(2)).chunk(3, 1)
        weights = torch.softmax(q.transpose(1, 2) @ k / math.sqrt(q.shape[1]), -1)
        return x + self.out(v @ weights.transpose(1, 2)).reshape(x.shape)


class Upsample(nn.Module):
    """Twice the side by nearest neighbour, then a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(8, width), width)


def time_network(
    shape: Sequence[int], hidden: Sequence[int], frequencies: int = 0, widths: Sequence[int] | None = None
) -> nn.Module:
    """The network of a diffusion or flow-matching model: a U-Net of ``widths`` if given, else an MLP of ``hidden``
    with ``frequencies`` Fourier features of its input."""
    if widths is None:
        return TimeMLP(math.prod(shape), hidden, frequencies=frequencies)
    if not widths:
        raise ValueError("widths is empty; a U-Net takes one for each of its levels")
    halvings = 2 ** (len(widths) - 1)
    if len(shape) != 3 or any(side % halvings for side in shape[1:]):
        raise ValueError(
            f"widths: a U-Net with {len(widths)} levels needs images whose sides divide by {halvings}, not shape "
            f"{tuple(shape)}; use fewer widths, or hidden for an MLP"
        )
    return UNet(shape[0], widths)
