"""Multilayer perceptrons, plain and residual. With a context, ``d_in`` counts it: it is appended to the input."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
}

Activation = str | Callable[[], nn.Module]


def activation_module(activation: Activation) -> nn.Module:
    """An activation by its name in a recipe, or by its class."""
    if not isinstance(activation, str):
        return activation()
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}; it takes {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[activation]()


def append_context(x: Tensor, context: Tensor | None) -> Tensor:
    return x if context is None else torch.cat([x, context], -1)


class MLP(nn.Module):
    """Linear layers with an activation between: (..., d_in) -> (..., d_out)."""

    def __init__(self, d_in: int, hidden: Sequence[int], d_out: int, activation: Activation = "relu") -> None:
        super().__init__()
        widths = [d_in, *hidden]
        layers: list[nn.Module] = []
        for narrow, wide in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Linear(narrow, wide), activation_module(activation)]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], d_out))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.layers(append_context(x, context))


class ResidualMLP(nn.Module):
    """Pre-activation residual blocks, one per entry of ``hidden`` (all of one width): (..., d_in) -> (..., d_out).

    A block is h + W2 drop(act(W1 act(h))), with W2 small at first so that a block starts near the identity.
    """

    def __init__(
        self, d_in: int, hidden: Sequence[int], d_out: int, activation: Activation = "relu", dropout: float = 0.0
    ) -> None:
        super().__init__()
        width = one_width(hidden)
        self.first = nn.Linear(d_in, width)
        self.blocks = nn.ModuleList(
            residual_branch(nn.Linear(width, width), nn.Linear(width, width), activation, dropout) for _ in hidden
        )
        self.last = nn.Linear(width, d_out)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        h = self.first(append_context(x, context))
        for block in self.blocks:
            h = h + block(h)
        return self.last(h)


def one_width(hidden: Sequence[int]) -> int:
    if len(set(hidden)) != 1:
        raise ValueError(f"hidden is {list(hidden)}; a residual network takes one width per block, all equal")
    return hidden[0]


def check_dropout(share: float) -> None:
    if not 0 <= share < 1:
        raise ValueError(f"dropout is {share}; it takes a share from 0 up to, not including, 1")


def residual_branch(first: nn.Linear, second: nn.Linear, activation: Activation, dropout: float) -> nn.Sequential:
    """The branch of a pre-activation residual block; its last layer starts small."""
    check_dropout(dropout)
    nn.init.uniform_(second.weight, -1e-3, 1e-3)
    nn.init.uniform_(second.bias, -1e-3, 1e-3)
    return nn.Sequential(
        activation_module(activation), first, activation_module(activation), nn.Dropout(dropout), second
    )
