"""Cases of models/flows/continuous.py and models/diffusion."""

from __future__ import annotations

from models.diffusion.ddpm import Diffusion, DiffusionStep, DiscretizedStep, noise_schedule
from models.flows.continuous import ContinuousFlow
from models.layer import Layer
from models.nets.time import ConcatSquashMLP, TimeMLP
from models.registry import DataSpec, build
from tests.contracts.case import LayerCase, ModelCase, integers, normal

VECTOR, IMAGE = DataSpec((2,)), DataSpec((1, 4, 4), levels=5)
SMALL = {"hidden": [8, 8]}
UNET = {"widths": [8, 8]}


def continuous(trace: str = "exact") -> Layer:
    return ContinuousFlow(ConcatSquashMLP(3, [8]), rtol=1e-9, atol=1e-9, trace=trace)


def diffusion(d: int) -> Diffusion:
    return Diffusion(TimeMLP(d, [8]), noise_schedule("linear", 20))


LAYERS = {
    "continuous flow": LayerCase(continuous, normal(3), normal(3), tolerance=1e-7),
    "diffusion step": LayerCase(
        lambda: DiffusionStep(diffusion(3), 2), normal(3), normal(3), jacobian=False, roundtrip="none"
    ),
    "discretised first step": LayerCase(
        lambda: DiscretizedStep(diffusion(16), 5),
        integers(5, 1, 4, 4),
        normal(1, 4, 4),
        jacobian=False,
        roundtrip="none",
    ),
}

MODELS = {
    "ffjord": ModelCase(lambda: build("ffjord", VECTOR, hidden=[8], flows=2), normal(2), "ode"),
    "ffjord:images": ModelCase(
        lambda: build("ffjord", IMAGE, hidden=[8], trace="hutchinson", train_trace="hutchinson"),
        integers(5, 1, 4, 4),
        "lower_bound",
    ),
    "ddpm": ModelCase(lambda: build("ddpm", VECTOR, steps=5, **SMALL), normal(2), "lower_bound"),
    "ddpm:simple": ModelCase(
        lambda: build("ddpm", VECTOR, steps=10, sampling_steps=4, loss="simple", frequencies=4, **SMALL),
        normal(2),
        "lower_bound",
    ),
    "ddpm:images": ModelCase(lambda: build("ddpm", IMAGE, steps=3, **UNET), integers(5, 1, 4, 4), "lower_bound"),
    "score-sde-vp": ModelCase(
        lambda: build("score-sde-vp", VECTOR, sampling_steps=4, eps=1e-3, **SMALL), normal(2), "ode"
    ),
    "score-sde-vp:ode": ModelCase(
        lambda: build("score-sde-vp", VECTOR, sampler="ode", sampling_steps=None, weighting="likelihood", **SMALL),
        normal(2),
        "ode",
    ),
    "score-sde-vp:images": ModelCase(
        lambda: build("score-sde-vp", IMAGE, sampler="langevin", sampling_steps=4, trace="hutchinson", **SMALL),
        integers(5, 1, 4, 4),
        "lower_bound",
    ),
    "flow-matching": ModelCase(lambda: build("flow-matching", VECTOR, **SMALL), normal(2), "ode"),
    "flow-matching:images": ModelCase(
        lambda: build("flow-matching", IMAGE, sampling_steps=3, trace="hutchinson", rtol=1e-2, atol=1e-2, **UNET),
        integers(5, 1, 4, 4),
        "lower_bound",
    ),
}
