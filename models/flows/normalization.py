"""Normalisation layers, elementwise per feature (vectors) or per channel (images), both along dimension 1."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.layer import Layer


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance per feature, over the batch and, for images, the pixels."""
    rest = [d for d in range(x.dim()) if d != 1]
    return x.mean(rest), x.var(rest, unbiased=False)


def _moments_of_all(blocks: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The same over all blocks together: two passes in double precision, so that nothing cancels."""
    rest = [d for d in range(blocks[0].dim()) if d != 1]
    count = sum(block.numel() for block in blocks) / blocks[0].shape[1]
    mean = sum(block.double().sum(rest) for block in blocks) / count
    squares = sum((block.double() - _along_features(mean, block)).square().sum(rest) for block in blocks)
    return mean, squares / count


def _along_features(values: Tensor, x: Tensor) -> Tensor:
    return values.view(-1, *[1] * (x.dim() - 2))


def _log_det(log_scale: Tensor, x: Tensor) -> Tensor:
    """sum of log scales, once per pixel: (batch,)."""
    return (log_scale.sum() * math.prod(x.shape[2:])).expand(x.shape[0])


class ActNorm(Layer):
    """z = x e^a + b per feature; the first batch in training mode sets a and b so that z has mean 0, variance 1
    (Kingma & Dhariwal 2018, arXiv 1807.03039, section 3.1). Whether that happened is saved with the state.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(features))
        self.shift = nn.Parameter(torch.zeros(features))
        self.register_buffer("initialized", torch.tensor(False))
        self._settled = False  # mirrors the buffer once it is True: reading the buffer waits for the device

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if self.training and not self._settled:
            self._initialize(x)
        scale = _along_features(self.log_scale.exp(), x)
        return x * scale + _along_features(self.shift, x), _log_det(self.log_scale, x)

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = (z - _along_features(self.shift, z)) * _along_features((-self.log_scale).exp(), z)
        return x, _log_det(self.log_scale, z)

    @torch.no_grad()
    def _initialize(self, x: Tensor) -> None:
        if not bool(self.initialized):
            mean, variance = _moments(x)
            self.log_scale.copy_(-0.5 * torch.log(variance + 1e-6))
            self.shift.copy_(-mean * self.log_scale.exp())
            self.initialized.fill_(True)
        self._settled = True


class BatchNorm(Layer):
    """z = e^γ (x - m) / √(v + ε) + β per feature (Papamakarios et al. 2017, arXiv 1705.07057).

    In training m and v are the batch's; else, and always in ``decode``, they are those of the whole training set as
    ``settle`` last saw it, or 0 and 1 until it does.
    """

    settles = True

    def __init__(self, features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.log_gamma = nn.Parameter(torch.zeros(features))
        self.beta = nn.Parameter(torch.zeros(features))
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("variance", torch.ones(features))
        self.eps = eps

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mean, variance = _moments(x) if self.training else (self.mean, self.variance)
        log_scale = self._log_scale(variance)
        centred = x - _along_features(mean, x)
        return centred * _along_features(log_scale.exp(), x) + _along_features(self.beta, x), _log_det(log_scale, x)

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_scale = self._log_scale(self.variance)
        x = (z - _along_features(self.beta, z)) * _along_features((-log_scale).exp(), z)
        return x + _along_features(self.mean, z), _log_det(log_scale, z)

    def settle(self, blocks: list[Tensor], contexts: list[Tensor | None]) -> None:
        mean, variance = _moments_of_all(blocks)
        self.mean.copy_(mean)
        self.variance.copy_(variance)
        super().settle(blocks, contexts)

    def _log_scale(self, variance: Tensor) -> Tensor:
        return self.log_gamma - 0.5 * torch.log(variance + self.eps)
