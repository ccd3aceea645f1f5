"""Contract cases of the VAE, the gated PixelCNN and the GAN."""

from __future__ import annotations

import torch

from models.latent.vae import ConditionalNormal, VariationalLayer
from models.layer import Layer, Model
from models.nets.mlp import MLP
from models.registry import DataSpec, build
from tests.contracts.case import LayerCase, ModelCase, integers, normal

VECTOR = DataSpec((3,), mean=torch.ones(3), std=2 * torch.ones(3))
IMAGE = DataSpec((1, 3, 4), levels=5)
COLOUR = DataSpec((2, 3, 3), levels=4)


def _variational() -> Layer:
    return VariationalLayer(ConditionalNormal(MLP(3, [8], 4)), ConditionalNormal(MLP(2, [8], 3), scales=3))


def _small(family: str, spec: DataSpec, **hyper: object):
    def make() -> Model:
        return build(family, spec, **hyper)

    return make


_vae = {"latent": 2, "hidden": [8]}
_pixels = {"features": 4, "blocks": 2, "first": 3, "head": 4}

LAYERS = {
    "variational": LayerCase(_variational, x=normal(3), z=normal(2), jacobian=False, roundtrip="none"),
}
MODELS = {
    "vae:vector": ModelCase(_small("vae", VECTOR, **_vae), normal(3), "lower_bound"),
    "vae:logistic": ModelCase(_small("vae", IMAGE, **_vae), integers(5, 1, 3, 4), "lower_bound"),
    "vae:categorical": ModelCase(
        _small("vae", IMAGE, decoder="categorical", **_vae), integers(5, 1, 3, 4), "lower_bound"
    ),
    "pixelcnn": ModelCase(_small("pixelcnn", IMAGE, **_pixels), integers(5, 1, 3, 4), "exact"),
    "pixelcnn:colour": ModelCase(_small("pixelcnn", COLOUR, **_pixels), integers(4, 2, 3, 3), "exact"),
    "gan:vector": ModelCase(_small("gan", VECTOR, hidden=[8]), normal(3), "none"),
    "gan:image": ModelCase(_small("gan", IMAGE, hidden=[8]), integers(5, 1, 3, 4), "none"),
}
