"""MADE (Germain et al. 2015, arXiv 1502.03509): a network whose i-th output reads inputs 1..i-1 only."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.nets.mlp import Activation, activation_module, one_width, residual_branch


class MaskedLinear(nn.Linear):
    """A linear layer with a fixed 0/1 mask on its weights; mask (d_out, d_in)."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask.to(self.weight.dtype), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.mask, self.bias)


class MADE(nn.Module):
    """Parameters of D one-dimensional conditionals: x (batch, D) -> (batch, D, n_params); [:, i] reads x[:, :i].

    Unit k of a hidden layer has the degree (k mod (D-1)) + 1 and reads units of at most its degree; output i
    (counted from 1) reads units of degree below i (Germain et al. 2015, eq. 12-13). With a context there are
    units of degree 0 too, which read it alone: without them p(x_1 | context) could not depend on the context.

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
    ) -> None:
        super().__init__()
        if not hidden:
            raise ValueError("hidden is empty; MADE needs at least one hidden layer")
        lowest = 0 if context_dim or dim == 1 else 1
        inputs = torch.arange(1, dim + 1)
        degrees = [torch.arange(width) % (dim - lowest) + lowest for width in hidden]
        self.first = MaskedLinear(degrees[0][:, None] >= inputs)
        self.context = nn.Linear(context_dim, hidden[0], bias=False) if context_dim else None
        if residual:
            one_width(hidden)
            inner = degrees[0][:, None] >= degrees[0]
            self.blocks = nn.ModuleList(
                residual_branch(MaskedLinear(inner), MaskedLinear(inner), activation, dropout) for _ in hidden
            )
        else:
            self.blocks = nn.ModuleList(
                nn.Sequential(
                    activation_module(activation), nn.Dropout(dropout), MaskedLinear(after[:, None] >= before)
                )
                for before, after in zip(degrees[:-1], degrees[1:], strict=True)
            )
        self.activation = nn.Identity() if residual else activation_module(activation)
        self.last = MaskedLinear(inputs.repeat_interleave(n_params)[:, None] > degrees[-1])
        self.dim, self.n_params, self.residual = dim, n_params, residual

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        h = self.first(x)
        if self.context is not None:
            h = h + self.context(context)
        for block in self.blocks:
            h = h + block(h) if self.residual else block(h)
        return self.last(self.activation(h)).unflatten(-1, (self.dim, self.n_params))
