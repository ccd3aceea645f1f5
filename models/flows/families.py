"""The classical normalizing flows: each is a univariate map times a conditioner, with linear layers between."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from models.base import StandardLogistic, StandardNormal
from models.flows.conditioner import Coupling, MaskedAutoregressive, Separate
from models.flows.linear import Linear, LULinear, PackedQR, PackedTriangular, Permutation, Rescale, Reverse
from models.flows.multiscale import glow_layers
from models.flows.normalization import ActNorm, BatchNorm
from models.flows.univariate import SPLINES, AdditiveMap, AffineMap, Scale
from models.layer import ChainModel, Layer, Model
from models.nets.made import MADE
from models.nets.mlp import MLP, ResidualMLP, one_width
from models.preprocessing import Squash, preprocessing
from models.registry import DataSpec, register

Networks = Literal["shared", "separate"]


def flow(spec: DataSpec, squash: Squash, layers: Iterable[Layer], base: nn.Module | None = None) -> ChainModel:
    """Pre-processing, the layers, a standard normal unless another base is given."""
    return ChainModel([*preprocessing(spec, squash=squash), *layers], base or StandardNormal(spec.shape))


def features(spec: DataSpec, family: str) -> int:
    if len(spec.shape) != 1:
        raise ValueError(f"{family} takes vectors, not data of shape {spec.shape}; for images there is glow")
    return spec.dim


def repeat(step: Callable[[int], list[Layer]], times: int) -> list[Layer]:
    return [layer for i in range(times) for layer in step(i)]


def alternating_mask(dim: int, index: int) -> Tensor:
    """True on the odd or even features, in turn."""
    if dim < 2:
        raise ValueError(f"a coupling takes vectors of two values or more, not of {dim}")
    return (torch.arange(dim) + index) % 2 == 0


def affine_coupling(
    spec: DataSpec, index: int, hidden: Sequence[int], activation: str, scale: Scale, networks: Networks
) -> Coupling:
    """The ``index``-th affine coupling over alternating features. With ``separate`` networks, log-scales come from one
    with tanh units and shifts from one with ``activation`` (the MAF paper's Real NVP)."""
    if networks not in ("shared", "separate"):
        raise ValueError(f"networks is {networks!r}; it takes shared or separate")
    mask = alternating_mask(spec.dim, index)
    moved = int(mask.sum())
    d_in = spec.dim - moved + spec.context_dim
    if networks == "shared":
        network: nn.Module = MLP(d_in, hidden, moved * AffineMap.n_params, activation)
    else:
        network = Separate(MLP(d_in, hidden, moved, units) for units in ("tanh", activation))
    return Coupling(AffineMap(scale), mask, network)


@register("gaussian")
def gaussian(spec: DataSpec, *, squash: Squash = "standardize") -> Model:
    """One full-covariance Gaussian, the floor of every table: z = LU x + b."""
    return flow(spec, squash, [LULinear(features(spec, "gaussian"))])


@register("linear")
def linear(
    spec: DataSpec, *, kind: Literal["permutation", "lu", "qr", "triangular"] = "lu", squash: Squash = "standardize"
) -> Model:
    """One linear layer z = W x + b and nothing else: a Gaussian, in the parameters that flows use between their layers.

    W is a fixed random ``permutation`` with a free scale per feature (a diagonal Gaussian), L U, Q R, or a lower
    ``triangular`` matrix (each a full Gaussian).
    """
    dim = features(spec, "linear")
    kinds: dict[str, Callable[[], list[Layer]]] = {
        "permutation": lambda: [Permutation(dim), ActNorm(dim)],
        "lu": lambda: [LULinear(dim)],
        "qr": lambda: [Linear(dim, PackedQR(dim))],
        "triangular": lambda: [Linear(dim, PackedTriangular(dim, upper=False))],
    }
    if kind not in kinds:
        raise ValueError(f"kind is {kind!r}; it takes {', '.join(kinds)}")
    return flow(spec, squash, kinds[kind]())


@register("nice")
def nice(
    spec: DataSpec,
    *,
    couplings: int = 4,
    hidden: Sequence[int] = (1000,) * 5,
    activation: str = "relu",
    prior: Literal["normal", "logistic"] = "normal",
    squash: Squash = "standardize",
) -> Model:
    """Additive couplings over alternating features, and one scale per feature at the end (Dinh et al. 2015,
    arXiv 1410.8516): volume-preserving but for that."""
    dim = features(spec, "nice")
    if prior not in ("normal", "logistic"):
        raise ValueError(f"prior is {prior!r}; it takes normal or logistic")

    def step(index: int) -> list[Layer]:
        mask = alternating_mask(dim, index)
        moved = int(mask.sum())
        return [Coupling(AdditiveMap(), mask, MLP(dim - moved + spec.context_dim, hidden, moved, activation))]

    base = StandardLogistic(spec.shape) if prior == "logistic" else StandardNormal(spec.shape)
    return flow(spec, squash, [*repeat(step, couplings), Rescale(dim)], base)


@register("realnvp")
def realnvp(
    spec: DataSpec,
    *,
    couplings: int = 6,
    hidden: Sequence[int] = (64, 64),
    activation: str = "relu",
    scale: Scale = "tanh",
    networks: Networks = "shared",
    batch_norm: bool = False,
    squash: Squash = "standardize",
) -> Model:
    """Affine couplings over alternating features (Dinh et al. 2017, arXiv 1605.08803).

    As the MAF paper runs it: ``separate`` networks, ``scale`` exp, ``batch_norm``.
    """
    dim = features(spec, "realnvp")

    def step(index: int) -> list[Layer]:
        coupling = affine_coupling(spec, index, hidden, activation, scale, networks)
        return [coupling, *([BatchNorm(dim)] if batch_norm else [])]

    return flow(spec, squash, repeat(step, couplings))


@register("glow-tabular")
def glow_tabular(
    spec: DataSpec,
    *,
    steps: int = 10,
    hidden: Sequence[int] = (100, 100),
    activation: str = "relu",
    scale: Scale = "sigmoid",
    networks: Networks = "separate",
    actnorm: bool = True,
    squash: Squash = "standardize",
) -> Model:
    """Glow's step on vectors: actnorm, a linear layer in place of the 1x1 convolution, an affine coupling (Kingma &
    Dhariwal 2018, arXiv 1807.03039; with FFJORD's networks, arXiv 1810.01367, and its depth)."""
    dim = features(spec, "glow-tabular")

    def step(index: int) -> list[Layer]:
        coupling = affine_coupling(spec, index, hidden, activation, scale, networks)
        return [*([ActNorm(dim)] if actnorm else []), LULinear(dim), coupling]

    return flow(spec, squash, repeat(step, steps))


def maf_layers(
    spec: DataSpec, layers: int, hidden: Sequence[int], activation: str, scale: Scale, batch_norm: bool
) -> list[Layer]:
    """``layers`` times (affine maps, batch normalisation, reversal)."""

    def step(index: int) -> list[Layer]:
        made = MADE(spec.dim, hidden, AffineMap.n_params, activation=activation, context_dim=spec.context_dim)
        between: list[Layer] = [BatchNorm(spec.dim)] if batch_norm else []
        return [MaskedAutoregressive(AffineMap(scale), made), *between, Reverse()]

    return repeat(step, layers)


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
    features(spec, "maf")
    return flow(spec, squash, maf_layers(spec, layers, hidden, activation, scale, batch_norm))


@register("nsf")
def nsf(
    spec: DataSpec,
    *,
    conditioner: Literal["coupling", "autoregressive"] = "autoregressive",
    spline: Literal["rq", "quadratic", "cubic"] = "rq",
    steps: int = 10,
    hidden: Sequence[int] = (256, 256),
    bins: int = 8,
    bound: float = 3.0,
    dropout: float = 0.0,
    squash: Squash = "standardize",
) -> Model:
    """Neural spline flow, RQ-NSF(C) or RQ-NSF(AR) and their comparisons (Durkan et al. 2019, arXiv 1906.04032).

    ``steps`` times (random permutation, LU-linear layer, splines) and a last linear layer; ``hidden`` has one
    width per residual block.
    """
    dim = features(spec, "nsf")
    if conditioner not in ("coupling", "autoregressive"):
        raise ValueError(f"conditioner is {conditioner!r}; it takes coupling or autoregressive")
    if spline not in SPLINES:
        raise ValueError(f"spline is {spline!r}; it takes {', '.join(SPLINES)}")

    def splines(index: int) -> Layer:
        if conditioner == "autoregressive":
            univariate = SPLINES[spline](bins, bound)
            made = MADE(dim, hidden, univariate.n_params, context_dim=spec.context_dim, residual=True, dropout=dropout)
            return MaskedAutoregressive(univariate, made)
        univariate = SPLINES[spline](bins, bound, logit_scale=one_width(hidden) ** -0.5)
        mask = alternating_mask(dim, index)
        moved = int(mask.sum())
        d_in = dim - moved + spec.context_dim
        network = ResidualMLP(d_in, hidden, moved * univariate.n_params, dropout=dropout)
        return Coupling(univariate, mask, network, unconditional=True)

    def step(index: int) -> list[Layer]:
        return [Permutation(dim), LULinear(dim), splines(index)]

    return flow(spec, squash, [*repeat(step, steps), Permutation(dim), LULinear(dim)])


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
        raise ValueError(f"glow takes images, not data of shape {spec.shape}; for vectors there is glow-tabular")
    layers, left = glow_layers(spec.shape, scales=scales, steps=steps, width=width, blocks=blocks, scale=scale)
    return ChainModel([*preprocessing(spec, squash=squash, alpha=alpha), *layers], StandardNormal(left))
