"""Metrics and gates against closed forms, and gates that must fail."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bench import gates, metrics
from bench.datasets import describe


def test_frechet_distance_between_known_gaussians() -> None:
    torch.manual_seed(0)
    a = torch.randn(200_000, 2, dtype=torch.float64)
    b = 2 * torch.randn(200_000, 2, dtype=torch.float64) + torch.tensor([3.0, 0.0])
    # |3|^2 + sum (1 - 2)^2 over two axes
    assert metrics.frechet_distance(a, b) == pytest.approx(11.0, rel=0.02)
    assert metrics.frechet_distance(a, a) == pytest.approx(0.0, abs=1e-6)


def test_frechet_distance_of_correlated_features_agrees_with_eigenvalues() -> None:
    torch.manual_seed(0)
    a, b = (torch.randn(400, 5, dtype=torch.float64) @ torch.randn(5, 5, dtype=torch.float64) for _ in range(2))
    a[:, 4] = 0.0  # a dead feature: singular, as hidden units of a classifier can be
    cov_a, cov_b = torch.cov(a.T).numpy(), torch.cov(b.T).numpy()
    overlap = np.sqrt(np.linalg.eigvals(cov_a @ cov_b).real.clip(0)).sum()  # another route to the same trace
    expected = (a.mean(0) - b.mean(0)).square().sum().item() + np.trace(cov_a) + np.trace(cov_b) - 2 * overlap
    assert metrics.frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_effective_sample_size_at_its_two_ends() -> None:
    assert metrics.effective_sample_size(torch.zeros(50)) == pytest.approx(1.0)
    lonely = torch.full((50,), -1e4)
    lonely[7] = 0.0
    assert metrics.effective_sample_size(lonely) == pytest.approx(1 / 50)


def test_log_mean_exp() -> None:
    assert metrics.log_mean_exp(torch.tensor([1.0, 3.0]).log()) == pytest.approx(math.log(2.0))


@pytest.mark.parametrize(("n", "blocks"), [(1, 1), (57, 57), (100, 100), (257, 100), (10_000, 100)])
def test_block_means_weighted_by_their_rows_are_the_mean(n: int, blocks: int) -> None:
    scores = 100 + torch.randn(n, generator=torch.Generator().manual_seed(0))
    found = metrics.by_block(scores)
    sizes = np.diff([0, *found["x"]])
    assert (len(sizes), sizes.sum()) == (blocks, n) and sizes.max() - sizes.min() <= 1
    assert np.average(found["y"], weights=sizes) == pytest.approx(scores.double().mean().item(), rel=5e-7)
    assert found["y"][0] == pytest.approx(scores[: sizes[0]].double().mean().item(), rel=1e-6)


def test_a_block_with_a_score_that_is_not_finite_is_null() -> None:
    assert metrics.by_block(torch.tensor([1.0, -math.inf, math.nan]))["y"] == [1.0, None, None]


def test_total_variation_of_true_samples_is_noise_and_of_a_wrong_place_is_one() -> None:
    density = describe("checkerboard").density()
    generator = torch.Generator().manual_seed(0)
    assert metrics.total_variation(density.sample(10_000, generator), density).value < 0.2
    assert metrics.total_variation(torch.full((500, 2), 99.0), density).value == pytest.approx(1.0)


def test_a_density_above_the_truth_fails_its_gate() -> None:
    torch.manual_seed(0)
    log_p = torch.randn(1000)
    assert gates.not_above_truth(log_p - 0.1, log_p)["passed"]
    assert not gates.not_above_truth(log_p + 0.1, log_p)["passed"]


def test_a_density_that_does_not_integrate_to_one_fails_its_gate() -> None:
    points, area = metrics.box_grid(((-6.0, 6.0), (-6.0, 6.0)), (100, 106))
    log_q = -0.5 * points.square().sum(1) - math.log(2 * math.pi)
    inside = torch.zeros(1000, dtype=torch.bool)
    total, gate = gates.integrates_to_one(log_q, area, inside)
    assert total == pytest.approx(1.0, abs=1e-6)
    assert gate["passed"]
    assert not gates.integrates_to_one(log_q + 0.05, area, inside)[1]["passed"]


def test_mass_outside_the_box_is_added_before_the_gate_judges() -> None:
    outside = torch.zeros(10_000, dtype=torch.bool)
    outside[:2500] = True
    log_q = torch.full((10,), math.log(0.75 / 10))
    assert gates.integrates_to_one(log_q, 1.0, outside)[1]["passed"]


def test_a_bound_above_the_exact_value_fails_its_gate() -> None:
    torch.manual_seed(0)
    exact = torch.randn(500)
    good = gates.bounds_are_ordered({"lower_bound": exact - 0.2, "exact": exact})
    bad = gates.bounds_are_ordered({"lower_bound": exact + 0.2, "exact": exact})
    assert [g["passed"] for g in good.values()] == [True]
    assert [g["passed"] for g in bad.values()] == [False]
