"""Sampling problems: densities given by an energy, p(x) = exp(-u(x)) / Z, of which everything is known."""

from __future__ import annotations

import math
from functools import cached_property

import torch
from torch import Tensor, nn

from bench.datasets.densities.analytic import AnalyticDensity
from bench.datasets.densities.mixtures import Blob, Mixture


class DoubleWellEnergy(nn.Module):
    """u(x, y) = -x/2 - 6x² + x⁴ + y²/2 (Wu, Köhler and Noé 2020, Stochastic Normalizing Flows): (n, 2) -> (n,)."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.unbind(-1)
        return double_well_profile(a) + 0.5 * b * b


def double_well_profile(a: Tensor) -> Tensor:
    """The part of u that depends on the first coordinate."""
    return -0.5 * a + a * a * (a * a - 6)


class DoubleWell(AnalyticDensity):
    """Two wells at x = -1.71 and x = 1.75 with a barrier of about 9 kT; modes 0 (left, x < 0) and 1 (right)."""

    bounds = ((-3.0, 3.0), (-7.0, 7.0))
    scale = 0.2
    n_modes = 2

    def __init__(self) -> None:
        self.energy = DoubleWellEnergy()

    @cached_property
    def _profile(self) -> tuple[Tensor, Tensor]:
        """Midpoints in x and exp(-u(x, 0)) there, on a grid so fine that it is exact to double precision."""
        a = -3 + 6 * (torch.arange(60_000, dtype=torch.float64) + 0.5) / 60_000
        return a, torch.exp(-double_well_profile(a))

    @cached_property
    def log_partition(self) -> float:
        """log Z."""
        a, weight = self._profile
        return (weight.sum() * (a[1] - a[0])).log().item() + 0.5 * math.log(2 * math.pi)

    @cached_property
    def p_right(self) -> float:
        """P(x > 0)."""
        a, weight = self._profile
        return (weight[a > 0].sum() / weight.sum()).item()

    @cached_property
    def free_energy_difference(self) -> float:
        """F(left) - F(right) = log P(x > 0) / P(x < 0), in kT."""
        return math.log(self.p_right / (1 - self.p_right))

    def log_prob(self, x: Tensor) -> Tensor:
        return -self.energy(x) - self.log_partition

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        a, weight = self._profile
        u = torch.rand(n, generator=generator, dtype=torch.float64)
        cumulative = weight.cumsum(0) / weight.sum()
        cell = torch.searchsorted(cumulative, u).clamp(max=len(a) - 1)
        # Inverse of the distribution function: linear inside a cell of width 1e-4.
        within = 0.5 - (cumulative[cell] - u) / (cumulative[cell] - torch.cat([u.new_zeros(1), cumulative])[cell])
        y = torch.randn(n, generator=generator, dtype=torch.float64)
        return torch.stack([a[cell] + within * (a[1] - a[0]), y], -1)

    def mode_of(self, x: Tensor) -> Tensor:
        return (x[..., 0] > 0).long()

    @cached_property
    def mode_masses(self) -> Tensor:
        return torch.tensor([1 - self.p_right, self.p_right], dtype=torch.float64)


class MixtureEnergy(nn.Module):
    """u(x) = -log Σ w_k exp(-|x - μ_k|² / 2s²): (n, 2) -> (n,)."""

    def __init__(self, centres: Tensor, weights: Tensor, sd: float) -> None:
        super().__init__()
        self.register_buffer("centres", centres)
        self.register_buffer("log_weights", weights.log())
        self.sd = sd

    def forward(self, x: Tensor) -> Tensor:
        squared = (x[..., None, :] - self.centres.to(x)).square().sum(-1)
        return -torch.logsumexp(self.log_weights.to(x) - squared / (2 * self.sd**2), -1)


class GaussianMixture(Mixture):
    """Five Gaussians of sd .35, at least 3 apart (eight sd), with weights from .4 down to .05."""

    centres = ((0.0, 0.0), (3.0, 1.5), (-2.5, 2.5), (2.0, -3.0), (-3.0, -1.5))
    masses = (0.1, 0.4, 0.25, 0.2, 0.05)
    sd = 0.35

    def __init__(self) -> None:
        blobs = [Blob(centre, self.sd) for centre in self.centres]
        super().__init__(blobs, weights=self.masses, half_width=5.5, scale=self.sd)
        centres = torch.tensor(self.centres, dtype=torch.float64)
        self.energy = MixtureEnergy(centres, self.weights, self.sd)
        self.log_partition = math.log(2 * math.pi * self.sd**2)
