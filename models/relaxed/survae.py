"""SurVAE flows (Nielsen et al. 2020, arXiv 2007.02731): the symmetry of the data as a surjection, then a flow.

Each family is a surjection, the bijection from its image to the whole space (without which the density would
integrate to less than one), and the affine couplings of the baseline. Neither of the first two has parameters,
so a flow with the symmetry and the baseline without it have equally many.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch

from models.base import StandardNormal, Uniform
from models.flows.conditioner import Coupling
from models.flows.linear import Reverse
from models.flows.multiscale import Squeeze, glow_step
from models.flows.univariate import AffineMap, Scale
from models.layer import ChainModel, Layer, Model
from models.nets.mlp import MLP
from models.preprocessing import Squash, Standardize, preprocessing
from models.registry import DataSpec, register
from models.relaxed.surjections import Abs, HalfLine, Increments, MaxPool2d, SignedAbs, Slice, Sort


def _affine_coupling(dim: int, hidden: Sequence[int]) -> Layer:
    """The second half moves. e^5 is as good as unbounded for a scale, but far from the data e^a would overflow."""
    moved = torch.arange(dim) >= dim // 2
    network = MLP(dim // 2, hidden, (dim - dim // 2) * AffineMap.n_params)
    return Coupling(AffineMap("tanh", bound=5.0), moved, network)


def _flow(spec: DataSpec, symmetry: Iterable[Layer], couplings: int, hidden: Sequence[int]) -> Model:
    """The symmetry, then ``couplings`` times (affine coupling, reverse), a standard normal.

    The data enter as they are: moving them by their empirical mean would break the symmetry about the axes.
    """
    if len(spec.shape) != 1 or spec.dim < 2:
        raise ValueError(f"this SurVAE flow takes vectors of two values or more, not data of shape {spec.shape}")
    steps = [layer for _ in range(couplings) for layer in (_affine_coupling(spec.dim, hidden), Reverse())]
    return ChainModel([*preprocessing(spec, squash="none"), *symmetry, *steps], StandardNormal(spec.shape))


@register("survae-baseline")
def survae_baseline(spec: DataSpec, *, couplings: int = 4, hidden: Sequence[int] = (200, 100)) -> Model:
    """The same couplings without a surjection: 82,808 parameters in two dimensions."""
    return _flow(spec, [], couplings, hidden)


@register("abs-flow")
def abs_flow(spec: DataSpec, *, couplings: int = 4, hidden: Sequence[int] = (200, 100), bound: float = 4.0) -> Model:
    """AbsFlow for densities even in every coordinate: |x|, logit of |x| / bound, the couplings."""
    return _flow(spec, [Abs(), HalfLine(bound)], couplings, hidden)


@register("sort-flow")
def sort_flow(spec: DataSpec, *, couplings: int = 4, hidden: Sequence[int] = (200, 100)) -> Model:
    """SortFlow for exchangeable vectors: sorted values, the logarithm-like map of their increments, the couplings."""
    return _flow(spec, [Sort(), Increments()], couplings, hidden)


@register("signed-abs-flow")
def signed_abs_flow(spec: DataSpec, *, hidden: Sequence[int] = (200, 100), bound: float = 4.0) -> Model:
    """The anti-symmetric checkerboard: |x_1| with a learned sign, then a fixed map of the box to U[0, 1]^D.

    On [-bound, bound]^D with p(x) + p(-x_1, x_2, ..) constant, (|x_1|, x_2, ..) is uniform, so the sign network is
    all there is to learn: log p(x) = -log(bound (2 bound)^{D-1}) + log Bern(sign | σ(network)). Outside the box
    the density is zero, and its logarithm -inf.
    """
    if len(spec.shape) != 1:
        raise ValueError(f"signed-abs-flow takes vectors, not data of shape {spec.shape}; for images: max-pool-flow")
    if bound <= 0:
        raise ValueError(f"bound is {bound}; it is positive")
    low = torch.tensor([0.0] + [-bound] * (spec.dim - 1))
    box = Standardize(low, bound - low)
    sign = SignedAbs(MLP(spec.dim, hidden, 1))
    return ChainModel([*preprocessing(spec, squash="none"), sign, box], Uniform(spec.shape))


@register("max-pool-flow")
def max_pool_flow(
    spec: DataSpec,
    *,
    pooling: Literal["max", "none"] = "max",
    scales: int = 2,
    steps: int = 4,
    width: int = 32,
    blocks: int = 1,
    scale: Scale = "tanh",
    squash: Squash = "logit",
    alpha: float = 1e-6,
) -> Model:
    """MaxPoolFlow for images: squeeze, then ``scales`` times ``steps`` Glow steps with 2x2 max pooling between.

    ``pooling`` "none" is its baseline: between scales, squeeze and set three quarters of the channels aside as
    N(0, I). What is left has the shape that pooling leaves, so the parameters are equally many.
    """
    if len(spec.shape) != 3:
        raise ValueError(f"max-pool-flow takes images, not data of shape {spec.shape}; for vectors there is abs-flow")
    if pooling not in ("max", "none"):
        raise ValueError(f"pooling is {pooling!r}; it takes max or none")
    channels, height, wide = 4 * spec.shape[0], spec.shape[1] // 2, spec.shape[2] // 2
    if spec.shape[1] % 2**scales or spec.shape[2] % 2**scales:
        raise ValueError(
            f"scales is {scales}, but images of shape {spec.shape} cannot be halved that often; choose fewer"
        )
    layers: list[Layer] = [Squeeze()]
    for level in range(scales):
        if level > 0:
            height, wide = height // 2, wide // 2
            aside = StandardNormal((3 * channels, height, wide))
            layers += [MaxPool2d()] if pooling == "max" else [Squeeze(), Slice(aside, channels)]
        for _ in range(steps):
            layers += glow_step(channels, width, blocks, scale)
    data = preprocessing(spec, squash=squash, alpha=alpha)
    return ChainModel([*data, *layers], StandardNormal((channels, height, wide)))
