"""What is known of a data set before anything heavy is imported: no torch, no scikit-learn here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from bench.seeds import derive

if TYPE_CHECKING:
    import numpy as np

    from bench.datasets.analytic import AnalyticDensity

Kind = Literal["toy", "energy", "tabular", "image"]
Size = Literal["published", "reduced"]
Sizes = tuple[int, int, int]


class Splits(NamedTuple):
    """Rows first: float32 for real data, uint8 for integer images (rows, channels, height, width)."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Request:
    """What a loader is asked for: how many rows, with which seed, and where its verified raw files are."""

    name: str
    sizes: Sizes
    root_seed: int
    raw: Callable[[str], Path]

    def seed(self, *names: str | int) -> int:
        """The seed of one use of randomness; the same for every model."""
        return derive(self.root_seed, "data", self.name, *names)


@dataclass(frozen=True)
class Info:
    """One data set. ``build`` makes its splits; ``density`` its exact density, where there is one.

    ``sizes`` are the rows of train, val and test as published; ``reduced`` those of the quick tier.
    ``labels`` gives the class of each training row, for judging samples; no model sees it.
    ``pins`` name the raw files (``data/PIN.dvc``); ``flags`` what must stand beside every score on it.
    """

    name: str
    title: str
    kind: Kind
    shape: tuple[int, ...]
    sizes: Sizes
    source: str
    licence: str
    preprocessing: str
    build: Callable[[Request], Splits]
    levels: int | None = None
    labels: Callable[[Request], np.ndarray] | None = None
    reduced: Sizes | None = None
    density: Callable[[], AnalyticDensity] | None = None
    pins: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    hazards: tuple[str, ...] = ()

    @property
    def needs(self) -> Literal["embedded", "published"]:
        """``embedded`` sets come with the dependencies; ``published`` ones need a network or a mirror."""
        return "published" if self.pins else "embedded"
