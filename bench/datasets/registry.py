"""Data set name -> what is known of it. A new file in ``loaders/`` adds one by listing it in ``DATASETS``."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from pathlib import Path

from bench.datasets import loaders
from bench.datasets.info import Info
from bench.errors import nearest


@cache
def _all() -> dict[str, tuple[Info, Path]]:
    """Name -> what is known of it, and the file of its loader."""
    found: dict[str, tuple[Info, Path]] = {}
    for module in pkgutil.iter_modules(loaders.__path__, f"{loaders.__name__}."):
        loader = importlib.import_module(module.name)
        for info in loader.DATASETS:
            if info.name in found:
                raise ValueError(f"two data sets are called {info.name!r}; the second is in {module.name}")
            found[info.name] = info, Path(loader.__file__)
    return dict(sorted(found.items()))


def names() -> list[str]:
    """Every data set."""
    return list(_all())


def parts(name: str) -> list[str]:
    """The sets that have a part of its columns."""
    return [other for other, (info, _) in _all().items() if info.whole == name]


def describe(name: str) -> Info:
    """What is known of a data set; UserError, in one line, for a name that is unknown."""
    return _known(name)[0]


def loader_file(name: str) -> Path:
    """The source file that makes it."""
    return _known(name)[1]


def _known(name: str) -> tuple[Info, Path]:
    known = _all()
    if name not in known:
        raise nearest(name, known, "data set")
    return known[name]
