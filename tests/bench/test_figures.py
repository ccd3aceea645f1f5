"""Figures: made where there is something to show, none where there is not, the same bytes twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench import figures
from bench.claims import evaluate_all
from bench.claims.base import Evidence
from bench.tables.summary import GROUPS
from tests.bench import records_factory as factory


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict], Path]:
    cells = tmp_path_factory.mktemp("run") / "cells"
    found = [
        r
        for r in factory.run()
        if r["run"]["dataset"] in ("checkerboard", "digits") and r["run"]["row"] in ("realnvp", "vae", "diffflow")
    ]
    factory.write(found, cells)
    factory.artifacts(found, cells)
    return found, cells


def test_every_family_has_its_own_colour() -> None:
    assert set(figures.COLOURS) == set(GROUPS) and len(set(figures.COLOURS.values())) == len(GROUPS)


def test_the_truth_is_a_density_with_y_down_the_rows() -> None:
    density, (x0, x1, y0, y1) = figures.truth("two-moons")
    area = (x1 - x0) * (y1 - y0) / density.size
    assert density.sum() * area == pytest.approx(1.0, abs=0.02)
    from bench.datasets import describe

    samples = describe("two-moons").density().sample(4000).numpy()
    centre = np.array(
        [
            (density.sum(axis) * np.linspace(a, b, 240)).sum() / density.sum()
            for axis, a, b in ((0, x0, x1), (1, y0, y1))
        ]
    )
    assert centre == pytest.approx(samples.mean(0), abs=0.15)


def test_a_data_set_without_a_density_has_no_truth_and_no_map(run: tuple[list[dict], Path]) -> None:
    found, cells = run
    assert figures.truth("digits") is None and figures.density_maps("digits", found, cells) is None


def test_each_figure_is_drawn_from_what_is_there(run: tuple[list[dict], Path], tmp_path: Path) -> None:
    found, cells = run
    maps = figures.density_maps("checkerboard", found, cells)
    assert [axes.get_title() for axes in maps.axes if axes.get_title()] == [
        "truth",
        "realnvp".replace("realnvp", "RealNVP"),
        "VAE *",
        "DiffFlow *",
    ]
    grids = figures.sample_grids("digits", found, cells, real=np.ones((36, 1, 8, 8)))
    assert [axes.get_title() for axes in grids.axes] == ["data", "realnvp", "vae"]
    assert figures.curves("checkerboard", found) and figures.tradeoff("checkerboard", found)
    assert figures.density_maps("checkerboard", found, tmp_path) is None and figures.curves("rings", found) is None


def test_only_validations_are_drawn_as_curves(run: tuple[list[dict], Path]) -> None:
    found = run[0]
    more = [r | {"series": factory.by_block([[1e3, 2e3], [3e3]]) | r["series"]} for r in found]
    assert figures.svg(figures.curves("checkerboard", more)) == figures.svg(figures.curves("checkerboard", found))


def test_the_same_figure_is_the_same_bytes(run: tuple[list[dict], Path]) -> None:
    found, cells = run
    assert figures.svg(figures.tradeoff("checkerboard", found)) == figures.svg(figures.tradeoff("checkerboard", found))
    once, twice = (figures.png(figures.density_maps("checkerboard", found, cells)) for _ in range(2))
    assert once == twice and once.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "claim", ["diffflow-few-steps", "diffflow-sharper-than-nf", "snf-more-noise", "one-pass-sampling"]
)
def test_evidence_has_a_panel_per_data_set(claim: str) -> None:
    shown = next(r for r in evaluate_all(factory.run()) if r.claim.id == claim).finding.evidence
    drawn = figures.evidence(shown)
    assert {axes.get_title() for axes in drawn.axes} == {d.panel for d in shown.dots}
    assert figures.evidence(Evidence("")) is None


def test_a_single_value_and_a_zero_can_be_plotted() -> None:
    from bench.claims.base import Dots

    for log in (False, True):
        figure = figures.evidence(
            Evidence("y", (Dots("d", "a", "VAE", (0.0,)), Dots("d", "b", "GAN", (0.0,))), log=log)
        )
        assert figures.svg(figure)
