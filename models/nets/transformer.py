"""A causal Transformer over the elements of x: like MADE, its i-th output depends on x_1..x_{i-1} only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.nets.mlp import Activation, activation_module, check_dropout
from models.nets.recurrent import START, previous, shifted

Position = Literal["learned", "recurrent"]
Past = tuple[Tensor, Tensor]


@dataclass
class Memory:
    """Keys and values of every block, and the recurrent position's state, after the elements read so far."""

    pasts: list[Past | None]
    state: Tensor | None = None
    element: int = 0


class Block(nn.Module):
    """Causal self-attention of several heads and a two-layer perceptron, each behind a layer norm and beside a
    skip connection: (batch, D, width) -> (batch, D, width)."""

    def __init__(self, width: int, heads: int, hidden: int, activation: Activation, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.before_attention, self.before_perceptron = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(
            nn.Linear(width, hidden), activation_module(activation), nn.Dropout(dropout), nn.Linear(hidden, width)
        )

    def forward(self, h: Tensor) -> Tensor:
        return self._finish(h, self._attend(*self._split(h), causal=True))

    def step(self, h: Tensor, past: Past | None) -> tuple[Tensor, Past]:
        """The same for the next element alone, h (batch, 1, width), which sees the past and itself."""
        query, key, value = self._split(h)
        if past is not None:
            key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
        return self._finish(h, self._attend(query, key, value, causal=False)), (key, value)

    def _split(self, h: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values, each (batch, heads, elements, width / heads)."""
        joint = self.queries_keys_values(self.before_attention(h))
        return joint.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor:
        share = self.dropout if self.training else 0.0
        heads = F.scaled_dot_product_attention(query, key, value, is_causal=causal, dropout_p=share)
        return self.out(heads.transpose(1, 2).flatten(2))

    def _finish(self, h: Tensor, attended: Tensor) -> Tensor:
        h = h + F.dropout(attended, self.dropout, self.training)
        branch = self.perceptron(self.before_perceptron(h))
        return h + F.dropout(branch, self.dropout, self.training)


class CausalTransformer(nn.Module):
    """Parameters of D one-dimensional conditionals: x (batch, D) -> (batch, D, n_params); [:, i] reads x[:, :i].

    The tokens (-1, x_1, ..., x_{D-1}) are mapped linearly to ``width`` and go through ``layers`` blocks of causal
    self-attention (Vaswani et al. 2017, arXiv 1706.03762) with ``heads`` heads and perceptrons of ``hidden`` units.
    ``position`` "learned" adds one vector per element; "recurrent" lets a GRU over the tokens embed them, its state
    telling where they stand (TraDE, arXiv 2004.02441). A context is added, linearly, to every token.
    """

    def __init__(
        self,
        dim: int,
        n_params: int,
        *,
        width: int = 128,
        heads: int = 4,
        layers: int = 3,
        hidden: int | None = None,
        activation: Activation = "relu",
        dropout: float = 0.0,
        position: Position = "learned",
        context_dim: int = 0,
    ) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"width is {width} and heads {heads}; the heads share the width equally")
        if position not in ("learned", "recurrent"):
            raise ValueError(f"position is {position!r}; it takes learned or recurrent")
        check_dropout(dropout)
        self.dim, self.n_params = dim, n_params
        self.learned = nn.Parameter(0.02 * torch.randn(dim, width)) if position == "learned" else None
        self.first = nn.Linear(1, width) if position == "learned" else nn.GRU(1, width, batch_first=True)
        self.context = nn.Linear(context_dim, width, bias=False) if context_dim else None
        self.blocks = nn.ModuleList(Block(width, heads, hidden or width, activation, dropout) for _ in range(layers))
        self.norm, self.last = nn.LayerNorm(width), nn.Linear(width, n_params)

    def forward(self, x: Tensor, context: Tensor | None = None, memory: Memory | None = None) -> Tensor:
        """All parameters; or with a ``memory`` those of its next element, (batch, n_params), from x[:, :i]."""
        if memory is not None:
            return self._element(x, context, memory)
        h, _ = self._embed(shifted(x, START), context, slice(None), None)
        for block in self.blocks:
            h = block(h)
        return self.last(self.norm(h))

    def memory(self, x: Tensor) -> Memory:
        return Memory([None] * len(self.blocks))

    def _element(self, x: Tensor, context: Tensor | None, memory: Memory) -> Tensor:
        i = memory.element
        h, memory.state = self._embed(previous(x, i, START)[:, None], context, slice(i, i + 1), memory.state)
        for index, block in enumerate(self.blocks):
            h, memory.pasts[index] = block.step(h, memory.pasts[index])
        memory.element += 1
        return self.last(self.norm(h[:, 0]))

    def _embed(
        self, tokens: Tensor, context: Tensor | None, where: slice, state: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        if self.learned is None:
            h, state = self.first(tokens[..., None], state)
        else:
            h = self.first(tokens[..., None]) + self.learned[where]
        return h if self.context is None else h + self.context(context)[:, None], state
