"""Surjective and stochastic layers of SurVAE flows (Nielsen et al. 2020, arXiv 2007.02731, tables 2 and 3).

Each contribution is log p(x|z) - log q(z|x) at the pair at hand, in nats. An inference surjection's likelihood
is exact only on its *image*: what follows must put all its mass there (non-negative values after ``Abs``,
increasing ones after ``Sort``), or the density of x integrates to less than one. ``HalfLine`` and
``Increments`` are the bijections from those images to the whole space.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.base import LOG_2PI
from models.layer import Kind, Layer, sum_rest


class Abs(Layer):
    """z = |x|; x = s z with uniform signs s: contribution -D log 2, exact."""

    kind = Kind.INFERENCE_SURJECTION

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x.abs(), self._contribution(x)

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return torch.where(torch.rand_like(z) < 0.5, -z, z), self._contribution(z)

    def _contribution(self, x: Tensor) -> Tensor:
        return x.new_full((x.shape[0],), -x[0].numel() * math.log(2))


class SignedAbs(Layer):
    """|x_e| of one element e of a vector, its sign learned: contribution log Bern(s | σ(network(z))), exact.

    ``network`` maps z (batch, D) to the logit (batch, 1) of a positive sign. No likelihood is lost where the
    sign is a function of z, as it is for the anti-symmetric checkerboard.
    """

    kind = Kind.INFERENCE_SURJECTION

    def __init__(self, network: nn.Module, element: int = 0) -> None:
        super().__init__()
        self.network = network
        self.element = element

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        negative = (x < 0) & self._selected(x)
        z = torch.where(negative, -x, x)
        return z, F.logsigmoid(self._signed(negative.any(-1), self._logit(z)))

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        logit = self._logit(z)
        negative = torch.rand_like(logit) >= torch.sigmoid(logit)
        x = torch.where(negative[:, None] & self._selected(z), -z, z)
        return x, F.logsigmoid(self._signed(negative, logit))

    def _logit(self, z: Tensor) -> Tensor:
        return self.network(z).squeeze(-1)

    @staticmethod
    def _signed(negative: Tensor, logit: Tensor) -> Tensor:
        return torch.where(negative, -logit, logit)

    def _selected(self, x: Tensor) -> Tensor:
        return torch.arange(x.shape[-1], device=x.device) == self.element


class MaxPool2d(Layer):
    """2x2 max pooling of (batch, C, H, W), z the maxima: contribution -log 4 · #z + Σ log HN(d), exact.

    The place of the maximum is uniform over its window, and the distances d >= 0 of the three others below it
    are standard half-normal (arXiv 2007.02731, appendix on max pooling). z may be any real number.
    """

    kind = Kind.INFERENCE_SURJECTION

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if x.shape[-1] % 2 or x.shape[-2] % 2:
            raise ValueError(f"MaxPool2d needs even height and width, got {tuple(x.shape[1:])}: pad or squeeze less")
        b, c, h, w = x.shape
        windows = x.reshape(b, c, h // 2, 2, w // 2, 2).transpose(3, 4).flatten(4)
        z = windows.amax(-1)
        return z, self._contribution(z[..., None] - windows)

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        below = torch.randn(*z.shape, 4, dtype=z.dtype, device=z.device).abs()
        place = torch.randint(4, (*z.shape, 1), device=z.device)
        below = below.scatter(-1, place, 0.0)
        b, c, h, w = z.shape
        x = (z[..., None] - below).reshape(b, c, h, w, 2, 2).transpose(3, 4).reshape(b, c, 2 * h, 2 * w)
        return x, self._contribution(below)

    @staticmethod
    def _contribution(below: Tensor) -> Tensor:
        """``below`` (batch, C, h, w, 4): the maximum itself is the zero among the four and adds nothing."""
        per_window = -math.log(4) + 3 * (math.log(2) - 0.5 * LOG_2PI)
        return below[0, ..., 0].numel() * per_window - 0.5 * sum_rest(below**2)


class Sort(Layer):
    """Sorted elements (batch, L), or points (batch, L, C) sorted on column ``key``: contribution -log L!, exact.

    Generation permutes uniformly, so the density of x is exchangeable by construction.
    """

    kind = Kind.INFERENCE_SURJECTION

    def __init__(self, key: int = 0) -> None:
        super().__init__()
        self.key = key

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        order = (x if x.dim() == 2 else x[..., self.key]).argsort(1)
        return _reorder(x, order), self._contribution(x)

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return _reorder(z, _random_order(z)), self._contribution(z)

    def _contribution(self, x: Tensor) -> Tensor:
        return x.new_full((x.shape[0],), -math.lgamma(x.shape[1] + 1))


class StochasticPermutation(Layer):
    """A fresh uniform permutation of dimension 1 in both directions: contribution log L! - log L! = 0, a bound."""

    kind = Kind.STOCHASTIC

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return _reorder(x, _random_order(x)), x.new_zeros(x.shape[0])

    decode = encode


class Slice(Layer):
    """Keep the first ``keep`` entries along ``dim``, z; the rest x2 ~ prior: contribution + log p(x2|z), exact.

    ``prior`` has ``log_prob(x2, context)`` and ``sample(n, context)``, and gets the kept part z as its context.
    """

    kind = Kind.INFERENCE_SURJECTION

    def __init__(self, prior: nn.Module, keep: int, dim: int = 1) -> None:
        super().__init__()
        self.prior = prior
        self.keep = keep
        self.dim = dim

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, rest = x.split([self.keep, x.shape[self.dim] - self.keep], self.dim)
        return z, self.prior.log_prob(rest, z)

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        rest = self.prior.sample(z.shape[0], z)
        return torch.cat([z, rest], self.dim), self.prior.log_prob(rest, z)


class Augment(Layer):
    """z = (x, z2), z2 ~ noise(.|x), appended along ``dim`` behind x's ``size`` entries: contribution -log q(z2|x).

    A generative surjection, so the sum is a lower bound; tight where q(z2|x) is the model's own p(z2|x).
    ``noise`` has ``log_prob(z2, context)`` and ``sample(n, context)``, and gets x as its context.
    """

    kind = Kind.GENERATIVE_SURJECTION

    def __init__(self, noise: nn.Module, size: int, dim: int = 1) -> None:
        super().__init__()
        self.noise = noise
        self.size = size
        self.dim = dim

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        extra = self.noise.sample(x.shape[0], x)
        return torch.cat([x, extra], self.dim), -self.noise.log_prob(extra, x)

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, extra = z.split([self.size, z.shape[self.dim] - self.size], self.dim)
        return x, -self.noise.log_prob(extra, x)


class HalfLine(Layer):
    """(0, inf) -> R, elementwise: z = logit(u) at u = x / bound, and its tangent above u = 1 - tail.

    ``Abs`` needs all of R behind it. The logit alone ends at ``bound``, where a tail point would have no
    likelihood; with the tangent the map stays a bijection (and C1, so the density is continuous), and it is
    still steep near ``bound``, which is what lets a flow draw a sharp edge there.
    log|dz/dx| = softplus(y) + softplus(-y) - log bound at y = min(z, logit(1 - tail)). Below rounding, u is taken
    for its machine epsilon: the logarithm of a zero would be far from everything a network has seen.
    """

    def __init__(self, bound: float, tail: float = 0.02) -> None:
        super().__init__()
        if bound <= 0:
            raise ValueError(f"bound is {bound}; it is positive")
        self.bound = bound
        self.tail = tail
        self.joint = math.log1p(-tail) - math.log(tail)
        self.slope = 1 / (tail * (1 - tail))

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        u = x / self.bound
        inner = u.clamp(torch.finfo(x.dtype).eps, 1 - self.tail)
        z = torch.logit(inner) + (u - inner) * self.slope
        return z, self._log_det(z)

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        inner = z.clamp(max=self.joint)
        return self.bound * (torch.sigmoid(inner) + (z - inner) / self.slope), self._log_det(z)

    def _log_det(self, z: Tensor) -> Tensor:
        inner = z.clamp(max=self.joint)
        return sum_rest(F.softplus(inner) + F.softplus(-inner) - math.log(self.bound))


class Increments(Layer):
    """Increasing values -> R^L: z_1 = x_1 and z_i = softplus^{-1}(x_i - x_{i-1}), on the column ``Sort`` sorted.

    ``Sort`` needs it as ``Abs`` needs ``HalfLine``. log|det| = sum_{i>1} softplus(-z_i). Ties are a set of measure
    zero; values no further apart than their rounding are treated as that far apart.
    """

    ROUNDING = 8.0  # machine epsilons

    def __init__(self, key: int = 0) -> None:
        super().__init__()
        self.key = key

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        values = self._column(x)
        gaps = values.diff(dim=1).clamp_min(self.ROUNDING * torch.finfo(x.dtype).eps)
        new = torch.cat([values[:, :1], gaps + torch.log(-torch.expm1(-gaps))], 1)
        return self._replaced(x, new), self._log_det(new)

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        values = self._column(z)
        new = torch.cat([values[:, :1], F.softplus(values[:, 1:])], 1).cumsum(1)
        return self._replaced(z, new), self._log_det(values)

    @staticmethod
    def _log_det(z: Tensor) -> Tensor:
        return F.softplus(-z[:, 1:]).sum(1)

    def _column(self, x: Tensor) -> Tensor:
        return x if x.dim() == 2 else x[..., self.key]

    def _replaced(self, x: Tensor, new: Tensor) -> Tensor:
        if x.dim() == 2:
            return new
        return torch.where(torch.arange(x.shape[-1], device=x.device) == self.key, new[..., None], x)


def _random_order(x: Tensor) -> Tensor:
    """A uniform permutation of dimension 1 for each example, (batch, L)."""
    return torch.rand(x.shape[:2], device=x.device).argsort(1)


def _reorder(x: Tensor, order: Tensor) -> Tensor:
    return x.gather(1, order.reshape(*order.shape, *[1] * (x.dim() - 2)).expand_as(x))
