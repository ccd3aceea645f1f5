"""Monotone scalar maps z = f(x; params): one half of every autoregressive and coupling flow.

The other half, where the parameters come from, is in ``models/flows/conditioner.py``.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Univariate(nn.Module):
    """An increasing map of the real line, elementwise: x (...), params (..., n_params).

    Both directions return the other end and log dz/dx at the pair, elementwise, shape (...).
    """

    n_params: int

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """x -> (z, log dz/dx)."""
        raise NotImplementedError

    def inverse(self, z: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """z -> (x, log dz/dx at that x)."""
        raise NotImplementedError


Scale = Literal["exp", "tanh", "sigmoid"]


class AffineMap(Univariate):
    """z = s x + t with params (a, t) and the scale s(a) > 0 one of

    * ``exp``: s = e^a, unbounded (Real NVP, arXiv 1605.08803, eq. 5; MAF, arXiv 1705.07057);
    * ``tanh``: log s = b tanh(a / b), so that |log s| < b = ``bound``;
    * ``sigmoid``: s = σ(a + 2) + 10⁻³, contracting only (Glow's code, and the affine re-runs in neural spline flows).
    """

    n_params = 2

    def __init__(self, scale: Scale = "exp", bound: float = 2.0) -> None:
        super().__init__()
        if scale not in ("exp", "tanh", "sigmoid"):
            raise ValueError(f"scale is {scale!r}; it takes exp, tanh or sigmoid")
        self.scale, self.bound = scale, bound

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift = self._log_scale(params[..., 0]), params[..., 1]
        return x * torch.exp(log_scale) + shift, log_scale

    def inverse(self, z: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift = self._log_scale(params[..., 0]), params[..., 1]
        return (z - shift) * torch.exp(-log_scale), log_scale

    def _log_scale(self, a: Tensor) -> Tensor:
        if self.scale == "exp":
            return a
        if self.scale == "tanh":
            return self.bound * torch.tanh(a / self.bound)
        return torch.log(torch.sigmoid(a + 2) + 1e-3)


class RationalQuadraticSpline(Univariate):
    """Monotone rational-quadratic spline on [-bound, bound]², the identity outside (Durkan et al. 2019,
    arXiv 1906.04032, eq. 4-8). Params: ``bins`` width logits, ``bins`` height logits, ``bins`` - 1 derivatives.

    In a bin with slope s = height / width, end derivatives d0, d1 and θ = (x - x0) / width,

        z = z0 + height (s θ² + d0 θ(1-θ)) / (s (1 - 2θ(1-θ)) + (d0 + d1) θ(1-θ)),

    whose denominator, like every sum below, has positive terms only: nothing cancels, no discriminant is
    negative. ``logit_scale`` multiplies the width and height logits (1/√hidden in RQ-NSF(C)).
    """

    def __init__(self, bins: int = 8, bound: float = 3.0, *, minimum: float = 1e-3, logit_scale: float = 1.0) -> None:
        super().__init__()
        if bins < 2 or bins * minimum >= 1:
            raise ValueError(f"bins is {bins}; a spline takes at least 2 and fewer than 1 / minimum = {1 / minimum:g}")
        self.bins, self.bound, self.minimum, self.logit_scale = bins, bound, minimum, logit_scale
        self.n_params = 3 * bins - 1

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        inside = x.clamp(-self.bound, self.bound)
        (x0, x1), (z0, z1), (d0, d1) = self._bin(inside, params, axis=0)
        width, height = x1 - x0, z1 - z0
        theta, slope = (inside - x0) / width, height / width
        cross = theta * (1 - theta)
        share = (slope * theta**2 + d0 * cross) / self._denominator(cross, slope, d0, d1)
        return self._with_tails(x, z0 + height * share, self._log_slope(theta, slope, d0, d1))

    def inverse(self, z: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """The root of a quadratic in θ. With t = (z - z0) / height and e = d0 (1-t) - d1 t it is

            θ = 2 s t / (e + 2 s t + √(e² + 4 s² t(1-t))),

        and 1 - θ is the same with t -> 1-t, e -> -e; the one with e >= 0 is computed.
        """
        inside = z.clamp(-self.bound, self.bound)
        (x0, x1), (z0, z1), (d0, d1) = self._bin(inside, params, axis=1)
        width, height = x1 - x0, z1 - z0
        t, slope = (inside - z0) / height, height / width
        e = d0 * (1 - t) - d1 * t
        root = torch.sqrt(e**2 + 4 * slope**2 * t * (1 - t))
        near = 2 * slope * torch.where(e >= 0, t, 1 - t)
        share = near / (e.abs() + near + root)
        theta = torch.where(e >= 0, share, 1 - share)
        return self._with_tails(z, x0 + width * theta, self._log_slope(theta, slope, d0, d1))

    def _bin(self, value: Tensor, params: Tensor, axis: int) -> tuple[tuple[Tensor, Tensor], ...]:
        """The ends (x0, x1), (z0, z1), (d0, d1) of the bin that holds each value; axis 0: value is an x, 1: a z."""
        # Bins come first from here on: softmax and cumsum over a short last dimension are several times slower.
        logits, raw = params.movedim(-1, 0).split([2 * self.bins, self.bins - 1])
        shares = torch.softmax(logits.unflatten(0, (2, self.bins)).contiguous() * self.logit_scale, 1)
        shares = self.minimum + (1 - self.minimum * self.bins) * shares
        inner = self.bound * (2 * shares[:, :-1].cumsum(1) - 1)
        corner = inner.new_full((2, 1, *value.shape), self.bound)
        knots = torch.cat([-corner, inner, corner], 1)
        left = (value >= inner[axis]).sum(0)
        ends = torch.stack([left, left + 1])
        (x0, x1), (z0, z1) = knots.gather(1, ends.expand(2, 2, *value.shape))
        # A derivative of one at both ends meets the tails smoothly.
        end = raw.new_full((1, *value.shape), math.log(math.expm1(1 - self.minimum)))
        d0, d1 = self.minimum + F.softplus(torch.cat([end, raw, end]).gather(0, ends))
        return (x0, x1), (z0, z1), (d0, d1)

    @staticmethod
    def _denominator(cross: Tensor, slope: Tensor, d0: Tensor, d1: Tensor) -> Tensor:
        return slope * (1 - 2 * cross) + (d0 + d1) * cross

    def _log_slope(self, theta: Tensor, slope: Tensor, d0: Tensor, d1: Tensor) -> Tensor:
        """log dz/dx, eq. 5."""
        cross = theta * (1 - theta)
        top = d1 * theta**2 + 2 * slope * cross + d0 * (1 - theta) ** 2
        return torch.log(top * (slope / self._denominator(cross, slope, d0, d1)) ** 2)

    def _with_tails(self, value: Tensor, other: Tensor, log_slope: Tensor) -> tuple[Tensor, Tensor]:
        inside = value.abs() < self.bound
        return torch.where(inside, other, value), torch.where(inside, log_slope, torch.zeros_like(log_slope))
