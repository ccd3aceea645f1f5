"""Data sets: ``names``, ``describe``, ``fetch``, ``prepare``, ``is_prepared``, ``load``.

Importing this imports neither torch nor scikit-learn.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.datasets.info import Info
from bench.datasets.preparation import fetch, is_prepared, prepare
from bench.datasets.registry import describe, names

if TYPE_CHECKING:
    from bench.datasets.base import DataSet

__all__ = ["Info", "describe", "fetch", "is_prepared", "load", "names", "prepare"]


def load(folder: Path) -> DataSet:
    """See ``bench.datasets.base.load``."""
    from bench.datasets import base

    return base.load(folder)
