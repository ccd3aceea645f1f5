"""Unconstrained monotonic networks (Wehenkel & Louppe 2019, arXiv 1908.05164): integrals of positive networks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from models.flows.univariate.base import Univariate
from models.flows.univariate.newton import MapWithSlope


def clenshaw_curtis(steps: int) -> tuple[Tensor, Tensor]:
    """The ``steps`` + 1 nodes and weights of ∫₀¹ (float64): cos(πk/n) moved to [0, 1], n even."""
    k, j = torch.arange(steps + 1, dtype=torch.float64), torch.arange(0, steps + 1, 2, dtype=torch.float64)
    share = torch.full_like(j, 2.0)
    share[[0, -1]] = 1.0
    weights = torch.cos(math.pi / steps * k[:, None] * j) @ (share / (1 - j**2)) / steps
    weights[[0, -1]] /= 2
    return (1 - torch.cos(math.pi / steps * k)) / 2, weights


@dataclass(frozen=True)
class Rule:
    """A quadrature rule on [0, 1], and how many points x of a batch go through the network together."""

    nodes: Tensor
    weights: Tensor
    block: int
    keep: bool  # the network's units for the way back, instead of computing them again


class Integral(torch.autograd.Function):
    """∫₀ˣ g(t) dt for n points x at once, g(t) = elu(raw(t)) + 1 and raw a ReLU network whose first layer is
    ``first`` + ``rate`` t, ``first`` (width, n) and ``rate`` (width,), and whose others are matrices [W | b].

    By hand, in blocks that stay in a processor's cache: hundreds of times more units pass through than there are
    points. ``slope`` is g(x), the derivative by x. Units come first, then points, then nodes.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, slope: Tensor, first: Tensor, rate: Tensor, rule: Rule, *layers: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, slope, first, rate, *layers)
        ctx.rule, ctx.kept = rule, []
        mean = torch.empty_like(x)
        units: list[Tensor] = []
        for part in _blocks(len(x), rule.block):
            if rule.keep or not units:
                units = _room(x, layers, min(rule.block, len(x)) * len(rule.nodes))
            raw, _ = _network(x[part], first[:, part], rate, rule.nodes, layers, units)
            mean[part] = (F.elu(raw) + 1).view(-1, len(rule.nodes)) @ rule.weights
            if rule.keep:
                ctx.kept.append((raw, units))
        return x * mean

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, slope, first, rate, *layers = ctx.saved_tensors
        rule: Rule = ctx.rule
        by_first, by_rate = torch.empty_like(first), torch.zeros_like(rate)
        by_layers = [torch.zeros_like(weight) for weight in layers]
        size = min(rule.block, len(x)) * len(rule.nodes)
        fresh = _room(x, layers, size)
        spare = [unit.new_empty(len(unit) - 1, size) for unit in fresh]
        up = gradient * x
        for i, part in enumerate(_blocks(len(x), rule.block)):
            if rule.keep:
                raw, units = ctx.kept[i]
                units = [u[:, : raw.shape[1]] for u in units]
            else:
                raw, units = _network(x[part], first[:, part], rate, rule.nodes, layers, fresh)
            delta = torch.exp(raw.clamp_max(0)).view(-1, len(rule.nodes)) * (up[part, None] * rule.weights)
            delta = delta.view(1, -1)
            for weight, by_weight, unit, room in reversed([*zip(layers, by_layers, units, spare, strict=True)]):
                by_weight.addmm_(delta, unit.T)
                delta = torch.mm(weight[:, :-1].T, delta, out=room[:, : raw.shape[1]])
                torch.ops.aten.threshold_backward(delta, unit[:-1], 0, grad_input=delta)
            delta = delta.view(len(rate), -1, len(rule.nodes))
            by_first[:, part] = delta.sum(2)
            by_rate += (delta @ rule.nodes) @ x[part]
        return gradient * slope, None, by_first, by_rate, None, *by_layers


def _blocks(n: int, block: int) -> Iterator[slice]:
    return (slice(start, start + block) for start in range(0, n, block))


def _room(like: Tensor, layers: Sequence[Tensor], size: int) -> list[Tensor]:
    """For the inputs of every layer, with a row of ones below, which its last column multiplies: the bias."""
    units = [like.new_empty(weight.shape[1], size) for weight in layers]
    for unit in units:
        unit[-1].fill_(1)
    return units


def _network(
    x: Tensor, first: Tensor, rate: Tensor, nodes: Tensor, layers: Sequence[Tensor], room: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """raw at x times every node, (1, len(x) * nodes), and the inputs of the layers, written into ``room``."""
    units = [u[:, : len(x) * len(nodes)] for u in room]
    start = units[0][:-1].view(len(rate), len(x), len(nodes))
    torch.addcmul(first[:, :, None], rate[:, None, None], x[:, None] * nodes, out=start).relu_()
    for weight, before, after in zip(layers, units, units[1:], strict=False):
        torch.mm(weight, before, out=after[:-1]).relu_()
    return layers[-1] @ units[-1], units


class MonotonicNetwork(Univariate):
    """z = β + ∫₀ˣ g(t; h) dt, g = m + 1 + elu(network(t, h)) > 0 (eq. 4-5 and the authors' code), by Clenshaw-Curtis.
    Params: the embedding h, ``embedding`` numbers, and the offset β.

    ReLU layers of widths ``hidden``, shared by all elements, and ``steps`` + 1 quadrature points. log dz/dx is that of
    the integral, log g(x), and so is the derivative of z by x; the least slope m = ``minimum``, which the authors do
    not have, makes the map take every value.
    """

    share = 0.5
    ROWS = 1 << 12  # through the network at a time, few enough for a cache
    ROWS_ON_GPU = 1 << 20
    KEEP = 1 << 27  # bytes up to which the units of all rows are kept for the way back

    def __init__(
        self, embedding: int = 30, hidden: Sequence[int] = (50, 50, 50, 50), steps: int = 50, *, minimum: float = 1e-3
    ) -> None:
        super().__init__()
        if embedding < 1 or not hidden or min(hidden) < 1:
            raise ValueError(f"embedding is {embedding} and hidden is {list(hidden)}; widths are at least 1")
        if steps < 2 or steps % 2:
            raise ValueError(f"steps is {steps}; Clenshaw-Curtis takes an even number")
        if minimum <= 0:
            raise ValueError(f"minimum is {minimum}; the least slope is positive")
        self.n_params, self.minimum = embedding + 1, minimum
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise([1 + embedding, *hidden, 1]))
        nodes, weights = (t.to(torch.get_default_dtype()) for t in clenshaw_curtis(steps))
        self.register_buffer("nodes", nodes, persistent=False)
        self.register_buffer("weights", weights, persistent=False)

    def at(self, params: Tensor) -> MapWithSlope:
        enter, *layers = [torch.cat([linear.weight, linear.bias[:, None]], 1) for linear in self.linears]
        rate, embedding = enter[:, 0], params[..., :-1].reshape(-1, self.n_params - 1)
        first = torch.addmm(enter[:, -1:], enter[:, 1:-1], embedding.T)

        def f(x: Tensor) -> tuple[Tensor, Tensor]:
            flat = x.reshape(-1)
            unit = torch.relu(torch.addcmul(first, rate[:, None], flat))
            for weight in layers[:-1]:
                unit = torch.relu(torch.addmm(weight[:, -1:], weight[:, :-1], unit))
            last = layers[-1]
            g = F.elu(torch.addmm(last[:, -1:], last[:, :-1], unit))[0] + 1
            area = Integral.apply(flat, g.detach(), first, rate, self._rule(flat), *layers)
            slope = (self.minimum + g).view(x.shape)
            return params[..., -1] + self.minimum * x + area.view(x.shape), slope.log()

        return f

    def _rule(self, x: Tensor) -> Rule:
        rows = self.ROWS_ON_GPU if x.is_cuda else self.ROWS
        units = sum(linear.in_features for linear in self.linears[1:])
        room = len(x) * len(self.nodes) * units * x.element_size()
        keep = torch.is_grad_enabled() and room <= self.KEEP
        return Rule(self.nodes, self.weights, max(1, rows // len(self.nodes)), keep)
