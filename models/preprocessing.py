"""The first layers of a chain: from data as the data set gives it to well-scaled real numbers.

They are layers like any other, so their volume change is in the score.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from models.layer import Kind, Layer, sum_rest
from models.registry import DataSpec


class UniformDequantization(Layer):
    """z = (x + u) / K, u ~ U[0, 1)^D for integers 0..K-1: contribution -log q(z|x) = -D log K.

    p(x|z) is one where floor(Kz) = x, so the score is a lower bound of log P(x)
    (Theis et al. 2016, arXiv 1511.01844, eq. 3; SurVAE flows, table 3, "rounding").
    """

    kind = Kind.GENERATIVE_SURJECTION

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        real = x if x.is_floating_point() else x.to(torch.get_default_dtype())
        # Rounding may lift x + u to x + 1: rare at 256 levels, every 500th value at 65,536.
        noisy = torch.minimum(real + torch.rand_like(real), torch.nextafter(real + 1, real))
        z = noisy / self.levels
        return z, self._contribution(z)

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = (self.levels * z).floor().clamp(0, self.levels - 1).long()
        return x, self._contribution(z)

    def _contribution(self, z: Tensor) -> Tensor:
        return z.new_full((z.shape[0],), -z[0].numel() * math.log(self.levels))


class Logit(Layer):
    """z = logit(α + (1 - 2α) x) for x in [0, 1] (Dinh et al. 2017, arXiv 1605.08803, section 4.1).

    log|dz/dx| = log(1 - 2α) - log p - log(1 - p) at p = α + (1 - 2α) x, summed over elements.
    """

    def __init__(self, alpha: float = 1e-6) -> None:
        super().__init__()
        if not 0 <= alpha < 0.5:
            raise ValueError(f"alpha is {alpha}; the logit takes one from 0 up to, not including, 0.5")
        self.alpha = alpha

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        p = self.alpha + (1 - 2 * self.alpha) * x
        z = torch.log(p) - torch.log1p(-p)
        return z, self._log_det(z)

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return (torch.sigmoid(z) - self.alpha) / (1 - 2 * self.alpha), self._log_det(z)

    def _log_det(self, z: Tensor) -> Tensor:
        return sum_rest(F.softplus(z) + F.softplus(-z) + math.log1p(-2 * self.alpha))


class Standardize(Layer):
    """z = (x - mean) / std with fixed statistics of the training rows: log|det| = -sum log std."""

    def __init__(self, mean: Tensor | float, std: Tensor | float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.get_default_dtype()).clone())
        self.register_buffer("std", torch.as_tensor(std, dtype=torch.get_default_dtype()).clone())

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return (x - self.mean) / self.std, self._log_det(x)

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z * self.std + self.mean, self._log_det(z)

    def _log_det(self, x: Tensor) -> Tensor:
        return -sum_rest(torch.log(self.std).expand(x.shape[1:])[None]).expand(x.shape[0])


Squash = Literal["logit", "standardize", "none"]


def preprocessing(spec: DataSpec, *, squash: Squash = "standardize", alpha: float = 1e-6) -> list[Layer]:
    """From data to real numbers of order one: dequantize integers, then squash.

    ``logit`` opens the unit interval of images to the whole line; ``standardize`` (the default) uses the
    training statistics that ``spec`` carries and does nothing where it carries none.
    """
    layers: list[Layer] = [UniformDequantization(spec.levels)] if spec.levels else []
    if squash == "logit":
        if not spec.levels:
            raise ValueError("squash is 'logit', which opens the unit interval of integer data; these are real numbers")
        layers.append(Logit(alpha))
    elif squash == "standardize" and spec.mean is not None and spec.std is not None:
        layers.append(Standardize(spec.mean, spec.std))
    elif squash not in ("standardize", "none"):
        raise ValueError(f"squash is {squash!r}; it takes logit, standardize or none")
    return layers
