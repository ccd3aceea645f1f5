"""Family name -> constructor. A recipe names a family; a new file under ``models/`` adds one:

    @register("my-flow")
    def my_flow(spec: DataSpec, *, steps: int = 4) -> Model: ...

Modules are discovered, so no list is edited.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

import models
from models.hyperparameters import check
from models.layer import Model


@dataclass(frozen=True)
class DataSpec:
    """What a model may know of its data before training.

    ``shape`` of one example; ``levels`` of integer data (256 for 8-bit images), None for real values;
    ``mean`` and ``std`` of the training rows, per feature (scalars for integers, on the scale x / levels);
    ``energy`` u(x) = -log p(x) + const where the target density is known (sampling problems);
    ``context_dim`` of the vector that a conditional density p(x | context) is given, 0 for none.
    """

    shape: tuple[int, ...]
    levels: int | None = None
    mean: Tensor | None = None
    std: Tensor | None = None
    energy: nn.Module | None = None
    context_dim: int = 0

    @property
    def dim(self) -> int:
        return math.prod(self.shape)


Builder = Callable[..., Model]
_families: dict[str, Builder] = {}


def register(name: str) -> Callable[[Builder], Builder]:
    """Name a constructor ``(spec, **hyperparameters) -> Model``."""

    def add(builder: Builder) -> Builder:
        if name in _families and _families[name].__qualname__ != builder.__qualname__:
            raise ValueError(f"two families are called {name!r}: {_families[name]} and {builder}")
        _families[name] = builder
        return builder

    return add


def families() -> dict[str, Builder]:
    """Every registered family, after importing all modules under ``models``."""
    for module in pkgutil.walk_packages(models.__path__, "models."):
        importlib.import_module(module.name)
    return dict(sorted(_families.items()))


def build(family: str, spec: DataSpec, **hyperparameters: object) -> Model:
    """Construct a family's model; ValueError, in one line, on an unknown family or a wrong hyperparameter."""
    known = families()
    if family not in known:
        near = difflib.get_close_matches(family, known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
        raise ValueError(f"unknown family {family!r}{hint}")
    accepted = [name for name, p in inspect.signature(known[family]).parameters.items() if p.kind is p.KEYWORD_ONLY]
    for name in hyperparameters:
        if name not in accepted:
            near = difflib.get_close_matches(name, accepted, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; it takes {', '.join(accepted)}"
            raise ValueError(f"family {family!r} has no hyperparameter {name!r}{hint}")
    check(known[family], hyperparameters)
    return known[family](spec, **hyperparameters)
