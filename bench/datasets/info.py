"""What is known of a data set before anything heavy is imported: no torch, no scikit-learn here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from bench.seeds import derive

if TYPE_CHECKING:
    import numpy as np

    from bench.datasets.densities.analytic import AnalyticDensity

Kind = Literal["toy", "energy", "tabular", "image", "points", "audio"]
Size = Literal["published", "reduced"]
Sizes = tuple[int, int, int]


class Splits(NamedTuple):
    """Rows first: float32 for real data; for integer images uint8 (rows, channels, height, width), for waveforms uint16
    (rows, channels, time).
    """

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


Built = Splits | Iterable[tuple[str, "np.ndarray"]]
"""Three arrays; or, where they would not fit in memory, blocks of rows that each name their split, in any order."""


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
class Variant:
    """One way to make a data set: from which raw files (``data/PIN.dvc``), by which steps.

    ``published``: the published arrays. ``rebuilt``: the published steps on the originals, where a step cannot be
    repeated bit for bit. ``sample``: a few real rows, for running the whole path. ``embedded``: ships with the
    dependencies, or is drawn here. ``sizes`` are the rows of train, val and test, where they are not the published
    ones; ``flags`` stand beside every score. ``labels`` gives the class of each training row, for judging samples; no
    model sees it.
    """

    name: Literal["embedded", "published", "rebuilt", "sample"]
    build: Callable[[Request], Built]
    preprocessing: str
    pins: tuple[str, ...] = ()
    sizes: Sizes | None = None
    flags: tuple[str, ...] = ()
    labels: Callable[[Request], np.ndarray] | None = None


@dataclass(frozen=True)
class Info:
    """One data set. ``variants`` are tried in their order; ``density`` is its exact density, where there is one.

    ``sizes`` are the rows of train, val and test as published; ``reduced`` those of the quick tier. ``levels``: how
    many values an integer may take. ``bounds``: between which a real value lies. ``hazards`` are those known from how
    the data were made; a scan of the prepared arrays finds the others (``bench.datasets.hazards``).
    """

    name: str
    title: str
    kind: Kind
    shape: tuple[int, ...]
    sizes: Sizes
    source: str
    licence: str
    variants: tuple[Variant, ...]
    levels: int | None = None
    bounds: tuple[float, float] | None = None
    reduced: Sizes | None = None
    density: Callable[[], AnalyticDensity] | None = None
    hazards: tuple[str, ...] = ()
    whole: str | None = None  # the set of whose columns this one has a part

    @property
    def needs(self) -> Literal["embedded", "published"]:
        """``embedded`` sets come with the dependencies; ``published`` ones need a network or a mirror."""
        return "published" if any(variant.pins for variant in self.variants) else "embedded"

    def rows(self, variant: Variant, size: Size) -> Sizes:
        """How many rows of train, val and test are asked for."""
        full = variant.sizes or self.sizes
        if size == "published" or self.reduced is None:
            return full
        train, val, test = map(min, full, self.reduced)
        return train, val, test


def without_columns(info: Info, columns: tuple[int, ...]) -> Info:
    """The same rows without some columns: a data set of its own, for densities differ in their units.

    For columns with an atom, where the density has no upper bound and a score no meaning by itself.
    """
    (dim,) = info.shape
    numbers = ", ".join(map(str, columns))

    def dropping(variant: Variant) -> Variant:
        def build(request: Request) -> Built:
            import numpy as np

            # The seeds are those of the whole set, so that the rows are the same.
            built = variant.build(dataclasses.replace(request, name=info.name))
            return Splits(*(np.delete(rows, columns, 1) for rows in built))

        return dataclasses.replace(
            variant, build=build, preprocessing=f"{variant.preprocessing}; then column {numbers} is dropped"
        )

    return dataclasses.replace(
        info,
        name=f"{info.name}-without-column-{'-'.join(map(str, columns))}",
        title=f"{info.title}, without column {numbers} (an atom)",
        shape=(dim - len(columns),),
        variants=tuple(dropping(variant) for variant in info.variants),
        whole=info.name,
    )
