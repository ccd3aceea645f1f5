"""Block neural autoregressive flow (De Cao et al. 2019, arXiv 1904.04676): one network that is itself the flow."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.base import StandardNormal
from models.flows.linear import Reverse
from models.flows.univariate.newton import invert_increasing
from models.layer import ChainModel, Layer, sum_rest
from models.preprocessing import Squash, preprocessing
from models.registry import DataSpec, register

Weights = tuple[Tensor, Tensor, Tensor]


class BlockLinear(nn.Module):
    """y = W x + b, W of D x D blocks (d_out, d_in): zero above the diagonal, positive on it, free below.

    The diagonal blocks are exponentials; then every row is divided by its norm and multiplied by a scale of its
    own (weight normalisation).
    """

    def __init__(self, dim: int, d_in: int, d_out: int) -> None:
        super().__init__()
        self.dim, self.d_in, self.d_out = dim, d_in, d_out
        row, column = torch.arange(dim).repeat_interleave(d_out)[:, None], torch.arange(dim).repeat_interleave(d_in)
        self.register_buffer("diagonal", row == column, persistent=False)
        self.register_buffer("below", row > column, persistent=False)
        xavier = torch.sqrt(6 / ((row + 1) * d_in + d_out))
        self.weight = nn.Parameter(xavier * (2 * torch.rand(dim * d_out, dim * d_in) - 1))
        self.log_scale = nn.Parameter(-torch.empty(dim * d_out, 1).exponential_())  # the log of a uniform number
        self.bias = nn.Parameter((2 * torch.rand(dim * d_out) - 1) / math.sqrt(dim * d_out))

    def weights(self) -> Weights:
        """W (D d_out, D d_in), b, and the logarithms of the diagonal blocks, (D, d_out, d_in)."""
        zero = self.weight.new_zeros(())
        log_diagonal = torch.where(self.diagonal, self.weight, zero)  # else exp could overflow off the diagonal
        raw = torch.where(self.diagonal, log_diagonal.exp(), torch.where(self.below, self.weight, zero))
        log_scale = self.log_scale - torch.linalg.vector_norm(raw, dim=1, keepdim=True).log()
        blocks = self.weight.view(self.dim, self.d_out, self.dim, self.d_in).diagonal(dim1=0, dim2=2).movedim(-1, 0)
        return raw * log_scale.exp(), self.bias, blocks + log_scale.view(self.dim, self.d_out, 1)


def log_matmul(log_a: Tensor, log_b: Tensor) -> Tensor:
    """log(exp(log_a) exp(log_b)) of batches of matrices: a log-sum-exp that is one matrix product."""
    top_a, top_b = log_a.amax(-1, keepdim=True).detach(), log_b.amax(-2, keepdim=True).detach()
    product = torch.exp(log_a - top_a) @ torch.exp(log_b - top_b)
    return product.clamp_min(torch.finfo(product.dtype).tiny).log() + top_a + top_b


def log_tanh_slope(x: Tensor) -> Tensor:
    """log tanh'(x) = 2 (log 2 - |x| - softplus(-2|x|)), for any x."""
    size = x.abs()
    return 2 * (math.log(2) - size - F.softplus(-2 * size))


class BlockNAF(Layer):
    """z = (1 - α) x + α f(x), α = σ(gate), f of ``len(hidden)`` tanh layers between ``BlockLinear`` ones (section 3).

    ``hidden`` counts units per dimension. f_i reads x_1..x_i and increases in x_i, and log ∂f_i/∂x_i is carried
    along as the product of the diagonal blocks, in logarithms. Without ``gated`` z = f(x), which is
    bounded, as tanh is: then z cannot be everywhere, ``decode`` raises ArithmeticError outside of f's range, and
    the mass that the base density has there is lost (the density of x integrates to less than one).
    """

    def __init__(self, dim: int, hidden: list[int], *, gated: bool = True) -> None:
        super().__init__()
        if not hidden or min(hidden) < 1:
            raise ValueError(f"hidden is {hidden}; it takes one or more layers of at least one unit per dimension")
        self.dim = dim
        self.linears = nn.ModuleList(BlockLinear(dim, a, b) for a, b in pairwise([1, *hidden, 1]))
        self.gate = nn.Parameter(torch.randn(())) if gated else None

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        *inner, (last, bias, log_last) = [linear.weights() for linear in self.linears]
        h, log_slope = x, x.new_zeros(self.dim, len(x), 1)  # slopes: (D, batch, units of this dimension)
        for weight, b, log_diagonal in inner:
            a = F.linear(h, weight, b)
            log_here = log_tanh_slope(a).unflatten(-1, (self.dim, -1)).movedim(1, 0)
            h, log_slope = torch.tanh(a), log_matmul(log_slope, log_diagonal.mT) + log_here
        log_slope = log_matmul(log_slope, log_last.mT)[..., 0].T
        z, log_slope = self._through_gate(x, F.linear(h, last, bias), log_slope)
        return z, sum_rest(log_slope)

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Dimension by dimension: given the units of x_1..x_{i-1}, z_i is a small network of x_i alone."""
        weights = [linear.weights() for linear in self.linears]
        read = [z.new_empty(len(z), 0) for _ in weights]  # what each linear layer has read so far
        found = []
        for i in range(self.dim):
            column = self._column(i, weights, read)
            found.append(invert_increasing(lambda t, column=column: column(t)[:2], z[:, i])[0])
            read = [torch.cat([old, new], 1) for old, new in zip(read, column(found[-1])[2], strict=True)]
        x = torch.stack(found, 1)
        return x, self.encode(x)[1]

    def _column(
        self, i: int, weights: list[Weights], read: list[Tensor]
    ) -> Callable[[Tensor], tuple[Tensor, Tensor, list[Tensor]]]:
        """x_i (batch,) -> (z_i, log dz_i/dx_i, the units of dimension i at the entrance of every linear layer)."""
        parts = []
        for linear, (weight, bias, _), past in zip(self.linears, weights, read, strict=True):
            rows, before = slice(i * linear.d_out, (i + 1) * linear.d_out), i * linear.d_in
            own = weight[rows, before : before + linear.d_in]
            parts.append((own, F.linear(past, weight[rows, :before], bias[rows])))

        def column(t: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
            units, slope = [t[:, None]], torch.ones_like(t)[:, None]
            for own, offset in parts[:-1]:
                units.append(torch.tanh(F.linear(units[-1], own) + offset))
                slope = F.linear(slope, own) * (1 - units[-1] ** 2)
            own, offset = parts[-1]
            f, log_slope = F.linear(units[-1], own) + offset, F.linear(slope, own).log()
            return *self._through_gate(t, f[:, 0], log_slope[:, 0]), units

        return column

    def _through_gate(self, x: Tensor, f: Tensor, log_slope: Tensor) -> tuple[Tensor, Tensor]:
        if self.gate is None:
            return f, log_slope
        log_share, log_rest = F.logsigmoid(self.gate), F.logsigmoid(-self.gate)
        return log_rest.exp() * x + log_share.exp() * f, torch.logaddexp(log_rest, log_share + log_slope)


@register("block-naf")
def block_naf(
    spec: DataSpec,
    *,
    flows: int = 5,
    layers: int = 2,
    hidden: int = 20,
    gate_last: bool = True,
    squash: Squash = "standardize",
) -> ChainModel:
    """Block-NAF (arXiv 1904.04676): ``flows`` networks of ``layers`` tanh layers with ``hidden`` units per dimension.

    The order is reversed between flows. The authors' code leaves out the gate of the last flow
    (``gate_last=False``), which then is no bijection of the whole space; see ``BlockNAF``.
    """
    if len(spec.shape) != 1:
        raise ValueError(f"block-naf takes vectors, not data of shape {spec.shape}")
    if flows < 1 or layers < 1:
        raise ValueError(f"flows is {flows} and layers is {layers}; block-naf takes at least one of each")
    steps: list[Layer] = []
    for index in range(flows):
        last = index == flows - 1
        steps += [BlockNAF(spec.dim, [hidden] * layers, gated=gate_last or not last), *([] if last else [Reverse()])]
    return ChainModel([*preprocessing(spec, squash=squash), *steps], StandardNormal(spec.shape))
