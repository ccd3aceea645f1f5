"""The gated PixelCNN (van den Oord et al. 2016, arXiv 1606.05328): the exact discrete likelihood of an image."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from models.layer import EXACT, Likelihood, Model, sum_rest
from models.nets.masked_conv import GatedPixelCNN
from models.registry import DataSpec, register

MAX_LOGITS = 2**26  # at once while sampling: 256 MiB in float32


class PixelCNN(Model):
    """log P(x) = sum_i log P(x_i | x_<i), each factor a categorical over the levels 0..K-1, in raster order.

    x: integers, shape (batch, C, H, W). No dequantization: log P is the exact log-probability, nats.
    """

    def __init__(self, network: GatedPixelCNN, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.network, self.shape, self.levels = network, tuple(shape), network.levels
        self.dim = math.prod(shape)

    @property
    def likelihood(self) -> Likelihood:
        return EXACT

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return -sum_rest(F.cross_entropy(self._logits(x), x.long(), reduction="none"))

    def sample(self, n: int, context: Tensor | None = None) -> Tensor:
        chunk = max(1, MAX_LOGITS // (self.levels * self.dim))
        noise = torch.rand(n, *self.shape, dtype=self._like.dtype, device=self._like.device)
        return torch.cat([self.decode(part) for part in noise.split(chunk)])

    @torch.no_grad()
    def decode(self, noise: Tensor) -> Tensor:
        """Uniform noise -> x with x_i the quantile noise_i of P(x_i | x_<i): ancestral sampling, run in parallel.

        Jacobi iteration (Song et al. 2021, arXiv 2002.03629): every pixel is drawn anew from the previous guess
        with its own fixed noise. After t passes the first t pixels are final, so an image that no longer changes
        is the ancestral sample itself; that takes D passes at worst and far fewer in practice.
        """
        x = torch.zeros_like(noise, dtype=torch.long)
        moving = torch.arange(len(x), device=x.device)
        for _ in range(self.dim):
            cumulative = self._logits(x[moving]).softmax(1).cumsum(1)
            guess = (cumulative <= noise[moving, None]).sum(1).clamp(max=self.levels - 1)
            changed = (guess != x[moving]).flatten(1).any(1)
            x[moving] = guess
            moving = moving[changed]
            if not len(moving):
                break
        return x

    def _logits(self, x: Tensor) -> Tensor:
        return self.network(2 * x.to(self._like.dtype) / (self.levels - 1) - 1)

    @property
    def _like(self) -> Tensor:
        return next(self.network.parameters())


@register("pixelcnn")
def pixelcnn(spec: DataSpec, *, features: int = 16, blocks: int = 4, first: int = 7, head: int = 32) -> Model:
    """A gated PixelCNN of ``blocks`` 3x3 blocks with ``features`` channels per stack, behind a ``first`` x ``first``
    convolution and before a 1x1 layer of ``head`` units."""
    if spec.levels is None or len(spec.shape) != 3:
        raise ValueError(f"pixelcnn models integer images (C, H, W), not real data of shape {spec.shape}")
    return PixelCNN(GatedPixelCNN(spec.shape[0], spec.levels, features, blocks, first=first, head=head), spec.shape)
