"""The classical normalizing flows: each is a univariate map times a conditioner, with linear layers between."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Literal

import torch
from torch import Tensor

from models.base import StandardNormal
from models.flows.conditioner import Coupling, MaskedAutoregressive
from models.flows.linear import LULinear, Permutation, Reverse
from models.flows.multiscale import glow_layers
from models.flows.normalization import BatchNorm
from models.flows.univariate import AffineMap, RationalQuadraticSpline, Scale
from models.layer import ChainModel, Layer, Model
from models.nets.made import MADE
from models.nets.mlp import MLP, ResidualMLP
from models.preprocessing import Squash, preprocessing
from models.registry import DataSpec, register


def _flow(spec: DataSpec, squash: Squash, layers: Iterable[Layer]) -> Model:
    """Pre-processing, the layers, a standard normal."""
    return ChainModel([*preprocessing(spec, squash=squash), *layers], StandardNormal(spec.shape))


def _features(spec: DataSpec, family: str) -> int:
    if len(spec.shape) != 1:
        raise ValueError(f"{family} takes vectors, not data of shape {spec.shape}; for images there is glow")
    return spec.dim


def _repeat(step: Callable[[int], list[Layer]], times: int) -> Iterable[Layer]:
    return chain.from_iterable(step(i) for i in range(times))


def alternating_mask(dim: int, index: int) -> Tensor:
    """True on the odd or even features, in turn."""
    return (torch.arange(dim) + index) % 2 == 0


@register("gaussian")
def gaussian(spec: DataSpec, *, squash: Squash = "standardize") -> Model:
    """One full-covariance Gaussian, the floor of every table: z = LU x + b."""
    return _flow(spec, squash, [LULinear(_features(spec, "gaussian"))])


@register("realnvp")
def realnvp(
    spec: DataSpec,
    *,
    couplings: int = 6,
    hidden: Sequence[int] = (64, 64),
    activation: str = "relu",
    scale: Scale = "tanh",
    batch_norm: bool = False,
    squash: Squash = "standardize",
) -> Model:
    """Affine couplings over alternating features (Dinh et al. 2017, arXiv 1605.08803)."""
    dim = _features(spec, "realnvp")

    def step(index: int) -> list[Layer]:
        mask = alternating_mask(dim, index)
        moved = int(mask.sum())
        network = MLP(dim - moved, hidden, moved * AffineMap.n_params, activation)
        return [Coupling(AffineMap(scale), mask, network), *([BatchNorm(dim)] if batch_norm else [])]

    return _flow(spec, squash, _repeat(step, couplings))


@register("maf")
def maf(
    spec: DataSpec,
    *,
    layers: int = 5,
    hidden: Sequence[int] = (100,),
    activation: str = "relu",
    scale: Scale = "exp",
    batch_norm: bool = True,
    squash: Squash = "standardize",
) -> Model:
    """Masked autoregressive flow: affine maps, the order reversed from layer to layer (arXiv 1705.07057)."""
    dim = _features(spec, "maf")

    def step(index: int) -> list[Layer]:
        made = MADE(dim, hidden, AffineMap.n_params, activation=activation)
        between: list[Layer] = [BatchNorm(dim)] if batch_norm else []
        return [MaskedAutoregressive(AffineMap(scale), made), *between, Reverse()]

    return _flow(spec, squash, _repeat(step, layers))


@register("nsf")
def nsf(
    spec: DataSpec,
    *,
    conditioner: Literal["coupling", "autoregressive"] = "autoregressive",
    steps: int = 10,
    hidden: Sequence[int] = (256, 256),
    bins: int = 8,
    bound: float = 3.0,
    dropout: float = 0.0,
    squash: Squash = "standardize",
) -> Model:
    """Rational-quadratic neural spline flow, RQ-NSF(C) or RQ-NSF(AR) (Durkan et al. 2019, arXiv 1906.04032).

    ``steps`` times (random permutation, LU-linear layer, splines) and a last linear layer; ``hidden`` has one
    width per residual block.
    """
    dim = _features(spec, "nsf")
    if conditioner not in ("coupling", "autoregressive"):
        raise ValueError(f"conditioner is {conditioner!r}; it takes coupling or autoregressive")

    def splines(index: int) -> Layer:
        if conditioner == "autoregressive":
            spline = RationalQuadraticSpline(bins, bound)
            return MaskedAutoregressive(spline, MADE(dim, hidden, spline.n_params, residual=True, dropout=dropout))
        spline = RationalQuadraticSpline(bins, bound, logit_scale=hidden[0] ** -0.5)
        mask = alternating_mask(dim, index)
        moved = int(mask.sum())
        network = ResidualMLP(dim - moved, hidden, moved * spline.n_params, dropout=dropout)
        return Coupling(spline, mask, network, unconditional=True)

    def step(index: int) -> list[Layer]:
        return [Permutation(dim), LULinear(dim), splines(index)]

    return _flow(spec, squash, [*_repeat(step, steps), Permutation(dim), LULinear(dim)])


@register("glow")
def glow(
    spec: DataSpec,
    *,
    scales: int = 2,
    steps: int = 4,
    width: int = 32,
    blocks: int = 1,
    scale: Scale = "tanh",
    squash: Squash = "logit",
    alpha: float = 1e-6,
) -> Model:
    """Multi-scale Glow for images (Kingma & Dhariwal 2018, arXiv 1807.03039)."""
    if len(spec.shape) != 3:
        raise ValueError(f"glow takes images, not data of shape {spec.shape}; for vectors there is realnvp")
    layers, left = glow_layers(spec.shape, scales=scales, steps=steps, width=width, blocks=blocks, scale=scale)
    return ChainModel([*preprocessing(spec, squash=squash, alpha=alpha), *layers], StandardNormal(left))
