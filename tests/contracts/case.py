"""What a contract test needs to know of a layer or a model: how to make it, and inputs it accepts (float64)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from models.layer import Layer, Model


def normal(*shape: int) -> Callable[[int], Tensor]:
    """Inputs from a standard normal: ``normal(4)(n)`` has shape (n, 4)."""
    return lambda n: torch.randn(n, *shape)


def integers(levels: int, *shape: int) -> Callable[[int], Tensor]:
    return lambda n: torch.randint(0, levels, (n, *shape))


@dataclass(frozen=True)
class LayerCase:
    """``make`` is called under a fixed seed and float64; ``x(n)`` and ``z(n)`` draw valid ends of the layer.

    ``jacobian`` False: no square Jacobian to compare with (stochastic and dimension-changing layers).
    ``roundtrip`` "x": decode(encode(x)) = x · "z": encode(decode(z)) = z · "both" · "none".
    """

    make: Callable[[], Layer]
    x: Callable[[int], Tensor]
    z: Callable[[int], Tensor]
    jacobian: bool = True
    roundtrip: str = "both"
    tolerance: float = 1e-8


@dataclass(frozen=True)
class ModelCase:
    """A small model; ``x(n)`` draws data it accepts; ``likelihood`` is the kind that must be derived."""

    make: Callable[[], Model]
    x: Callable[[int], Tensor]
    likelihood: str
    dead_parameters: tuple[str, ...] = ()  # names that rightly get no gradient from the loss
