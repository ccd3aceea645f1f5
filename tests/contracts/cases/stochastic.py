"""Contract cases of the stochastic layers and of the two families made of them: SNF and DiffFlow."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from models.base import StandardNormal
from models.layer import Layer
from models.nets.time import TimeMLP
from models.registry import DataSpec, build
from models.relaxed.diffflow import DiffusionPath
from models.relaxed.stochastic import InterpolatedEnergy, Langevin, Metropolis, UnderdampedLangevin
from tests.contracts.case import LayerCase, ModelCase, normal


class DoubleWell(nn.Module):
    """u(x, y) = -x/2 - 6x² + x⁴ + y²/2: log Z = 10.2935, P(x > 0) = .8443."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.unbind(1)
        return -0.5 * first - 6 * first**2 + first**4 + 0.5 * second**2


def between(fraction: float = 0.5) -> InterpolatedEnergy:
    return InterpolatedEnergy(StandardNormal((2,)), DoubleWell(), fraction)


def _stochastic(make: Callable[[], Layer]) -> LayerCase:
    return LayerCase(make, x=normal(2), z=normal(2), jacobian=False, roundtrip="none")


def _snf(likelihood: str = "lower_bound", **hyper: object) -> ModelCase:
    spec = DataSpec((2,), energy=DoubleWell())
    return ModelCase(lambda: build("snf", spec, blocks=2, hidden=[8], warmup=0.0, **hyper), normal(2), likelihood)


LAYERS: dict[str, LayerCase] = {
    "metropolis": _stochastic(lambda: Metropolis(between(), steps=4, step_size=0.25)),
    "langevin": _stochastic(lambda: Langevin(between(), steps=4, step_size=0.01)),
    "underdamped-langevin": _stochastic(lambda: UnderdampedLangevin(between(), steps=4, step_size=0.05)),
    "diffusion-path": _stochastic(lambda: DiffusionPath(TimeMLP(2, [8]), TimeMLP(2, [8]), steps=5, noise=(0.1, 0.5))),
}

MODELS: dict[str, ModelCase] = {
    "snf:none": _snf("exact", stochastic="none"),
    "snf:metropolis": _snf(stochastic="metropolis", stochastic_steps=3),
    "snf:langevin": _snf(stochastic="langevin", stochastic_steps=3, step_size=0.01),
    "snf:underdamped": _snf(stochastic="underdamped", stochastic_steps=3, step_size=0.05),
    "diffflow": ModelCase(
        lambda: build("diffflow", DataSpec((2,)), steps=4, hidden=[8], frequencies=4), normal(2), "lower_bound"
    ),
}
