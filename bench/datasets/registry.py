"""Data set name -> what is known of it. A new file in ``loaders/`` adds one by listing it in ``DATASETS``."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from bench.datasets import loaders
from bench.datasets.info import Info
from bench.errors import UserError, nearest

PLANNED = (
    "cifar10",
    "fashion-mnist",
    "gas",
    "hepmass",
    "imagenet32-new",
    "imagenet32-old",
    "imagenet64-new",
    "imagenet64-old",
    "power",
)


@cache
def _all() -> dict[str, Info]:
    found: dict[str, Info] = {}
    for module in pkgutil.iter_modules(loaders.__path__, f"{loaders.__name__}."):
        for info in importlib.import_module(module.name).DATASETS:
            if info.name in found:
                raise ValueError(f"two data sets are called {info.name!r}; the second is in {module.name}")
            found[info.name] = info
    return dict(sorted(found.items()))


def names() -> list[str]:
    """Every data set that can be prepared."""
    return list(_all())


def describe(name: str) -> Info:
    """What is known of a data set; UserError, in one line, for a name that is unknown or not yet available."""
    known = _all()
    if name in known:
        return known[name]
    if name in PLANNED:
        raise UserError(f"data set {name!r} is published but this version cannot prepare it yet; see `relaxbench list`")
    raise nearest(name, [*known, *PLANNED], "data set")
