"""Contract cases of the stochastic layers and of the two families made of them: SNF and DiffFlow."""

from __future__ import annotations

from torch import Tensor, nn

from models.base import StandardNormal
from models.relaxed.stochastic import InterpolatedEnergy, Langevin, Metropolis, UnderdampedLangevin
from tests.contracts.case import LayerCase, ModelCase, normal


class DoubleWell(nn.Module):
    """u(x, y) = -x/2 - 6x² + x⁴ + y²/2: log Z = 10.2935, P(x > 0) = .8443."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.unbind(1)
        return -0.5 * first - 6 * first**2 + first**4 + 0.5 * second**2


def between(fraction: float = 0.5) -> InterpolatedEnergy:
    return InterpolatedEnergy(StandardNormal((2,)), DoubleWell(), fraction)


def _stochastic(make) -> LayerCase:
    return LayerCase(make, x=normal(2), z=normal(2), jacobian=False, roundtrip="none")


LAYERS: dict[str, LayerCase] = {
    "metropolis": _stochastic(lambda: Metropolis(between(), steps=4, step_size=0.25)),
    "langevin": _stochastic(lambda: Langevin(between(), steps=4, step_size=0.01)),
    "underdamped-langevin": _stochastic(lambda: UnderdampedLangevin(between(), steps=4, step_size=0.05)),
}

MODELS: dict[str, ModelCase] = {}
