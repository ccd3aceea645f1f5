"""MADE (Germain et al. 2015, arXiv 1502.03509): a network whose i-th output reads inputs 1..i-1 only."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from models.nets.mlp import Activation, activation_module, one_width, residual_branch

Band = tuple[int, int, int]


class BandedProduct(torch.autograd.Function):
    """x W' + b for a W whose rows come in bands (first, last, reach) with zeros beyond their reach.

    Of a triangular W in four bands 5/8 of the dense product remain. By hand, because slices under autograd give back
    gradients of the full size, filled with zeros; differentiable once.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor, bands: list[Band]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.bands = bands
        out = x.new_empty(len(x), len(weight))
        for first, last, reach in bands:
            torch.addmm(bias[first:last], x[:, :reach], weight[first:last, :reach].T, out=out[:, first:last])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        by_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        by_weight = torch.zeros_like(weight)
        for first, last, reach in ctx.bands:
            band = gradient[:, first:last]
            torch.mm(band.T, x[:, :reach], out=by_weight[first:last, :reach])
            if by_x is not None:
                by_x[:, :reach].addmm_(band, weight[first:last, :reach])
        return by_x, by_weight, gradient.sum(0), None


class MaskedLinear(nn.Linear):
    """A linear layer whose outputs read the inputs of at most their own degree; both degrees ascend.

    So the mask (outputs, inputs) is block lower-triangular, and a large product is made in bands that reach as far as
    their ones. Not on a GPU, whose cost is the number of products.

    With ``weight_norm`` each row is a free length times a direction, W_i = s_i v_i / |v_i|, before it is masked: the
    norm is of the whole row, as in the code of neural autoregressive flows (arXiv 1804.00779).
    """

    BANDS = 4
    LARGE = 1 << 14  # weights from which bands save more than they cost

    def __init__(self, inputs: Tensor, outputs: Tensor, weight_norm: bool = False) -> None:
        super().__init__(len(inputs), len(outputs))
        mask = outputs[:, None] >= inputs
        self.register_buffer("mask", mask.to(self.weight.dtype), persistent=False)
        edges = [len(outputs) * i // self.BANDS for i in range(self.BANDS + 1)]
        self.bands: list[Band] = [(a, b, max(1, int(mask[b - 1].sum()))) for a, b in pairwise(edges) if a < b]
        self.banded = mask.numel() >= self.LARGE
        self.inputs_to, self.outputs_to = _counts(inputs), _counts(outputs)
        self.lengths = nn.Parameter(self.weight.detach().norm(dim=1)) if weight_norm else None

    def masked(self) -> Tensor:
        """W as it multiplies."""
        if self.lengths is None:
            return self.weight * self.mask
        return self.weight * self.mask * (self.lengths / self.weight.norm(dim=1))[:, None]

    def forward(self, x: Tensor) -> Tensor:
        weight = self.masked()
        if self.banded and x.dim() == 2 and not x.is_cuda:
            return BandedProduct.apply(x, weight, self.bias, self.bands)
        return F.linear(x, weight, self.bias)


class MADE(nn.Module):
    """Parameters of D one-dimensional conditionals: x (batch, D) -> (batch, D, n_params); [:, i] reads x[:, :i].

    The units of a hidden layer have the degrees 1..D-1, evenly and in ascending order, and read units of at most
    their degree; output i (counted from 1) reads units of degree below i (Germain et al. 2015, eq. 12-13). With a
    context there are units of degree 0 too, which read it alone: without them p(x_1 | context) could not depend on
    the context.

    ``residual`` gives the ResMADE of neural spline flows: one block of two masked layers per entry of
    ``hidden``, all of one width.
    """

    def __init__(
        self,
        dim: int,
        hidden: Sequence[int],
        n_params: int,
        *,
        context_dim: int = 0,
        residual: bool = False,
        activation: Activation = "relu",
        dropout: float = 0.0,
        weight_norm: bool = False,
    ) -> None:
        super().__init__()
        if not hidden:
            raise ValueError("hidden is empty; MADE needs at least one hidden layer")
        lowest = 0 if context_dim or dim == 1 else 1
        inputs, linear = torch.arange(1, dim + 1), partial(MaskedLinear, weight_norm=weight_norm)
        degrees = [(torch.arange(width) % (dim - lowest) + lowest).sort().values for width in hidden]
        self.first = linear(inputs, degrees[0])
        self.context = nn.Linear(context_dim, hidden[0], bias=False) if context_dim else None
        if residual:
            one_width(hidden)
            pairs = [[linear(degrees[0], degrees[0]) for _ in range(2)] for _ in hidden]
            self.blocks = nn.ModuleList(residual_branch(*pair, activation, dropout) for pair in pairs)
        else:
            self.blocks = nn.ModuleList(
                nn.Sequential(activation_module(activation), nn.Dropout(dropout), linear(before, after))
                for before, after in pairwise(degrees)
            )
        self.activation = nn.Identity() if residual else activation_module(activation)
        self.last = linear(degrees[-1], (inputs - 1).repeat_interleave(n_params))
        self.dim, self.n_params, self.residual = dim, n_params, residual

    def forward(self, x: Tensor, context: Tensor | None = None, memory: Memory | None = None) -> Tensor:
        """All parameters; or with a ``memory`` those of its next element, (batch, n_params), from x[:, :i].

        The D calls with one memory make together what one call without makes, so that an inverse, which learns x
        element by element, costs about one pass and not D. Without gradients, and in evaluation mode.
        """
        if memory is not None:
            return self._element(x, context, memory)
        h = self.first(x)
        if self.context is not None:
            h = h + self.context(context)
        for block in self.blocks:
            h = h + block(h) if self.residual else block(h)
        return self.last(self.activation(h)).unflatten(-1, (self.dim, self.n_params))

    def memory(self, x: Tensor) -> Memory:
        return Memory(self, x)

    def _element(self, x: Tensor, context: Tensor | None, memory: Memory) -> Tensor:
        """The same steps for the units that become known with element i: those of degree i."""
        i = memory.element
        h = memory.through(self.first, x[:, max(i - 1, 0) : i])
        if self.context is not None:
            h = h + self.context(context)[:, slice(*_span(self.first.outputs_to, i))]
        for block in self.blocks:
            branch = h
            for module in block:
                branch = memory.through(module, branch) if isinstance(module, MaskedLinear) else module(branch)
            h = h + branch if self.residual else branch
        params = memory.through(self.last, self.activation(h))
        memory.element += 1
        return params


class Memory:
    """What MADE keeps from element to element: the inputs of each masked layer, as far as they are known."""

    def __init__(self, made: MADE, x: Tensor) -> None:
        self.element = 0
        layers = [layer for layer in made.modules() if isinstance(layer, MaskedLinear)]
        self.weights = {layer: layer.masked() for layer in layers}
        self.inputs = {layer: x.new_empty(len(x), layer.in_features) for layer in layers}

    def through(self, layer: MaskedLinear, new: Tensor) -> Tensor:
        """The outputs of the element's degree, from its inputs ``new`` of that degree and all before them."""
        first, last = _span(layer.inputs_to, self.element)
        known = self.inputs[layer]
        known[:, first:last] = new
        rows = slice(*_span(layer.outputs_to, self.element))
        return F.linear(known[:, :last], self.weights[layer][rows, :last], layer.bias[rows])


def _counts(degrees: Tensor) -> list[int]:
    """How many units are of degree 0 and below, of degree 1 and below, and so on to the highest."""
    return torch.bincount(degrees).cumsum(0).tolist()


def _span(counts: list[int], degree: int) -> tuple[int, int]:
    """The units of one degree: first and one past the last."""
    if degree >= len(counts):
        return counts[-1], counts[-1]
    return counts[degree - 1] if degree else 0, counts[degree]
