"""The root of an increasing function whose slope is known, elementwise, by safeguarded Newton steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

MapWithSlope = Callable[[Tensor], tuple[Tensor, Tensor]]

INTERPOLATIONS = 48  # evaluations after which the bracket is halved every time, which ends for certain
LIMIT = 192  # evaluations in all: some thirty go out to the last float32, some sixty halvings close a bracket
REACH = 16.0  # how many times farther out a step may go where the root is not yet bracketed
ROUNDING = 8.0  # machine epsilons


class Point(NamedTuple):
    """x, f(x) - z, and dx/dz = 1 / f'(x)."""

    x: Tensor
    miss: Tensor
    rate: Tensor


def solve_increasing(
    at: Callable[[Tensor | slice], MapWithSlope], z: Tensor, *, start: Tensor | None = None, share: float = 1.0
) -> tuple[Tensor, Tensor]:
    """x with f(x) = z and log f'(x), for f: x -> (f(x), log f'(x)) increasing in each element; without gradients.

    ``at(rows)`` is f for some of the elements, z (n,): those that are found are left out when they are this ``share``
    of all. With the share 1 none is, and z has any shape. The search begins at ``start``, or at z.
    ArithmeticError where there is no x: z is outside of f's range, or not a number.
    """
    x, log_slope, found = _search(at(slice(None)), z, (z if start is None else start).clone(), share)
    while not bool(found.all()):
        rest = (~found).nonzero()[:, 0]
        x[rest], log_slope[rest], found[rest] = _search(at(rest), z[rest], x[rest], share)
    return x, log_slope


def invert_increasing(f: MapWithSlope, z: Tensor) -> tuple[Tensor, Tensor]:
    """x with f(x) = z and log f'(x), elementwise and differentiable once, for f increasing in each element."""
    with torch.no_grad():
        found = solve_increasing(lambda _: f, z)
    return implicit(lambda: f, z, *found)


def implicit(make: Callable[[], MapWithSlope], z: Tensor, x: Tensor, log_slope: Tensor) -> tuple[Tensor, Tensor]:
    """The same x and log f'(x), with the derivatives of the implicit function by z and by whatever f reads.

    ``make`` gives f, and is not called where nobody asks for derivatives.
    """
    if not torch.is_grad_enabled():
        return x, log_slope
    f = make()
    there, log_slope = f(x)
    miss = z - there
    x = x + (miss - miss.detach()) * torch.exp(-log_slope.detach())
    return x, f(x)[1]


def _search(f: MapWithSlope, z: Tensor, x: Tensor, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """x, log f'(x) and whether f(x) = z, when that is so for this ``share`` of the elements; from x on.

    The next point is where the cubic through the last two points of the inverse function, with its slopes, takes z
    (of order 1 + √3: each evaluation multiplies the correct digits by 2.7), never farther than half a Newton step
    from Newton's. Where it leaves the bracket or does not halve the last step, the bracket is halved or, while one
    side is open, moved outward. The end is where f(x) misses z by the rounding of z or of x.
    """
    low, high = torch.full_like(z, -torch.inf), torch.full_like(z, torch.inf)
    eps = ROUNDING * torch.finfo(z.dtype).eps
    close, last, before = eps * (1 + z.abs()), high, None
    for step in range(LIMIT):
        value, log_slope = f(x)
        now = Point(x, value - z, torch.exp(-log_slope))
        low, high = torch.where(now.miss < 0, x, low), torch.where(now.miss >= 0, x, high)
        width = torch.minimum((now.miss * now.rate).abs(), high - low)
        found = (now.miss.abs() < close) | (width < eps * x.abs().clamp_min(1.0))
        if int(found.sum()) >= share * z.numel():
            return x, log_slope, found
        new = _step(now, before)
        move = (new - x).abs()
        safe = (new > low) & (new < high) & (move < 0.5 * last) & (step < INTERPOLATIONS) | found
        if not bool(safe.all()):
            new, move = torch.where(safe, new, _fallback(now, low, high)), torch.where(safe, move, torch.inf)
        before, last, x = now, move, torch.where(found, x, new)
    lost = z[~found]
    raise ArithmeticError(f"no x has f(x) = z for {len(lost)} of {z.numel()} values z, the first {float(lost[0])}")


def _step(now: Point, before: Point | None) -> Tensor:
    """Newton's, bent after the cubic through two points of the inverse function."""
    newton = -now.miss * now.rate
    if before is None:
        return now.x + newton
    rise = now.miss - before.miss
    share = now.miss / rise
    chord = (now.x - before.x) / (rise * now.rate)  # as a multiple of the slope here, dx/dz
    there = before.rate / now.rate
    bend = share * ((2 - share) * (1 - chord) + (1 - share) * (there - chord))
    return torch.addcmul(now.x, newton, 1 - bend.clamp(-0.5, 0.5))


def _fallback(now: Point, low: Tensor, high: Tensor) -> Tensor:
    """The middle of the bracket or, where one side is open, a point on it: 0 first, then farther and farther out."""
    middle, side = 0.5 * (low + high), -now.miss.sign()
    ahead = side * now.x
    outward = side * torch.where(ahead < -1, 0.0, REACH * ahead.clamp_min(1.0))
    return torch.where(middle.abs() < torch.inf, middle, outward)
