"""Sampling, and what it costs: network passes are counted by hooks, never declared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from models.layer import Model


class Passes:
    """Calls of networks and of the target's energy while a block ran."""

    def __init__(self) -> None:
        self.calls: Counter[nn.Module] = Counter()
        self.energies: Counter[nn.Module] = Counter()

    @property
    def network(self) -> int:
        """Passes through the model: the most calls that any one parametrised module received."""
        return max(self.calls.values(), default=0)

    @property
    def energy(self) -> int:
        return sum(self.energies.values())


@contextmanager
def counting(model: Model, energy: nn.Module | None = None) -> Iterator[Passes]:
    """Count forward calls of every parametrised submodule, and of ``energy``, inside the block."""
    passes = Passes()
    own = set(energy.modules()) if energy is not None else set()

    def network(module: nn.Module, *_: object) -> None:
        passes.calls[module] += 1

    def target(module: nn.Module, *_: object) -> None:
        passes.energies[module] += 1

    watched = [m for m in model.modules() if m is not model and m not in own and any(True for _ in m.parameters())]
    hooks = [m.register_forward_hook(network) for m in watched]
    if energy is not None:
        hooks.append(energy.register_forward_hook(target))
    try:
        yield passes
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def draw(model: Model, n: int, batch: int = 2000) -> Tensor:
    """n samples, in batches, on the CPU."""
    sizes = [batch] * (n // batch) + ([n % batch] if n % batch else [])
    return torch.cat([model.sample(size).cpu() for size in sizes])
