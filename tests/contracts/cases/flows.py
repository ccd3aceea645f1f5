"""Contract cases of the classical flows."""

from __future__ import annotations

import torch

from models.flows.conditioner import Coupling, MaskedAutoregressive
from models.flows.linear import InvertibleConv1x1, LULinear, Permutation, Reverse
from models.flows.multiscale import Squeeze
from models.flows.normalization import ActNorm, BatchNorm
from models.flows.univariate import AffineMap, RationalQuadraticSpline, Univariate
from models.layer import Layer
from models.nets.conv import ResidualConvNet
from models.nets.made import MADE
from models.nets.mlp import MLP, ResidualMLP
from models.registry import DataSpec, build
from tests.contracts.case import LayerCase, ModelCase, integers, normal

MASK = torch.tensor([True, False, True, False])
VECTOR, IMAGE = DataSpec((3,), mean=torch.ones(3), std=2 * torch.ones(3)), DataSpec((1, 4, 4), levels=5)


def _coupling(univariate: Univariate, unconditional: bool = False) -> Layer:
    return Coupling(univariate, MASK, ResidualMLP(2, [8, 8], 2 * univariate.n_params), unconditional=unconditional)


def _autoregressive(univariate: Univariate, residual: bool) -> Layer:
    return MaskedAutoregressive(univariate, MADE(4, [8, 8], univariate.n_params, residual=residual))


def _image_coupling() -> Layer:
    return Coupling(AffineMap("sigmoid"), MASK, ResidualConvNet(2, 4, 4))


def _vector(make) -> LayerCase:
    return LayerCase(make, x=normal(4), z=normal(4))


def _image(make) -> LayerCase:
    return LayerCase(make, x=normal(4, 2, 2), z=normal(4, 2, 2))


LAYERS: dict[str, LayerCase] = {
    "affine-coupling": _vector(lambda: Coupling(AffineMap(), MASK, MLP(2, [8], 4))),
    "affine-coupling-bounded": _vector(lambda: Coupling(AffineMap("tanh"), MASK, MLP(2, [8], 4))),
    "spline-coupling": _vector(lambda: _coupling(RationalQuadraticSpline(4, 2.0), unconditional=True)),
    "image-coupling": _image(_image_coupling),
    "affine-autoregressive": _vector(lambda: _autoregressive(AffineMap(), residual=False)),
    "spline-autoregressive": _vector(lambda: _autoregressive(RationalQuadraticSpline(4, 2.0), residual=True)),
    "permutation": _vector(lambda: Permutation(4)),
    "reverse": _vector(lambda: Reverse()),
    "lu-linear": _vector(lambda: LULinear(4)),
    "conv-1x1": _image(lambda: InvertibleConv1x1(4)),
    "actnorm": _vector(lambda: ActNorm(4)),
    "actnorm-image": _image(lambda: ActNorm(4)),
    "batchnorm": _vector(lambda: BatchNorm(4)),
    "squeeze": LayerCase(lambda: Squeeze(), x=normal(1, 4, 4), z=normal(4, 2, 2)),
}


def _exact(family: str, **settings: object) -> ModelCase:
    return ModelCase(lambda: build(family, VECTOR, **settings), x=normal(3), likelihood="exact")


MODELS: dict[str, ModelCase] = {
    "gaussian": _exact("gaussian"),
    "realnvp": _exact("realnvp", couplings=2, hidden=[8]),
    "realnvp:batch-norm": _exact("realnvp", couplings=2, hidden=[8], batch_norm=True),
    "maf": _exact("maf", layers=2, hidden=[8]),
    "nsf:coupling": _exact("nsf", conditioner="coupling", steps=2, hidden=[8], bins=4),
    "nsf:autoregressive": _exact("nsf", conditioner="autoregressive", steps=2, hidden=[8], bins=4),
    "glow": ModelCase(
        lambda: build("glow", IMAGE, scales=2, steps=1, width=4), x=integers(5, 1, 4, 4), likelihood="lower_bound"
    ),
}
