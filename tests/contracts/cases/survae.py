"""Contract cases of the surjections and the SurVAE flows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from models.base import StandardNormal
from models.nets.mlp import MLP
from models.registry import DataSpec, build
from models.relaxed.surjections import (
    Abs,
    Augment,
    HalfLine,
    Increments,
    MaxPool2d,
    SignedAbs,
    Slice,
    Sort,
    StochasticPermutation,
)
from tests.contracts.case import LayerCase, ModelCase, integers, normal

VECTOR, IMAGE = DataSpec((3,)), DataSpec((1, 4, 4), levels=5)


def positive(*shape: int) -> Callable[[int], Tensor]:
    return lambda n: torch.rand(n, *shape) + 0.05


def increasing(*shape: int) -> Callable[[int], Tensor]:
    """Rows (or the first column of points) that increase."""

    def draw(n: int) -> Tensor:
        x = torch.randn(n, *shape)
        values = x if len(shape) == 1 else x[..., 0]
        values.copy_(positive(shape[0])(n).cumsum(1) - 1)
        return x

    return draw


def in_box(n: int) -> Tensor:
    return 8 * torch.rand(n, 3) - 4


LAYERS: dict[str, LayerCase] = {
    "abs": LayerCase(Abs, x=normal(3), z=positive(3), jacobian=False, roundtrip="z"),
    "signed-abs": LayerCase(
        lambda: SignedAbs(MLP(3, [8], 1), element=1), x=normal(3), z=positive(3), jacobian=False, roundtrip="z"
    ),
    "max-pool": LayerCase(MaxPool2d, x=normal(2, 4, 2), z=normal(2, 2, 1), jacobian=False, roundtrip="z"),
    "sort": LayerCase(Sort, x=normal(4), z=increasing(4), jacobian=False, roundtrip="z"),
    "sort-points": LayerCase(Sort, x=normal(4, 2), z=increasing(4, 2), jacobian=False, roundtrip="z"),
    "slice": LayerCase(
        lambda: Slice(StandardNormal((1, 2, 2)), 3), x=normal(4, 2, 2), z=normal(3, 2, 2), jacobian=False, roundtrip="z"
    ),
    "augment": LayerCase(
        lambda: Augment(StandardNormal((2,)), 3), x=normal(3), z=normal(5), jacobian=False, roundtrip="x"
    ),
    "stochastic-permutation": LayerCase(
        StochasticPermutation, x=normal(4, 2), z=normal(4, 2), jacobian=False, roundtrip="none"
    ),
    "half-line": LayerCase(lambda: HalfLine(1.0), x=positive(3), z=normal(3)),
    "increments": LayerCase(Increments, x=increasing(4), z=normal(4)),
    "increments-of-points": LayerCase(Increments, x=increasing(3, 2), z=normal(3, 2)),
}

MODELS: dict[str, ModelCase] = {
    **{
        family: ModelCase(lambda family=family: build(family, VECTOR, hidden=[8]), x=normal(3), likelihood="exact")
        for family in ("survae-baseline", "abs-flow", "sort-flow")
    },
    "signed-abs-flow": ModelCase(lambda: build("signed-abs-flow", VECTOR, hidden=[8]), x=in_box, likelihood="exact"),
    **{
        f"max-pool-flow:{pooling}": ModelCase(
            lambda pooling=pooling: build("max-pool-flow", IMAGE, pooling=pooling, steps=1, width=4),
            x=integers(5, 1, 4, 4),
            likelihood="lower_bound",
        )
        for pooling in ("max", "none")
    },
}
