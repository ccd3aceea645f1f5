"""Base densities: where a chain ends. Each has ``log_prob(z) -> (batch,)`` in nats and ``sample(n)``."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layer import sum_rest

LOG_2PI = math.log(2 * math.pi)


def normal_log_density(z: Tensor, mean: Tensor | float = 0.0, log_std: Tensor | float = 0.0) -> Tensor:
    """log N(z; mean, exp(log_std)^2) per element, nats."""
    scaled = (z - mean) * (torch.exp(-log_std) if isinstance(log_std, Tensor) else math.exp(-log_std))
    return -0.5 * scaled**2 - log_std - 0.5 * LOG_2PI


class Base(nn.Module):
    """A density over tensors of ``shape``; a zero-size buffer remembers dtype and device."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.register_buffer("_like", torch.zeros(()), persistent=False)

    def log_prob(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        raise NotImplementedError

    def sample(self, n: int, context: Tensor | None = None) -> Tensor:
        raise NotImplementedError


class StandardNormal(Base):
    """N(0, I): log p(z) = -||z||^2 / 2 - D/2 log 2π."""

    def log_prob(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return sum_rest(normal_log_density(z))

    def sample(self, n: int, context: Tensor | None = None) -> Tensor:
        return torch.randn(n, *self.shape, dtype=self._like.dtype, device=self._like.device)


class StandardLogistic(Base):
    """Independent standard logistics: log p(z) = -sum_i (|z_i| + 2 log(1 + e^{-|z_i|}))."""

    def log_prob(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return sum_rest(-z.abs() - 2 * F.softplus(-z.abs()))

    def sample(self, n: int, context: Tensor | None = None) -> Tensor:
        unit = torch.rand(n, *self.shape, dtype=self._like.dtype, device=self._like.device)
        return torch.logit(unit, eps=torch.finfo(unit.dtype).eps / 2)


class Uniform(Base):
    """The box [low, high]^D: log p = -D log(high - low) inside, -inf outside."""

    def __init__(self, shape: Sequence[int], low: float = 0.0, high: float = 1.0) -> None:
        super().__init__(shape)
        self.low, self.high = low, high

    def log_prob(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        inside = ((z >= self.low) & (z <= self.high)).reshape(z.shape[0], -1).all(1)
        level = -math.prod(self.shape) * math.log(self.high - self.low)
        return torch.where(inside, z.new_full((), level), z.new_full((), -math.inf))

    def sample(self, n: int, context: Tensor | None = None) -> Tensor:
        unit = torch.rand(n, *self.shape, dtype=self._like.dtype, device=self._like.device)
        return self.low + (self.high - self.low) * unit


class GaussianMixture(Base):
    """sum_k w_k N(means_k, diag std_k^2) over vectors; ``learned`` makes its parameters trainable.

    means (K, D), stds (K, D), weights (K,) summing to 1.
    """

    def __init__(self, means: Tensor, stds: Tensor, weights: Tensor | None = None, learned: bool = False) -> None:
        super().__init__(means.shape[1:])
        weights = torch.full((len(means),), 1 / len(means)) if weights is None else weights
        parts = {"means": means, "log_stds": stds.log(), "logits": weights.log()}
        for name, value in parts.items():
            value = value.to(torch.get_default_dtype())
            if learned:
                self.register_parameter(name, nn.Parameter(value.clone()))
            else:
                self.register_buffer(name, value.clone())

    def log_prob(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        per_part = normal_log_density(z[:, None], self.means, self.log_stds).sum(-1)
        return torch.logsumexp(per_part + torch.log_softmax(self.logits, 0), 1)

    def sample(self, n: int, context: Tensor | None = None) -> Tensor:
        part = torch.multinomial(self.logits.softmax(0), n, replacement=True)
        return self.means[part] + self.log_stds[part].exp() * torch.randn_like(self.means[part])
