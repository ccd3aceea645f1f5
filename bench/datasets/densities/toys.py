"""The toy densities of the literature, as mixtures of shapes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bench.datasets.densities.mixtures import Blob, Circle, Curve, Mixture, Rectangle


def checkerboard() -> Mixture:
    """Uniform on the eight dark 2x2 squares of [-4, 4]²: p = 1/32, entropy log 32; odd under x1 -> -x1."""
    squares = [
        Rectangle((x, x + 2), (y, y + 2)) for x in (-4, -2, 0, 2) for y in (-4, -2, 0, 2) if (x + y) // 2 % 2 == 0
    ]
    return Mixture(squares, half_width=5, scale=0.5)


def corners() -> Mixture:
    """Four L-shaped corners: |x| uniform on [1,2]x[1,4] or on [1,4]x[1,2], which overlap in [1,2]²."""
    shapes, modes = [], []
    for mode, (a, b) in enumerate([(1, 1), (1, -1), (-1, 1), (-1, -1)]):
        short_x, long_x = _interval(a, 2), _interval(a, 4)
        short_y, long_y = _interval(b, 2), _interval(b, 4)
        shapes += [Rectangle(short_x, long_y), Rectangle(long_x, short_y)]
        modes += [mode, mode]
    return Mixture(shapes, modes=modes, half_width=5, scale=0.5)


def _interval(sign: int, end: float) -> tuple[float, float]:
    return (1.0, end) if sign > 0 else (-end, -1.0)


def eight_gaussians() -> Mixture:
    """Eight Gaussians of sd .5 on a circle of radius 4, all divided by 1.414 and turned by π/8."""
    radius, sd = 4 / 1.414, 0.5 / 1.414
    angles = [math.pi / 8 + k * math.pi / 4 for k in range(8)]
    blobs = [Blob((radius * math.cos(a), radius * math.sin(a)), sd) for a in angles]
    return Mixture(blobs, half_width=5.5, scale=sd)


def four_circles() -> Mixture:
    """Four circles of radius 2 about (±1, ±1) that cross each other, blurred by sd .1."""
    circles = [Circle((a, b), 2.0, 0.1) for a in (-1, 1) for b in (-1, 1)]
    return Mixture(circles, half_width=4, scale=0.1)


def rings() -> Mixture:
    """Four concentric rings of equal mass, radii .75, 1.5, 2.25 and 3, blurred by sd .08."""
    return Mixture([Circle((0, 0), 0.75 * k, 0.08) for k in (1, 2, 3, 4)], half_width=4, scale=0.08)


def two_spirals() -> Mixture:
    """Two Archimedean arms of one and a half turns, uniform in the angle's square, blurred by sd .1."""

    def arm(sign: int) -> Curve:
        def c(t: Tensor) -> Tensor:
            angle = 3 * math.pi * t.sqrt()
            return sign * angle[:, None] / 3 * torch.stack([-angle.cos(), angle.sin()], -1)

        return Curve(c, sd=0.1, nodes=600)

    return Mixture([arm(1), arm(-1)], half_width=4, scale=0.1)


def two_moons() -> Mixture:
    """Two interleaved half circles of radius 2, centred on the origin, blurred by sd .2."""

    def moon(sign: int) -> Curve:
        def c(t: Tensor) -> Tensor:
            angle = math.pi * t
            return sign * 2 * torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], -1)

        return Curve(c, sd=0.2, nodes=120)

    return Mixture([moon(1), moon(-1)], half_width=4.5, scale=0.2)
