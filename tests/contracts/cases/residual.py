"""Contract cases of the flows that are no univariate map times a conditioner, and of the Gaussian mixture."""

from __future__ import annotations

import torch

from models.flows.block_naf import BlockNAF
from models.flows.gaussianization import KernelLayer
from models.flows.linear import Rotation
from models.flows.planar import Planar, Radial, Sylvester
from models.flows.residual import Residual, contraction
from models.registry import DataSpec, build
from tests.contracts.case import LayerCase, ModelCase, normal

VECTOR = DataSpec((3,), mean=torch.ones(3), std=2 * torch.ones(3))


def _vector(make) -> LayerCase:
    return LayerCase(make, x=normal(4), z=normal(4))


def _model(family: str, likelihood: str = "exact", **settings: object) -> ModelCase:
    return ModelCase(lambda: build(family, VECTOR, **settings), x=normal(3), likelihood=likelihood)


LAYERS: dict[str, LayerCase] = {
    "block-naf": _vector(lambda: BlockNAF(4, [5, 5])),
    "planar": _vector(lambda: Planar(4)),
    "radial": _vector(lambda: Radial(4)),
    "sylvester": _vector(lambda: Sylvester(4, 4, 4)),
    "sylvester-low-rank": _vector(lambda: Sylvester(4, 2, 3)),
    "residual-lipswish": _vector(lambda: Residual(contraction(4, [8, 8]))),
    "residual-elu": _vector(lambda: Residual(contraction(4, [8, 8], activation="elu"), train_log_det="exact")),
    "gaussianization-kernels": _vector(lambda: KernelLayer(4, 6)),
    "rotation": _vector(lambda: Rotation(4, 3)),
}

_net = {"blocks": 2, "hidden": [8, 8]}
MODELS: dict[str, ModelCase] = {
    "block-naf": _model("block-naf", flows=2, layers=1, hidden=4),
    "planar": _model("planar", flows=3),
    "radial": _model("radial", flows=3),
    "sylvester": _model("sylvester", flows=2),
    "i-resnet": _model("i-resnet", terms=4, **_net),
    "i-resnet:series": _model("i-resnet", "estimate", terms=4, log_det="series", **_net),
    "residual-flow": _model("residual-flow", actnorm=True, **_net),
    "residual-flow:roulette": _model("residual-flow", "estimate", log_det="roulette", trace="exact", **_net),
    "gaussianization": _model("gaussianization", layers=2, anchors=6),
    "mixture:full": _model("mixture", components=3),
    "mixture:diagonal": _model("mixture", components=3, covariance="diagonal"),
}
