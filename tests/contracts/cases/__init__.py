"""Named cases of every layer and model, merged from the modules of this folder."""

from __future__ import annotations

import importlib
import pkgutil

from tests.contracts.case import LayerCase, ModelCase


def _merged(attribute: str) -> dict:
    found: dict = {}
    for info in pkgutil.iter_modules(__path__, f"{__name__}."):
        cases = getattr(importlib.import_module(info.name), attribute, {})
        repeated = found.keys() & cases.keys()
        if repeated:
            raise ValueError(f"{info.name}: cases named twice: {sorted(repeated)}")
        found |= cases
    return found


LAYERS: dict[str, LayerCase] = _merged("LAYERS")
MODELS: dict[str, ModelCase] = _merged("MODELS")
