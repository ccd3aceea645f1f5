"""Planar, radial and Sylvester flows: z = x + a bump along one direction, around one point, in one subspace.

Made as posteriors for variational inference; here they are density estimators, so the formula runs from data to
noise and sampling inverts it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.base import StandardNormal
from models.flows.linear import Householder
from models.flows.univariate.newton import invert_increasing
from models.layer import ChainModel, Layer, sum_rest
from models.preprocessing import Squash, preprocessing
from models.registry import DataSpec, register


def log_one_plus_slope(strength: Tensor, tanh: Tensor) -> Tensor:
    """log(1 + s (1 - tanh²)) where 1 + s = ``strength`` > 0, as a sum of positive terms."""
    return torch.log(tanh**2 + strength * (1 - tanh**2))


class Planar(Layer):
    """z = x + û tanh(wᵀx + b) (Rezende & Mohamed 2015, arXiv 1505.05770, eq. 10-12).

    û = u + (m(wᵀu) - wᵀu) w / |w|² with m(a) = softplus(a) - 1 makes wᵀû > -1, so that the map is invertible
    (appendix A.1). The inverse is one scalar root along w.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        bound = dim**-0.5
        self.u = nn.Parameter(bound * (2 * torch.rand(dim) - 1))
        self.w = nn.Parameter(bound * (2 * torch.rand(dim) - 1))
        self.b = nn.Parameter(torch.zeros(()))

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        u, strength = self._constrained()
        tanh = torch.tanh(x @ self.w + self.b)
        return x + u * tanh[:, None], log_one_plus_slope(strength, tanh)

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """a = wᵀx + b solves a + wᵀû tanh(a) = wᵀz + b."""
        u, strength = self._constrained()

        def along_w(a: Tensor) -> tuple[Tensor, Tensor]:
            tanh = torch.tanh(a)
            return a + (strength - 1) * tanh, log_one_plus_slope(strength, tanh)

        a, log_slope = invert_increasing(along_w, z @ self.w + self.b)
        return z - u * torch.tanh(a)[:, None], log_slope

    def _constrained(self) -> tuple[Tensor, Tensor]:
        """û and 1 + wᵀû > 0."""
        along, strength = self.w @ self.u, F.softplus(self.w @ self.u)
        return self.u + (strength - 1 - along) * self.w / (self.w @ self.w), strength


class Radial(Layer):
    """z = x + β (x - x₀) / (α + r), r = |x - x₀| (Rezende & Mohamed 2015, arXiv 1505.05770, eq. 14).

    α = softplus(a) and δ = α + β = softplus(d) > 0 (appendix A.2). The radius maps to R = r (r + δ) / (r + α), a
    quadratic equation for r.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.center = nn.Parameter(dim**-0.5 * (2 * torch.rand(dim) - 1))
        self.a, self.d = nn.Parameter(torch.randn(())), nn.Parameter(torch.randn(()))

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        alpha, delta = F.softplus(self.a), F.softplus(self.d)
        offset = x - self.center
        r = torch.linalg.vector_norm(offset, dim=1)
        return self.center + offset * ((r + delta) / (r + alpha))[:, None], self._log_det(r, alpha, delta)

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """r² + (δ - R) r - α R = 0; of the two forms of its positive root the one that adds."""
        alpha, delta = F.softplus(self.a), F.softplus(self.d)
        offset = z - self.center
        radius = torch.linalg.vector_norm(offset, dim=1)
        gap = (radius - delta).abs()
        large = gap + torch.sqrt(gap**2 + 4 * alpha * radius)
        r = torch.where(radius >= delta, large / 2, 2 * alpha * radius / large)
        return self.center + offset * ((r + alpha) / (r + delta))[:, None], self._log_det(r, alpha, delta)

    def _log_det(self, r: Tensor, alpha: Tensor, delta: Tensor) -> Tensor:
        """D - 1 tangential factors (r + δ) / (r + α), and dR/dr."""
        across = torch.log(r + delta) - torch.log(r + alpha)
        along = torch.log(r**2 + 2 * alpha * r + alpha * delta) - 2 * torch.log(r + alpha)
        return (len(self.center) - 1) * across + along


class Sylvester(Layer):
    """z = x + Q R₁ tanh(R₂ Qᵀx + b), Q (D, M) orthonormal, R₁ and R₂ (M, M) upper triangular with diagonals in
    (-1, 1), which makes the map invertible (van den Berg et al. 2018, arXiv 1803.05649, section 3).

    log|det| = sum_i log(1 + r₁ᵢᵢ r₂ᵢᵢ tanh'(·)). Q is the first M columns of a product of Householder
    reflections. The inverse solves for Qᵀx upwards from its last entry, one scalar root after another.
    """

    def __init__(self, dim: int, rank: int, reflections: int) -> None:
        super().__init__()
        if not 1 <= rank <= dim:
            raise ValueError(f"rank is {rank}; a Sylvester flow in {dim} dimensions takes 1 to {dim}")
        self.rank = rank
        self.orthogonal = Householder(dim, reflections)
        self.r1 = nn.Parameter(torch.randn(rank, rank) / math.sqrt(rank))
        self.r2 = nn.Parameter(torch.randn(rank, rank) / math.sqrt(rank))
        self.b = nn.Parameter(torch.zeros(rank))

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        q, r1, r2 = self._matrices()
        tanh = torch.tanh(x @ q @ r2.T + self.b)
        return x + tanh @ r1.T @ q.T, self._log_det(tanh, r1, r2)

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        q, r1, r2 = self._matrices()
        v = z @ q
        y = torch.zeros_like(v[:, :0])  # Qᵀx from entry i + 1 on
        tanh = y
        for i in reversed(range(self.rank)):
            offset = self.b[i] + y @ r2[i, i + 1 :]

            def entry(t: Tensor, i: int = i, offset: Tensor = offset) -> tuple[Tensor, Tensor]:
                bent = torch.tanh(r2[i, i] * t + offset)
                return t + r1[i, i] * bent, log_one_plus_slope(1 + r1[i, i] * r2[i, i], bent)

            t, _ = invert_increasing(entry, v[:, i] - tanh @ r1[i, i + 1 :])
            y = torch.cat([t[:, None], y], 1)
            tanh = torch.cat([torch.tanh(r2[i, i] * t + offset)[:, None], tanh], 1)
        return z - tanh @ r1.T @ q.T, self._log_det(tanh, r1, r2)

    def _matrices(self) -> tuple[Tensor, Tensor, Tensor]:
        bounded = [r.triu(1) + torch.diag(torch.tanh(r.diagonal())) for r in (self.r1, self.r2)]
        return self.orthogonal.matrix()[:, : self.rank], *bounded

    @staticmethod
    def _log_det(tanh: Tensor, r1: Tensor, r2: Tensor) -> Tensor:
        return sum_rest(log_one_plus_slope(1 + r1.diagonal() * r2.diagonal(), tanh))


def _flow(spec: DataSpec, family: str, flows: int, squash: Squash, layer: Callable[[], Layer]) -> ChainModel:
    if len(spec.shape) != 1:
        raise ValueError(f"{family} takes vectors, not data of shape {spec.shape}")
    if flows < 1:
        raise ValueError(f"flows is {flows}; {family} takes at least one")
    steps = [layer() for _ in range(flows)]
    return ChainModel([*preprocessing(spec, squash=squash), *steps], StandardNormal(spec.shape))


@register("planar")
def planar(spec: DataSpec, *, flows: int = 32, squash: Squash = "standardize") -> ChainModel:
    """``flows`` planar maps (arXiv 1505.05770)."""
    return _flow(spec, "planar", flows, squash, lambda: Planar(spec.dim))


@register("radial")
def radial(spec: DataSpec, *, flows: int = 32, squash: Squash = "standardize") -> ChainModel:
    """``flows`` radial maps (arXiv 1505.05770)."""
    return _flow(spec, "radial", flows, squash, lambda: Radial(spec.dim))


@register("sylvester")
def sylvester(
    spec: DataSpec,
    *,
    flows: int = 16,
    rank: int | None = None,
    reflections: int | None = None,
    squash: Squash = "standardize",
) -> ChainModel:
    """``flows`` Sylvester maps (arXiv 1803.05649) of ``rank`` M and ``reflections`` per orthogonal matrix, both D
    unless given."""
    return _flow(
        spec, "sylvester", flows, squash, lambda: Sylvester(spec.dim, rank or spec.dim, reflections or spec.dim)
    )
