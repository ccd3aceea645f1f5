"""Contract cases of the autoregressive densities, the remaining affine flows and conditional models."""

from __future__ import annotations

import torch

from models.flows.autoregressive import LeakyReLU
from models.flows.conditioner import Coupling, MaskedAutoregressive, Separate
from models.flows.linear import Linear, PackedQR, PackedTriangular, Rescale
from models.flows.univariate import AdditiveMap, AffineMap
from models.layer import Inverse, Layer
from models.nets.made import MADE
from models.nets.mlp import MLP
from models.nets.recurrent import Recurrent
from models.nets.transformer import CausalTransformer
from models.registry import DataSpec, build
from tests.contracts.case import LayerCase, ModelCase, normal

VECTOR = DataSpec((3,), mean=torch.ones(3), std=2 * torch.ones(3))
MASK = torch.tensor([True, False, True, False])


def _vector(make) -> LayerCase:
    return LayerCase(make, x=normal(4), z=normal(4))


def _exact(family: str, **settings: object) -> ModelCase:
    return ModelCase(lambda: build(family, VECTOR, **settings), x=normal(3), likelihood="exact")


def _masked() -> Layer:
    return MaskedAutoregressive(AffineMap(), MADE(4, [8, 8], 2))


def _transformer() -> CausalTransformer:
    return CausalTransformer(4, 2, width=8, heads=2, layers=2)


LAYERS: dict[str, LayerCase] = {
    "inverse-autoregressive": _vector(lambda: Inverse(_masked())),
    "separate-coupling": _vector(lambda: Coupling(AffineMap(), MASK, Separate([MLP(2, [8], 2), MLP(2, [8], 2)]))),
    "recurrent-affine": _vector(lambda: MaskedAutoregressive(AffineMap("tanh"), Recurrent(4, 2, hidden=8))),
    "recurrent-shift": _vector(lambda: MaskedAutoregressive(AdditiveMap(), Recurrent(4, 1, hidden=8, layers=2))),
    "transformer-affine": _vector(lambda: MaskedAutoregressive(AffineMap("tanh"), _transformer())),
    "qr-linear": _vector(lambda: Linear(4, PackedQR(4))),
    "triangular-linear": _vector(lambda: Linear(4, PackedTriangular(4, upper=False))),
    "rescale": _vector(lambda: Rescale(4)),
    "rescale-and-shift": _vector(lambda: Rescale(4, shift=True)),
    "leaky-relu": _vector(lambda: LeakyReLU()),
}

_small = {"layers": 2, "hidden": [8]}
_transformer_settings = {"components": 3, "width": 8, "heads": 2, "layers": 2}
MODELS: dict[str, ModelCase] = {
    "linear:permutation": _exact("linear", kind="permutation"),
    "linear:lu": _exact("linear", kind="lu"),
    "linear:qr": _exact("linear", kind="qr"),
    "linear:triangular": _exact("linear", kind="triangular"),
    "nice": _exact("nice", couplings=3, hidden=[8]),
    "nice:logistic": _exact("nice", couplings=3, hidden=[8], prior="logistic"),
    "realnvp:maf-paper": _exact("realnvp", couplings=2, hidden=[8], scale="exp", networks="separate", batch_norm=True),
    "glow-tabular": _exact("glow-tabular", steps=2, hidden=[8, 8]),
    "made": _exact("made", hidden=[8]),
    "made:mog": _exact("made", hidden=[8], components=4),
    "maf-mog": _exact("maf-mog", components=3, **_small),
    "iaf": _exact("iaf", **_small),
    "recurrent-autoregressive": _exact("recurrent-autoregressive", layers=2, hidden=8),
    "tan": _exact("tan", blocks=2, hidden=8, components=3),
    "trade": _exact("trade", **_transformer_settings),
    "trade:penalty": _exact("trade", penalty=0.2, position="learned", **_transformer_settings),
}
