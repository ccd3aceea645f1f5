"""Conditioners: which elements the parameters of a univariate map may read. The other half of a flow.

An autoregressive or coupling flow is a ``Univariate`` times one of these.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.flows.univariate import Univariate
from models.layer import Layer, sum_rest
from models.nets.made import MADE


def _condition(network: nn.Module, x: Tensor, context: Tensor | None) -> Tensor:
    return network(x) if context is None else network(x, context)


class Coupling(Layer):
    """z_B = f(x_B; network(x_A)), z_A = x_A (Dinh et al. 2017, arXiv 1605.08803, eq. 4-5).

    ``mask`` (n,) is True on the transformed elements B along dimension ``dim``: the features of a vector,
    the channels of an image. ``network`` maps the part A, (and a context, as its second argument) to
    |B| * n_params entries along ``dim``, grouped by element. With ``unconditional`` the elements of A get a
    map of their own, with free parameters, as in RQ-NSF(C) (Durkan et al. 2019, arXiv 1906.04032).
    """

    def __init__(
        self, univariate: Univariate, mask: Tensor, network: nn.Module, *, dim: int = 1, unconditional: bool = False
    ) -> None:
        super().__init__()
        mask = torch.as_tensor(mask, dtype=torch.bool)
        if mask.dim() != 1 or mask.all() or not mask.any():
            raise ValueError(f"a coupling's mask is one row with both True and False in it, not {mask.tolist()}")
        if dim < 1:
            raise ValueError(f"a coupling's dim is {dim}; it counts from the front, and 0 is the batch")
        self.univariate, self.network, self.dim = univariate, network, dim
        kept, moved = (~mask).nonzero()[:, 0], mask.nonzero()[:, 0]
        self.register_buffer("kept", kept, persistent=False)
        self.register_buffer("moved", moved, persistent=False)
        self.register_buffer("order", torch.cat([kept, moved]).argsort(), persistent=False)
        self.free = nn.Parameter(1e-2 * torch.randn(len(kept), univariate.n_params)) if unconditional else None

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x_a, x_b = self._split(x)
        params = self._params(x_a, context)
        if self.free is None:
            z_b, contribution = self.univariate(x_b, params)
            return self._join(x_a, z_b), sum_rest(contribution)
        both = torch.cat([self._free_params(x_a), params], self.dim)
        z, contribution = self.univariate(torch.cat([x_a, x_b], self.dim), both)
        return z.index_select(self.dim, self.order), sum_rest(contribution)

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x_a, z_b = self._split(z)
        total: Tensor | float = 0.0
        if self.free is not None:
            x_a, contribution = self.univariate.inverse(x_a, self._free_params(x_a))
            total = sum_rest(contribution)
        x_b, contribution = self.univariate.inverse(z_b, self._params(x_a, context))
        return self._join(x_a, x_b), total + sum_rest(contribution)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.index_select(self.dim, self.kept), x.index_select(self.dim, self.moved)

    def _join(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([a, b], self.dim).index_select(self.dim, self.order)

    def _params(self, x_a: Tensor, context: Tensor | None) -> Tensor:
        out = _condition(self.network, x_a, context)
        return out.unflatten(self.dim, (len(self.moved), self.univariate.n_params)).movedim(self.dim + 1, -1)

    def _free_params(self, x_a: Tensor) -> Tensor:
        after = x_a.dim() - self.dim - 1
        return self.free.view(-1, *[1] * after, self.univariate.n_params).expand(*x_a.shape, -1)


class MaskedAutoregressive(Layer):
    """z_i = f(x_i; made(x)_i) with parameters that read x_1..x_{i-1} (Papamakarios et al. 2017, arXiv 1705.07057).

    ``encode`` takes one pass of the network. ``decode`` solves x = f^{-1}(z; made(x)) by Jacobi iteration:
    pass k makes x_k exact whatever the rest, so D passes are exact, and it stops earlier once a pass changes
    nothing beyond rounding. With gradients enabled it makes all D passes, for the derivative converges later.
    """

    ROUNDING = 8.0  # machine epsilons, relative
    LARGEST = 1e10  # of a guess: masked weights are zeros, and 0 * inf would spoil the elements already exact

    def __init__(self, univariate: Univariate, made: MADE) -> None:
        super().__init__()
        self.univariate, self.made = univariate, made

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, contribution = self.univariate(x, _condition(self.made, x, context))
        return z, sum_rest(contribution)

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        tolerance = self.ROUNDING * torch.finfo(z.dtype).eps
        guess = torch.zeros_like(z)
        for _ in range(z.shape[-1]):
            x, contribution = self.univariate.inverse(z, _condition(self.made, guess, context))
            if not torch.is_grad_enabled() and bool(((x - guess).abs() <= tolerance * (1 + x.abs())).all()):
                break
            guess = torch.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0).clamp(-self.LARGEST, self.LARGEST)
        return x, sum_rest(contribution)
