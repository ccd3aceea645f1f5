"""Inverses of increasing maps that have no closed one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]

DOUBLINGS = 100  # of [0, 1] or [-1, 0]
INTERPOLATIONS = 64  # steps that may interpolate; halvings after them end the search for certain


def invert_increasing(f: Map, z: Tensor) -> Tensor:
    """x with f(x) = z, elementwise, for f increasing in each element; x is exact to rounding (absolute below 1).

    A bracket is found by doubling and closed by inverse quadratic interpolation, or halving where that is not safe
    (Chandrupatla 1997, doi 10.1016/S0965-9978(96)00051-8). The derivative, once, with respect to z and to whatever
    f reads is that of the implicit function. ArithmeticError where no bracket is found: z is outside of f's range,
    or not a number.
    """
    with torch.no_grad():
        x = _close(f, z, *_bracket(f, z))
    if not torch.is_grad_enabled():
        return x
    x.requires_grad_()
    there = f(x)
    (slope,) = torch.autograd.grad(there.sum(), x, retain_graph=True)
    miss = z - there
    return x.detach() + (miss - miss.detach()) / slope


def _bracket(f: Map, z: Tensor) -> tuple[Tensor, Tensor]:
    """The ends of an interval that holds the root: (0, ±1), or from one power of two to the next."""
    near = torch.zeros_like(z)
    side = torch.where(f(near) < z, 1.0, -1.0).to(z.dtype)
    far = side
    for _ in range(DOUBLINGS):
        reached = side * (f(far) - z) >= 0
        if bool(reached.all()):
            return near, far
        near, far = torch.where(reached, near, far), torch.where(reached, far, 2 * far)
    lost = z[~reached]
    raise ArithmeticError(f"no x has f(x) = z for {len(lost)} of {z.numel()} values z, the first {float(lost[0])}")


def _close(f: Map, z: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The root between a and b. Each step replaces a by a point t of the way to b; c is the end that was given up."""
    at_a, at_b = f(a) - z, f(b) - z
    t = torch.full_like(z, 0.5)
    for step in count():
        x = a + t * (b - a)
        at_x = f(x) - z
        same = (at_x < 0) == (at_a < 0)
        c, at_c = torch.where(same, a, b), torch.where(same, at_a, at_b)
        b, at_b = torch.where(same, b, a), torch.where(same, at_b, at_a)
        a, at_a = x, at_x
        best = torch.where(at_a.abs() <= at_b.abs(), a, b)
        rounding = torch.finfo(z.dtype).eps * best.abs().clamp_min(1.0) / (b - a).abs()
        found = (rounding >= 0.5) | (at_a == 0) | (at_b == 0)
        if bool(found.all()):
            return best
        t = torch.full_like(z, 0.5)
        if step < INTERPOLATIONS:
            edge = rounding.clamp_max(0.5)
            t = _interpolated(a, b, c, at_a, at_b, at_c, t).clamp(edge, 1 - edge)
    raise AssertionError("unreachable: halving ends")


def _interpolated(
    a: Tensor, b: Tensor, c: Tensor, at_a: Tensor, at_b: Tensor, at_c: Tensor, otherwise: Tensor
) -> Tensor:
    """Where between a (0) and b (1) the inverse parabola through three points is zero, if it increases there."""
    share, rise = (a - b) / (c - b), (at_a - at_b) / (at_c - at_b)
    safe = (rise**2 < share) & ((1 - rise) ** 2 < 1 - share)
    by_c = (c - a) / (b - a) * at_a / (at_c - at_a) * at_b / (at_c - at_b)
    return torch.where(safe, at_a / (at_b - at_a) * at_c / (at_b - at_c) + by_c, otherwise)
