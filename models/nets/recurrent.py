"""A recurrent network that reads x element by element: like MADE, its i-th output depends on x_1..x_{i-1} only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.nets.mlp import MLP, Activation

START = -1.0  # what stands before x_1 (TAN's code)


@dataclass
class Memory:
    """The state after the elements read so far."""

    state: Tensor | None = None
    element: int = 0


class Recurrent(nn.Module):
    """Parameters of D one-dimensional conditionals: x (batch, D) -> (batch, D, n_params); [:, i] reads x[:, :i].

    A GRU of ``hidden`` units and ``layers`` layers runs over (-1, x_1, ..., x_{D-1}) (the recurrent conditionals of
    Oliva et al. 2018, arXiv 1801.09819, section 2.2); an MLP with the hidden layers ``head``, shared by all elements,
    maps its state to parameters. A context is read with every element.
    """

    def __init__(
        self,
        dim: int,
        n_params: int,
        *,
        hidden: int = 256,
        layers: int = 1,
        head: Sequence[int] = (),
        activation: Activation = "relu",
        context_dim: int = 0,
    ) -> None:
        super().__init__()
        self.dim, self.n_params = dim, n_params
        self.gru = nn.GRU(1 + context_dim, hidden, layers, batch_first=True)
        self.head = MLP(hidden, head, n_params, activation)

    @property
    def last(self) -> nn.Linear:
        return self.head.layers[-1]

    def forward(self, x: Tensor, context: Tensor | None = None, memory: Memory | None = None) -> Tensor:
        """All parameters; or with a ``memory`` those of its next element, (batch, n_params), from x[:, :i]."""
        if memory is not None:
            return self._element(x, context, memory)
        state, _ = self.gru(_with_context(shifted(x, START)[..., None], context))
        return self.head(state)

    def memory(self, x: Tensor) -> Memory:
        return Memory()

    def _element(self, x: Tensor, context: Tensor | None, memory: Memory) -> Tensor:
        before = previous(x, memory.element, START)[:, None, None]
        state, memory.state = self.gru(_with_context(before, context), memory.state)
        memory.element += 1
        return self.head(state[:, 0])


def shifted(x: Tensor, start: float) -> Tensor:
    """(start, x_1, ..., x_{D-1})."""
    return torch.cat([x.new_full((len(x), 1), start), x[:, :-1]], 1)


def previous(x: Tensor, element: int, start: float) -> Tensor:
    """x_{element-1}, or the start."""
    return x[:, element - 1] if element else x.new_full((len(x),), start)


def _with_context(sequence: Tensor, context: Tensor | None) -> Tensor:
    """(batch, D, 1) -> (batch, D, 1 + context)."""
    if context is None:
        return sequence
    return torch.cat([sequence, context[:, None].expand(-1, sequence.shape[1], -1)], -1)
