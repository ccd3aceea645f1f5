"""Monotone splines on [-bound, bound]², the identity outside."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from models.flows.univariate.base import Univariate

Ends = tuple[Tensor, Tensor]


class Spline(Univariate):
    """What the splines share: ``bins`` bins, at least ``minimum`` of the interval wide; and the tails.

    ``logit_scale`` multiplies the width and height logits (1/√hidden in the coupling flows of neural spline flows).
    A subclass gives z and log dz/dx in the bin that holds a value, and the way back.
    """

    def __init__(self, bins: int = 8, bound: float = 3.0, *, minimum: float = 1e-3, logit_scale: float = 1.0) -> None:
        super().__init__()
        if bins < 2 or bins * minimum >= 1:
            raise ValueError(f"bins is {bins}; a spline takes at least 2 and fewer than 1 / minimum = {1 / minimum:g}")
        if bound <= 0:
            raise ValueError(f"bound is {bound}; a spline bends between -bound and bound, which is positive")
        self.bins, self.bound, self.minimum, self.logit_scale = bins, bound, minimum, logit_scale

    def _shares(self, logits: Tensor, dim: int) -> Tensor:
        """Shares of the interval, at least ``minimum`` each, that sum to one over the bins along ``dim``."""
        return self.minimum + (1 - self.minimum * self.bins) * torch.softmax(logits * self.logit_scale, dim)

    def _locate(self, value: Tensor, shares: Tensor, axis: int) -> tuple[Ends, Ends, Tensor]:
        """The ends (x0, x1), (z0, z1) of the bin that holds each value, and their indices.

        shares (2, bins, ...) of widths and heights; axis 0: value is an x, 1: a z.
        """
        inner = self.bound * (2 * shares[:, :-1].cumsum(1) - 1)
        corner = inner.new_full((2, 1, *value.shape), self.bound)
        knots = torch.cat([-corner, inner, corner], 1)
        left = (value >= inner[axis]).sum(0)
        ends = torch.stack([left, left + 1])
        (x0, x1), (z0, z1) = knots.gather(1, ends.expand(2, 2, *value.shape))
        return (x0, x1), (z0, z1), ends

    def _with_tails(self, value: Tensor, other: Tensor, log_slope: Tensor) -> tuple[Tensor, Tensor]:
        inside = value.abs() < self.bound
        return torch.where(inside, other, value), torch.where(inside, log_slope, torch.zeros_like(log_slope))


class RationalQuadraticSpline(Spline):
    """Monotone rational-quadratic spline (Durkan et al. 2019, arXiv 1906.04032, eq. 4-8).
    Params: ``bins`` width logits, ``bins`` height logits, ``bins`` - 1 derivatives.

    In a bin with slope s = height / width, end derivatives d0, d1 and θ = (x - x0) / width,

        z = z0 + height (s θ² + d0 θ(1-θ)) / (s (1 - 2θ(1-θ)) + (d0 + d1) θ(1-θ)),

    here with the paper's denominator s + (d0 + d1 - 2s) θ(1-θ) written without a difference. In both
    directions every sum is then one of terms that are not negative, so nothing cancels, no discriminant is
    negative.
    """

    def __init__(self, bins: int = 8, bound: float = 3.0, *, minimum: float = 1e-3, logit_scale: float = 1.0) -> None:
        super().__init__(bins, bound, minimum=minimum, logit_scale=logit_scale)
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

    def _bin(self, value: Tensor, params: Tensor, axis: int) -> tuple[Ends, Ends, Ends]:
        """(x0, x1), (z0, z1), (d0, d1) of the bin that holds each value."""
        # Bins come first from here on: softmax and cumsum over a short last dimension are several times slower.
        logits, raw = params.movedim(-1, 0).split([2 * self.bins, self.bins - 1])
        shares = self._shares(logits.unflatten(0, (2, self.bins)).contiguous(), 1)
        xs, zs, ends = self._locate(value, shares, axis)
        # A derivative of one at both ends meets the tails smoothly.
        end = raw.new_full((1, *value.shape), math.log(math.expm1(1 - self.minimum)))
        d0, d1 = self.minimum + F.softplus(torch.cat([end, raw, end]).gather(0, ends))
        return xs, zs, (d0, d1)

    @staticmethod
    def _denominator(cross: Tensor, slope: Tensor, d0: Tensor, d1: Tensor) -> Tensor:
        return slope * (1 - 2 * cross) + (d0 + d1) * cross

    def _log_slope(self, theta: Tensor, slope: Tensor, d0: Tensor, d1: Tensor) -> Tensor:
        """log dz/dx, eq. 5."""
        cross = theta * (1 - theta)
        top = d1 * theta**2 + 2 * slope * cross + d0 * (1 - theta) ** 2
        return torch.log(top * (slope / self._denominator(cross, slope, d0, d1)) ** 2)


class QuadraticSpline(Spline):
    """Quadratic spline: its slope is piecewise linear (Müller et al. 2019, arXiv 1808.03856, section 4.2).
    Params: ``bins`` width logits, ``bins`` - 1 slopes at the inner knots, before softplus and a common factor.

    The slope is one at both ends, where it meets the tails; the common factor makes z(bound) = bound, as in the
    comparison of neural spline flows. In a bin with end slopes d0, d1, z = z0 + width (d0 θ + (d1 - d0) θ² / 2).
    """

    def __init__(self, bins: int = 8, bound: float = 3.0, *, minimum: float = 1e-3, logit_scale: float = 1.0) -> None:
        super().__init__(bins, bound, minimum=minimum, logit_scale=logit_scale)
        self.n_params = 2 * bins - 1

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        inside = x.clamp(-self.bound, self.bound)
        (x0, x1), (z0, _), (d0, d1) = self._bin(inside, params, axis=0)
        theta = (inside - x0) / (x1 - x0)
        slope = d0 * (1 - theta) + d1 * theta
        return self._with_tails(x, z0 + (inside - x0) * (d0 + slope) / 2, slope.log())

    def inverse(self, z: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """θ = 2t / (d0 + √(d0² + 2 (d1 - d0) t)), t = (z - z0) / width; from the end where the slope is less."""
        inside = z.clamp(-self.bound, self.bound)
        (x0, x1), (z0, z1), (d0, d1) = self._bin(inside, params, axis=1)
        width, rises = x1 - x0, d0 <= d1
        t = torch.where(rises, inside - z0, z1 - inside).clamp_min(0) / width
        low = torch.minimum(d0, d1)
        share = (2 * t / (low + torch.sqrt(low**2 + 2 * (d1 - d0).abs() * t))).clamp_max(1)
        theta = torch.where(rises, share, 1 - share)
        return self._with_tails(z, x0 + width * theta, torch.log(d0 * (1 - theta) + d1 * theta))

    def _bin(self, value: Tensor, params: Tensor, axis: int) -> tuple[Ends, Ends, Ends]:
        logits, raw = params.movedim(-1, 0).contiguous().split([self.bins, self.bins - 1])
        widths = self._shares(logits, 0)
        raw = F.softplus(raw * self.logit_scale) + 1e-3
        beside = (widths[:-1] + widths[1:]) / 2
        raw = raw * ((1 - (widths[0] + widths[-1]) / 2) / (raw * beside).sum(0))
        end = raw.new_ones(1, *value.shape)
        slopes = torch.cat([end, self.minimum + (1 - self.minimum) * raw, end])
        heights = widths * (slopes[:-1] + slopes[1:]) / 2
        xs, zs, ends = self._locate(value, torch.stack([widths, heights]), axis)
        d0, d1 = slopes.gather(0, ends)
        return xs, zs, (d0, d1)


class CubicSpline(Spline):
    """Monotone cubic spline after Steffen (Durkan et al. 2019, arXiv 1906.02145, section 3).
    Params: ``bins`` width logits, ``bins`` height logits, logits of the two slopes at the ends.

    The slope at an inner knot is twice the least of the bins' mean slopes beside it and of half their weighted mean;
    that at an end lies between 0 and three times its bin's. Unlike the other splines' it is free, so the slope
    jumps where the tails begin. In a bin with mean slope s and end slopes s e0, s e1,

        z = z0 + height (e0 θ + (3 - 2 e0 - e1) θ² + (e0 + e1 - 2) θ³).
    """

    def __init__(self, bins: int = 8, bound: float = 3.0, *, minimum: float = 1e-3, logit_scale: float = 1.0) -> None:
        super().__init__(bins, bound, minimum=minimum, logit_scale=logit_scale)
        self.n_params = 2 * bins + 2

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        inside = x.clamp(-self.bound, self.bound)
        (x0, x1), (z0, z1), (e0, e1) = self._bin(inside, params, axis=0)
        width, height = x1 - x0, z1 - z0
        theta = (inside - x0) / width
        return self._with_tails(x, z0 + height * _cubic(theta, e0, e1), self._log_slope(theta, height / width, e0, e1))

    def inverse(self, z: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        inside = z.clamp(-self.bound, self.bound)
        (x0, x1), (z0, z1), (e0, e1) = self._bin(inside, params, axis=1)
        width, height = x1 - x0, z1 - z0
        t = ((inside - z0) / height).clamp(0, 1)
        with torch.no_grad():
            theta = _cubic_root(t, e0, e1)
            slope = _cubic_slope(theta, e0, e1)
        # This changes nothing but the derivative: the root's is implicit.
        theta = theta + (t - _cubic(theta, e0, e1)) / slope
        return self._with_tails(z, x0 + width * theta, self._log_slope(theta, height / width, e0, e1))

    def _bin(self, value: Tensor, params: Tensor, axis: int) -> tuple[Ends, Ends, Ends]:
        logits, raw = params.movedim(-1, 0).split([2 * self.bins, 2])
        shares = self._shares(logits.unflatten(0, (2, self.bins)).contiguous(), 1)
        widths, heights = shares
        slopes = heights / widths
        left, right = slopes[:-1], slopes[1:]
        mean = (widths[1:] * left + widths[:-1] * right) / (widths[1:] + widths[:-1])
        inner = torch.minimum(2 * torch.minimum(left, right), mean)
        first, last = (
            3 * (self.minimum + (1 - 2 * self.minimum) * torch.sigmoid(raw)) * torch.stack([slopes[0], slopes[-1]])
        )
        knots = torch.cat([first[None], inner, last[None]])
        xs, zs, ends = self._locate(value, shares, axis)
        d0, d1 = knots.gather(0, ends)
        mean = (zs[1] - zs[0]) / (xs[1] - xs[0])
        return xs, zs, (d0 / mean, d1 / mean)

    @staticmethod
    def _log_slope(theta: Tensor, mean: Tensor, e0: Tensor, e1: Tensor) -> Tensor:
        return torch.log(mean * _cubic_slope(theta, e0, e1))


def _cubic(theta: Tensor, e0: Tensor, e1: Tensor) -> Tensor:
    return theta * (e0 + theta * (3 - 2 * e0 - e1 + theta * (e0 + e1 - 2)))


def _cubic_slope(theta: Tensor, e0: Tensor, e1: Tensor) -> Tensor:
    rest = 1 - theta
    return e0 * rest**2 + 2 * (3 - e0 - e1) * theta * rest + e1 * theta**2


def _cubic_root(t: Tensor, e0: Tensor, e1: Tensor) -> Tensor:
    """θ in [0, 1] with cubic(θ) = t, in closed form and polished.

    In r = θ / (1-θ) the equation is c3 r³ + 3 c2 r² + 3 c1 r + c0 = 0 with Bernstein coefficients c, has exactly one
    positive root, the largest, and c3 = 1 - t, which is at least 1/2 after exchanging the ends where t is larger: so
    no case is degenerate, whatever the degree in θ.
    """
    flip = t > 0.5
    t = torch.where(flip, 1 - t, t)
    e0, e1 = torch.where(flip, e1, e0), torch.where(flip, e0, e1)
    b2, b1, b0 = (1 - e1 / 3 - t) / (1 - t), (e0 / 3 - t) / (1 - t), -t / (1 - t)
    theta = _largest_root(b2, b1, b0).clamp_min(0)
    theta = theta / (1 + theta)
    for _ in range(2):  # Newton: the formula loses half of the digits where roots meet
        theta = (theta + (t - _cubic(theta, e0, e1)) / _cubic_slope(theta, e0, e1)).clamp(0, 1)
    return torch.where(flip, 1 - theta, theta)


def _largest_root(b2: Tensor, b1: Tensor, b0: Tensor) -> Tensor:
    """The largest real root of r³ + 3 b2 r² + 3 b1 r + b0, by Cardano or, of three, by cosines."""
    p, q = b1 - b2**2, b2**3 + (b0 - 3 * b1 * b2) / 2
    square = q**2 + p**3
    size = (q.abs() + square.clamp_min(0).sqrt()) ** (1 / 3)
    one = torch.where(size > 0, torch.sign(q) * (p / size - size), 0.0)
    angle = torch.atan2((-square).clamp_min(0).sqrt(), -q) / 3
    three = 2 * (-p).clamp_min(0).sqrt() * torch.cos(angle)
    return torch.where(square < 0, three, one) - b2


SPLINES: dict[str, type[Spline]] = {"rq": RationalQuadraticSpline, "quadratic": QuadraticSpline, "cubic": CubicSpline}
