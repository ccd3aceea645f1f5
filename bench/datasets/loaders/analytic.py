"""Densities of which everything is known: the toys of the literature and two sampling problems."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from bench.datasets.info import Info, Kind, Request, Splits, Variant

if TYPE_CHECKING:
    from bench.datasets.densities.analytic import AnalyticDensity

SURVAE = "Nielsen et al. 2020, SurVAE Flows, arXiv 2007.02731"
SNF = "Wu, Köhler and Noé 2020, Stochastic Normalizing Flows, arXiv 2002.06707"
FFJORD = "after the toy sets of Grathwohl et al. 2019, FFJORD, arXiv 1810.01367"


def _info(name: str, title: str, constructor: str, source: str, kind: Kind = "toy") -> Info:
    module, function = constructor.split(".")

    def density() -> AnalyticDensity:
        return getattr(importlib.import_module(f"bench.datasets.densities.{module}"), function)()

    return Info(
        name=name,
        title=title,
        kind=kind,
        shape=(2,),
        sizes=(50_000, 5_000, 10_000),
        source=source,
        licence="none needed: drawn here",
        variants=(Variant("embedded", lambda request: _sample(density, request), "none"),),
        density=density,
    )


def _sample(density: Callable[[], AnalyticDensity], request: Request) -> Splits:
    import torch

    def split(name: str, rows: int):
        return density().sample(rows, torch.Generator().manual_seed(request.seed(name))).float().numpy()

    return Splits(*(split(name, rows) for name, rows in zip(Splits._fields, request.sizes, strict=True)))


DATASETS = (
    _info("checkerboard", "eight uniform squares", "toys.checkerboard", SURVAE),
    _info("corners", "four L-shaped uniform corners", "toys.corners", SURVAE),
    _info("eight-gaussians", "eight Gaussians on a circle", "toys.eight_gaussians", SURVAE),
    _info("four-circles", "four blurred circles that cross", "toys.four_circles", SURVAE),
    _info("rings", "four concentric blurred rings", "toys.rings", FFJORD),
    _info("two-spirals", "two blurred spiral arms", "toys.two_spirals", FFJORD),
    _info("two-moons", "two interleaved blurred half circles", "toys.two_moons", "after scikit-learn's make_moons"),
    _info("double-well", "double-well energy in x, harmonic in y", "energies.DoubleWell", SNF, "energy"),
    _info(
        "gaussian-mixture",
        "five separated Gaussians as an energy",
        "energies.GaussianMixture",
        "this benchmark",
        "energy",
    ),
)
