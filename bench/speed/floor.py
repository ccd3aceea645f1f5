"""The least that a training step can cost: the dense matrix products of its networks, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.flows.univariate import MonotonicNetwork
from models.layer import Model


@dataclass(frozen=True)
class Product:
    """(rows, inputs) times (inputs, outputs); the gradient of its input may not be asked for."""

    rows: int
    inputs: int
    outputs: int
    input_gradient: bool


def products(model: Model, x: Tensor) -> list[Product]:
    """Every dense layer that one pass of ``log_prob`` goes through, an integrand network's included.

    Masked layers count as dense: what their zeros may save is the row's own merit.
    """
    found: list[Product] = []

    def record(layer: nn.Linear, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        (value,) = inputs
        rows = value.numel() // layer.in_features
        found.append(Product(rows, layer.in_features, layer.out_features, value.requires_grad))

    def record_integrand(network: MonotonicNetwork, inputs: tuple[Tensor, ...], _: object) -> None:
        """Its first layer reads each point once, its others each point at every quadrature node and at its end."""
        points = inputs[0].numel()
        first, *others = network.linears
        found.append(Product(points, first.in_features, first.out_features, True))
        rows = points * (len(network.nodes) + 1)
        found.extend(Product(rows, layer.in_features, layer.out_features, True) for layer in others)

    hooks = [layer.register_forward_hook(record) for layer in model.modules() if isinstance(layer, nn.Linear)]
    networks = [module for module in model.modules() if isinstance(module, MonotonicNetwork)]
    hooks += [network.register_forward_hook(record_integrand) for network in networks]
    try:
        model.log_prob(x)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def floor_step(wanted: list[Product], device: torch.device) -> Callable[[], None]:
    """The products of a training step: forward, the weights' gradients, and the inputs' where they are needed."""
    operands = [
        (
            torch.randn(p.rows, p.inputs, device=device),
            torch.randn(p.outputs, p.inputs, device=device),
            torch.randn(p.rows, p.outputs, device=device),
            p.input_gradient,
        )
        for p in wanted
    ]

    def step() -> None:
        for value, weight, gradient, needed in operands:
            torch.mm(value, weight.T)
            torch.mm(gradient.T, value)
            if needed:
                torch.mm(gradient, weight)

    return step
