"""Conditioners: which elements the parameters of a univariate map may read. The other half of a flow.

An autoregressive or coupling flow is a ``Univariate`` times one of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from models.flows.univariate import Univariate
from models.layer import Layer, sum_rest


def condition(network: nn.Module, x: Tensor, context: Tensor | None) -> Tensor:
    """The output of a network that may or may not take a context."""
    return network(x) if context is None else network(x, context)


class Separate(nn.Module):
    """One network per parameter of a univariate map, as Real NVP has them: (batch, d) -> (batch, n * n_params)."""

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return torch.stack([condition(network, x, context) for network in self.networks], -1).flatten(1)


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
        out = condition(self.network, x_a, context)
        return out.unflatten(self.dim, (len(self.moved), self.univariate.n_params)).movedim(self.dim + 1, -1)

    def _free_params(self, x_a: Tensor) -> Tensor:
        after = x_a.dim() - self.dim - 1
        return self.free.view(-1, *[1] * after, self.univariate.n_params).expand(*x_a.shape, -1)


@torch.no_grad()
def one_by_one(
    network: nn.Module, like: Tensor, context: Tensor | None, element: Callable[[int, Tensor], Tensor]
) -> Tensor:
    """x shaped as ``like`` (batch, D) with x_i = element(i, params), params (batch, n_params) = network(x)[:, i].

    ``network`` remembers what it computed for the elements before, so that the D steps together cost about one pass.
    """
    x = torch.empty_like(like)
    memory = network.memory(x)
    for i in range(x.shape[1]):
        x[:, i] = element(i, network(x, context, memory))
    return x


class MaskedAutoregressive(Layer):
    """z_i = f(x_i; made(x)_i) with parameters that read x_1..x_{i-1} (Papamakarios et al. 2017, arXiv 1705.07057).

    ``made`` may be any autoregressive network (``models/nets``: masked, recurrent, causal attention). ``encode`` takes
    one pass of it, and so, element by element, does ``decode``, whose gradient is that of the implicit function: it
    costs two passes more, and is differentiable once.
    """

    ROUNDING = 8.0  # machine epsilons, relative

    def __init__(self, univariate: Univariate, made: nn.Module) -> None:
        super().__init__()
        self.univariate, self.made = univariate, made

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, contribution = self.univariate(x, condition(self.made, x, context))
        return z, sum_rest(contribution)

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        contributions = []

        def invert(i: int, params: Tensor) -> Tensor:
            x_i, contribution = self.univariate.inverse(z[:, i], params)
            contributions.append(contribution)
            return x_i

        x = one_by_one(self.made, z, context, invert)
        if not torch.is_grad_enabled():
            return x, torch.stack(contributions, 1).sum(1)
        x = self._with_gradient(x, z, context)
        return x, self.encode(x, context)[1]

    def _with_gradient(self, x: Tensor, z: Tensor, context: Tensor | None) -> Tensor:
        """x, whose differential is J⁻¹ (dz - df) with J = ∂z/∂x = diag(slope) + N, N strictly lower triangular.

        So v = J⁻ᵀ g for a gradient g of x solves v = (g - Nᵀ v) / slope: each round, one product with Nᵀ, makes one
        more entry exact, from the last to the first.
        """
        read = x.detach().requires_grad_()
        there, log_slope = self.univariate(x, condition(self.made, read, context))
        slope = log_slope.detach().exp()
        tolerance = self.ROUNDING * torch.finfo(x.dtype).eps

        def solve(gradient: Tensor) -> Tensor:
            if torch.is_grad_enabled():
                raise RuntimeError("the inverse of an autoregressive layer is differentiable once")
            v = gradient / slope
            for _ in range(x.shape[1] - 1):
                (coupled,) = torch.autograd.grad(there, read, v, retain_graph=True)
                old, v = v, (gradient - coupled) / slope
                if bool(((v - old).abs() <= tolerance * v.abs()).all()):
                    break
                # Unfinished entries may overflow; masked weights are zeros, and 0 * inf would spoil the finished ones.
                v = torch.nan_to_num(v, nan=0.0, posinf=0.0, neginf=0.0)
            return v

        gap = z - there
        gap = gap - gap.detach()  # exactly zero
        if gap.requires_grad:
            gap.register_hook(solve)
        return x + gap
