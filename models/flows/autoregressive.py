"""Autoregressive flows beyond MAF: onto a mixture, inverted, recurrent; and transformation autoregressive networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.autoregressive.mixture import AutoregressiveMixture, n_mixture_params
from models.base import StandardNormal
from models.flows.conditioner import MaskedAutoregressive
from models.flows.families import features, flow, maf_layers, repeat
from models.flows.linear import LULinear, Rescale, Reverse
from models.flows.univariate import AdditiveMap, AffineMap, Scale
from models.layer import ChainModel, Inverse, Layer, sum_rest
from models.nets.made import MADE
from models.nets.recurrent import Recurrent
from models.preprocessing import Squash
from models.registry import DataSpec, register


@register("maf-mog")
def maf_mog(
    spec: DataSpec,
    *,
    layers: int = 5,
    hidden: Sequence[int] = (100,),
    activation: str = "relu",
    scale: Scale = "exp",
    batch_norm: bool = True,
    components: int = 10,
    squash: Squash = "standardize",
) -> ChainModel:
    """MAF MoG: a masked autoregressive flow that ends in a MADE with mixtures of Gaussians (arXiv 1705.07057)."""
    dim = features(spec, "maf-mog")
    parts = maf_layers(spec, layers, hidden, activation, scale, batch_norm)
    made = MADE(dim, hidden, n_mixture_params(components), activation=activation, context_dim=spec.context_dim)
    return flow(spec, squash, parts, AutoregressiveMixture(made))


@register("iaf")
def iaf(
    spec: DataSpec,
    *,
    layers: int = 5,
    hidden: Sequence[int] = (100,),
    activation: str = "relu",
    scale: Scale = "sigmoid",
    squash: Squash = "standardize",
) -> ChainModel:
    """Inverse autoregressive flow: x_i = s(z_<i) z_i + t(z_<i) (Kingma et al. 2016, arXiv 1606.04934, eq. 13-14).

    Made for posteriors, whose samples are scored as they are drawn: sampling takes one pass per layer, while the
    density of given data goes element by element.
    """
    dim = features(spec, "iaf")

    def step(index: int) -> list[Layer]:
        made = MADE(dim, hidden, AffineMap.n_params, activation=activation, context_dim=spec.context_dim)
        return [Inverse(MaskedAutoregressive(AffineMap(scale), made)), Reverse()]

    return flow(spec, squash, repeat(step, layers), StandardNormal(spec.shape))


@register("recurrent-autoregressive")
def recurrent_autoregressive(
    spec: DataSpec,
    *,
    layers: int = 5,
    hidden: int = 64,
    scale: Scale = "tanh",
    squash: Squash = "standardize",
) -> ChainModel:
    """Affine maps whose parameters come from a GRU over the elements before, the order reversed between layers."""
    dim = features(spec, "recurrent-autoregressive")

    def step(index: int) -> list[Layer]:
        network = Recurrent(dim, AffineMap.n_params, hidden=hidden, context_dim=spec.context_dim)
        return [MaskedAutoregressive(AffineMap(scale), network), Reverse()]

    return flow(spec, squash, repeat(step, layers), StandardNormal(spec.shape))


class LeakyReLU(Layer):
    """z = x where x >= 0, else αx, with one α = σ(a) in (0, 1); starts at a = 5, nearly the identity (TAN's code)."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(5.0))

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return torch.where(x < 0, x * torch.sigmoid(self.a), x), self._log_det(x)

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return torch.where(z < 0, z / torch.sigmoid(self.a), z), self._log_det(z)

    def _log_det(self, x: Tensor) -> Tensor:
        return sum_rest((x < 0).to(x.dtype)) * F.logsigmoid(self.a)


@register("tan")
def tan(
    spec: DataSpec,
    *,
    blocks: int = 5,
    hidden: int = 256,
    components: int = 40,
    squash: Squash = "standardize",
) -> ChainModel:
    """Transformation autoregressive network (Oliva et al. 2018, arXiv 1801.09819), as its code runs on the tables.

    A linear layer and ``blocks`` of (leaky ReLU, rescaling, recurrent shift, reversal, linear layer), the last one cut
    after its rescaling; then a recurrent mixture of ``components`` Gaussians per element, whose GRU state goes through
    a projection and two hidden layers as wide as the mixture has parameters.
    """
    dim, n_params = features(spec, "tan"), n_mixture_params(components)

    def block(index: int) -> list[Layer]:
        start = [LeakyReLU(), Rescale(dim)]
        if index == blocks - 1:
            return start
        shift = Recurrent(dim, AdditiveMap.n_params, hidden=hidden, context_dim=spec.context_dim)
        return [*start, MaskedAutoregressive(AdditiveMap(), shift), Reverse(), LULinear(dim)]

    network = Recurrent(dim, n_params, hidden=hidden, head=[n_params] * 3, context_dim=spec.context_dim)
    return flow(spec, squash, [LULinear(dim), *repeat(block, blocks)], AutoregressiveMixture(network))
