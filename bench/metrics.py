"""Numbers that judge samples and densities against a truth; each says its unit and which way is better."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from bench.datasets.densities.analytic import AnalyticDensity
from bench.records import Metric, finite

HISTOGRAM_CELLS = 40  # per axis: at 10,000 samples the truth itself scores about .15
BLOCKS = 100  # of test rows, at most: enough for a standard error, few enough to stand in every record


def mean_metric(values: Tensor, unit: str, better: str | None, estimator: str) -> Metric:
    """Mean over examples with the standard error of that mean."""
    values = values.double()
    error = values.std().item() / math.sqrt(len(values))
    return Metric(
        values.mean().item(), unit, better, len(values), estimator, (error, "standard error of the mean over examples")
    )


def by_block(scores: Tensor) -> dict:
    """Means of the scores of the test rows, (n,) nats, over consecutive blocks of them, as a series of a record.

    Every model scores the same rows in the same order, so block k of one pairs with block k of another; the blocks are
    consecutive, so that what neighbouring rows share stays within one. ``x`` counts the rows up to the end of each
    block, whose sizes differ by one at most. Seven digits are those of float32.
    """
    blocks = scores.double().tensor_split(min(BLOCKS, len(scores)))
    return {
        "x": list(itertools.accumulate(map(len, blocks))),
        "y": [finite(float(f"{block.mean():.7g}")) for block in blocks],
        "x_label": "test rows up to the end of the block",
        "y_label": "mean log-likelihood of the block, nats",
    }


def share_metric(hits: Tensor, estimator: str, better: str | None = "lower") -> Metric:
    """A proportion with its binomial standard error."""
    n, p = len(hits), hits.double().mean().item()
    return Metric(p, "share", better, n, estimator, (math.sqrt(p * (1 - p) / n), "binomial standard error"))


def total_variation(samples: Tensor, density: AnalyticDensity) -> Metric:
    """½ Σ |p̂ - p| over a 40 x 40 histogram of the density's box plus one cell for everything outside it."""
    (x0, x1), (y0, y1) = density.bounds
    cells = HISTOGRAM_CELLS
    size = torch.tensor([x1 - x0, y1 - y0], dtype=torch.float64)
    index = ((samples.double() - torch.tensor([x0, y0], dtype=torch.float64)) / size * cells).floor()
    inside = ((index >= 0) & (index < cells) & samples.isfinite()).all(1)
    flat = torch.where(inside, index[:, 0] * cells + index[:, 1], cells**2).long()
    found = torch.bincount(flat, minlength=cells**2 + 1) / len(samples)
    truth = torch.cat([cell_masses(density, cells), torch.zeros(1, dtype=torch.float64)])
    distance = 0.5 * (found - truth).abs().sum().item()
    return Metric(distance, "total variation", "lower", len(samples), f"{cells}x{cells} histogram of samples")


def cell_masses(density: AnalyticDensity, cells: int, fine: int = 10) -> Tensor:
    """The truth's probability of each histogram cell, by the midpoint rule on ``fine`` x ``fine`` points a cell."""
    points, area = box_grid(density.bounds, (cells * fine, cells * fine))
    mass = density.log_prob(points).exp() * area
    grid = mass.reshape(cells, fine, cells, fine).sum((1, 3))
    return (grid / grid.sum()).reshape(-1)


def box_grid(bounds: tuple[tuple[float, float], tuple[float, float]], cells: tuple[int, int]) -> tuple[Tensor, float]:
    """Midpoints of a grid of ``cells`` (along x, along y), x slowest, (cells, 2) in float64, and one cell's area."""
    axes, area = [], 1.0
    for (low, high), n in zip(bounds, cells, strict=True):
        axes.append(low + (high - low) * (torch.arange(n, dtype=torch.float64) + 0.5) / n)
        area *= (high - low) / n
    return torch.cartesian_prod(*axes), area


def effective_sample_size(log_weights: Tensor) -> float:
    """(Σ w)² / (n Σ w²), the share of samples that importance weights leave effective."""
    log_w = log_weights.double()
    return math.exp(2 * torch.logsumexp(log_w, 0).item() - torch.logsumexp(2 * log_w, 0).item()) / len(log_w)


def log_mean_exp(log_weights: Tensor) -> float:
    return torch.logsumexp(log_weights.double(), 0).item() - math.log(len(log_weights))


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """|μ_a - μ_b|² + tr(Σ_a + Σ_b - 2 (Σ_a^½ Σ_b Σ_a^½)^½) between Gaussians fitted to features (n, d).

    (Dowson and Landau 1982.) With features of a classifier trained here this is not FID and never called so.
    """
    a, b = a.double(), b.double()
    cov_a, cov_b = torch.cov(a.T), torch.cov(b.T)
    values, vectors = torch.linalg.eigh(cov_a)
    root_a = vectors @ (values.clamp(min=0).sqrt()[:, None] * vectors.T)  # symmetric, so dead features do no harm
    overlap = torch.linalg.eigvalsh(root_a @ cov_b @ root_a).clamp(min=0).sqrt().sum()
    distance = (a.mean(0) - b.mean(0)).square().sum() + cov_a.trace() + cov_b.trace() - 2 * overlap
    return distance.item()
