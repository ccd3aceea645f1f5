"""Contract cases of the monotone maps that are no rational-quadratic spline."""

from __future__ import annotations

import torch

from models.flows.conditioner import Coupling, MaskedAutoregressive
from models.flows.univariate import (
    CubicSpline,
    DeepDenseSigmoid,
    DeepSigmoid,
    MonotonicNetwork,
    QuadraticSpline,
    SumOfSquares,
    Univariate,
)
from models.layer import Layer
from models.nets.made import MADE
from models.nets.mlp import MLP
from models.registry import DataSpec, build
from tests.contracts.case import LayerCase, ModelCase, normal

MASK = torch.tensor([True, False, True, False])
VECTOR = DataSpec((3,), mean=torch.ones(3), std=2 * torch.ones(3))


def _autoregressive(univariate: Univariate) -> Layer:
    return MaskedAutoregressive(univariate, MADE(4, [8, 8], univariate.n_params))


def _coupling(univariate: Univariate) -> Layer:
    return Coupling(univariate, MASK, MLP(2, [8], 2 * univariate.n_params), unconditional=True)


def _vector(make) -> LayerCase:
    return LayerCase(make, x=normal(4), z=normal(4))


LAYERS: dict[str, LayerCase] = {
    "quadratic-coupling": _vector(lambda: _coupling(QuadraticSpline(4, 2.0))),
    "quadratic-autoregressive": _vector(lambda: _autoregressive(QuadraticSpline(4, 2.0))),
    "cubic-coupling": _vector(lambda: _coupling(CubicSpline(4, 2.0))),
    "cubic-autoregressive": _vector(lambda: _autoregressive(CubicSpline(4, 2.0))),
    "dsf-autoregressive": _vector(lambda: _autoregressive(DeepSigmoid(4, 2, signal=5))),
    "ddsf-autoregressive": _vector(lambda: _autoregressive(DeepDenseSigmoid(4, 2, signal=5))),
    "sos-autoregressive": _vector(lambda: _autoregressive(SumOfSquares(2, 3))),
    "sos-coupling": _vector(lambda: _coupling(SumOfSquares(2, 3))),
    "umnn-autoregressive": _vector(lambda: _autoregressive(MonotonicNetwork(4, (6, 6), 20))),
}


def _model(family: str, **settings: object) -> ModelCase:
    return ModelCase(lambda: build(family, VECTOR, **settings), x=normal(3), likelihood="exact")


_spline = {"steps": 2, "hidden": [8], "bins": 4}
MODELS: dict[str, ModelCase] = {
    "naf": _model("naf", flows=2, dimension=4, signal=4, hidden=[8]),
    "naf:dsf": _model("naf", flows=2, transformer="dsf", dimension=4, layers=1, signal=4, hidden=[8]),
    "sos": _model("sos", flows=2, polynomials=2, degree=2, hidden=[8]),
    "umnn": _model("umnn", flows=2, embedding=4, integrand=[6, 6], steps=20, hidden=[8]),
    "nsf:quadratic": _model("nsf", spline="quadratic", **_spline),
    "nsf:quadratic-coupling": _model("nsf", spline="quadratic", conditioner="coupling", **_spline),
    "nsf:cubic": _model("nsf", spline="cubic", **_spline),
}
