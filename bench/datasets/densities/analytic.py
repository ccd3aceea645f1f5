"""Two-dimensional densities whose log density, entropy and modes are known: the truth that models are held to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property

import torch
from torch import Tensor

# A smooth density has no edge: its support is the smallest region that holds this much of its mass.
SUPPORT_MASS = 0.999


class AnalyticDensity(ABC):
    """A density p on the plane.

    Subclasses give ``log_prob``, ``sample``, ``mode_of``, ``n_modes``, ``bounds`` and ``scale``; entropy, support and
    the masses of the modes follow by the midpoint rule on a grid, which for smooth densities converges faster than
    any power of the step. Everything is computed in the dtype and on the device of the argument.
    """

    bounds: tuple[tuple[float, float], tuple[float, float]]
    """((x_low, x_high), (y_low, y_high)): all but about 1e-10 of the mass; the box of quadrature and of plots."""
    scale: float
    """The smallest length on which the density changes (a standard deviation)."""
    n_modes: int
    energy: torch.nn.Module | None = None
    """u(x) = -log p(x) + const, for sampling problems."""

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats: (n, 2) -> (n,); -inf outside the support of a uniform density."""

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``n`` independent exact samples, (n, 2), float64."""

    @abstractmethod
    def mode_of(self, x: Tensor) -> Tensor:
        """The mode nearest to each point: (n, 2) -> (n,), integers in [0, n_modes)."""

    def grid(self, cells_per_scale: float = 3.0) -> tuple[Tensor, float]:
        """Midpoints of a regular grid on ``bounds``, (cells, 2) in float64, and the area of one cell."""
        axes, area = [], 1.0
        for low, high in self.bounds:
            cells = round((high - low) / self.scale * cells_per_scale)
            step = (high - low) / cells
            axes.append(low + step * (torch.arange(cells, dtype=torch.float64) + 0.5))
            area *= step
        return torch.cartesian_prod(*axes), area

    @cached_property
    def _quadrature(self) -> tuple[Tensor, Tensor]:
        """log p and the mass, cell by cell."""
        points, area = self.grid()
        log_p = self.log_prob(points)
        return log_p, log_p.exp() * area

    @cached_property
    def entropy(self) -> float:
        """-E[log p] in nats."""
        log_p, mass = self._quadrature
        return -(mass * torch.where(mass > 0, log_p, 0.0)).sum().item()

    @cached_property
    def support_threshold(self) -> float:
        """log p on the edge of the support."""
        log_p, mass = self._quadrature
        order = log_p.argsort()
        outside = mass[order].cumsum(0)
        return log_p[order][torch.searchsorted(outside, 1 - SUPPORT_MASS)].item()

    def support(self, x: Tensor) -> Tensor:
        """Whether each point lies in the support: (n, 2) -> (n,), bool.

        Exact for uniform densities; for smooth ones the smallest region that holds 99.9 % of the mass.
        """
        # A hair lower: single precision must not lose points of a uniform density.
        return self.log_prob(x) >= self.support_threshold - 1e-4

    @cached_property
    def mode_masses(self) -> Tensor:
        """The probability of each mode's region, (n_modes,), float64."""
        points, _ = self.grid()
        _, mass = self._quadrature
        return torch.zeros(self.n_modes, dtype=mass.dtype).index_add(0, self.mode_of(points), mass)

    def modes_missed(self, samples: Tensor) -> int:
        """Modes whose share of the samples is under a tenth of their true mass."""
        share = self.mode_of(samples).bincount(minlength=self.n_modes).cpu() / len(samples)
        return int((share < self.mode_masses / 10).sum())
