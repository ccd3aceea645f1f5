"""Mixtures of shapes in the plane: every toy density is one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from bench.datasets.densities.analytic import AnalyticDensity

Pair = tuple[float, float]


class Shape(ABC):
    """One normalised component."""

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """(n, 2) -> (n,), nats."""

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator | None) -> Tensor:
        """(n, 2), float64."""

    def closeness(self, x: Tensor) -> Tensor:
        """How near a point is, comparable among shapes of one kind: (n, 2) -> (n,)."""
        return self.log_prob(x)


@dataclass(frozen=True)
class Rectangle(Shape):
    """Uniform on [x0, x1] x [y0, y1]."""

    x: Pair
    y: Pair

    def log_prob(self, x: Tensor) -> Tensor:
        log_area = math.log((self.x[1] - self.x[0]) * (self.y[1] - self.y[0]))
        inside = self.closeness(x) == 0
        return torch.where(inside, torch.full_like(x[..., 0], -log_area), -math.inf)

    def sample(self, n: int, generator: torch.Generator | None) -> Tensor:
        low, high = _pair(self.x[0], self.y[0]), _pair(self.x[1], self.y[1])
        return low + (high - low) * torch.rand(n, 2, generator=generator, dtype=torch.float64)

    def closeness(self, x: Tensor) -> Tensor:
        low, high = _pair(self.x[0], self.y[0]).to(x), _pair(self.x[1], self.y[1]).to(x)
        return -torch.linalg.vector_norm(torch.relu(low - x) + torch.relu(x - high), dim=-1)


@dataclass(frozen=True)
class Blob(Shape):
    """The isotropic Gaussian N(centre, sd² I)."""

    centre: Pair
    sd: float

    def log_prob(self, x: Tensor) -> Tensor:
        return _log_gaussian((x - _pair(*self.centre).to(x)).square().sum(-1), self.sd)

    def sample(self, n: int, generator: torch.Generator | None) -> Tensor:
        return _pair(*self.centre) + self.sd * torch.randn(n, 2, generator=generator, dtype=torch.float64)


@dataclass(frozen=True)
class Circle(Shape):
    """Uniform on a circle of radius R, blurred by N(0, s² I); at a distance r from the centre

    p = exp(-(r² + R²) / 2s²) I0(rR / s²) / (2π s²)
    """

    centre: Pair
    radius: float
    sd: float

    def log_prob(self, x: Tensor) -> Tensor:
        r = torch.linalg.vector_norm(x - _pair(*self.centre).to(x), dim=-1)
        # i0e(a) = exp(-a) I0(a), which turns the exponent into -(r - R)² / 2s².
        bessel = torch.special.i0e(r * (self.radius / self.sd**2)).log()
        return _log_gaussian((r - self.radius).square(), self.sd) + bessel

    def sample(self, n: int, generator: torch.Generator | None) -> Tensor:
        angle = 2 * math.pi * torch.rand(n, generator=generator, dtype=torch.float64)
        blur = self.sd * torch.randn(n, 2, generator=generator, dtype=torch.float64)
        return _pair(*self.centre) + self.radius * torch.stack([angle.cos(), angle.sin()], -1) + blur


@dataclass(frozen=True)
class Curve(Shape):
    """c(t), t uniform on [0, 1], blurred by N(0, s² I): p(x) = ∫ N(x; c(t), s² I) dt by Gauss-Legendre quadrature.

    ``c`` maps (n,) to (n, 2). With ``nodes`` at least three per ``sd`` of its length the quadrature is exact to
    double precision.
    """

    c: Callable[[Tensor], Tensor]
    sd: float
    nodes: int

    @cached_property
    def _rule(self) -> tuple[Tensor, Tensor]:
        s, weight = (torch.from_numpy(a) / 2 for a in np.polynomial.legendre.leggauss(self.nodes))
        s = s + 0.5
        # t = s², dt = 2s ds: a curve that is smooth only in the square root of t is then smooth in s.
        return self.c(s * s), (2 * s * weight).log()

    def log_prob(self, x: Tensor) -> Tensor:
        # |x - c|² = |x|² - 2x·c + |c|² makes this one matrix product; the cancellation asks for double precision.
        rows = x.double() / self.sd
        points, log_weight = (part.to(rows) for part in self._rule)
        points = points / self.sd
        offset = log_weight - points.square().sum(-1) / 2
        # Blocks that stay in the cache.
        log_sum = torch.cat([torch.logsumexp(torch.addmm(offset, block, points.T), -1) for block in rows.split(256)])
        return (log_sum - rows.square().sum(-1) / 2 - math.log(2 * math.pi * self.sd**2)).to(x)

    def sample(self, n: int, generator: torch.Generator | None) -> Tensor:
        t = torch.rand(n, generator=generator, dtype=torch.float64)
        return self.c(t) + self.sd * torch.randn(n, 2, generator=generator, dtype=torch.float64)


class Mixture(AnalyticDensity):
    """p = Σ w_k p_k. ``modes[k]`` is the mode that shape k belongs to (by default each is its own)."""

    def __init__(
        self,
        shapes: Sequence[Shape],
        *,
        half_width: float,
        scale: float,
        weights: Sequence[float] | None = None,
        modes: Sequence[int] | None = None,
    ) -> None:
        self.shapes = list(shapes)
        self.weights = torch.tensor(weights or [1 / len(self.shapes)] * len(self.shapes), dtype=torch.float64)
        self.modes = torch.tensor(modes if modes is not None else range(len(self.shapes)))
        self.n_modes = int(self.modes.max()) + 1
        self.bounds = ((-half_width, half_width), (-half_width, half_width))
        self.scale = scale

    def log_prob(self, x: Tensor) -> Tensor:
        each = torch.stack([shape.log_prob(x) for shape in self.shapes], -1)
        return torch.logsumexp(each + self.weights.log().to(x), -1)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        chosen = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        out = torch.empty(n, 2, dtype=torch.float64)
        for k, shape in enumerate(self.shapes):
            rows = (chosen == k).nonzero().squeeze(-1)
            out[rows] = shape.sample(len(rows), generator)
        return out

    def mode_of(self, x: Tensor) -> Tensor:
        each = torch.stack([shape.closeness(x) for shape in self.shapes], -1)
        return self.modes.to(x.device)[each.argmax(-1)]


def _pair(x: float, y: float) -> Tensor:
    return torch.tensor([x, y], dtype=torch.float64)


def _log_gaussian(squared_distance: Tensor, sd: float) -> Tensor:
    """log N of an isotropic Gaussian in the plane."""
    return -squared_distance / (2 * sd**2) - math.log(2 * math.pi * sd**2)
