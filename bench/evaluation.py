"""The one place where a likelihood becomes a number.

A model is scored on test rows exactly as the data set gives them, so nothing is corrected here: nats are
``log_prob``, bits per dimension are ``-log_prob / (D log 2)``. What the number is (exact, a bound, an ODE
estimate) comes with it from the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from bench import gates, metrics
from bench.datasets.base import DataSet
from bench.device import synchronised_seconds
from bench.features import classifier_features
from bench.metrics import Metric
from bench.sampling import counting, draw
from models.layer import Likelihood, Model

STEP_COUNTS = (2, 5, 10, 20, 50)  # sampling steps at which a multi-step sampler is tried
FRECHET_SAMPLES = 200  # the distance is biased by the number of samples, so every row gets the same number
SECOND_OPINION = 500  # test rows on which estimates beside the headline are computed
GRID_MARGIN = 0.25  # the integration box, wider than the density's own by this share on each side
OFF_DIAGONAL = 6  # more cells along y than along x: no midpoint lies on x = y, where sorting makes densities singular


@dataclass(frozen=True)
class Settings:
    """The evaluation section of a recipe, with its defaults."""

    test_points: int | None = None  # None: every test row
    samples: int = 10_000
    grid: int = 200  # cells per axis of the 2-D integral
    batch: int = 2_000


@dataclass
class Evaluation:
    """What evaluating one trained model yields; ``arrays`` go beside the record, the rest into it."""

    metrics: dict[str, Metric] = field(default_factory=dict)
    gates: gates.Gates = field(default_factory=dict)
    series: dict[str, dict] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


def evaluate(model: Model, data: DataSet, settings: Settings, seed: int, device: torch.device) -> Evaluation:
    """Score ``model`` on the test rows, sample it, and hold both against the truth where there is one."""
    torch.manual_seed(seed)
    found = Evaluation()
    test = data.test[: settings.test_points]
    if model.likelihood.kind != "none":
        _likelihoods(model, data, test, settings, device, found)
    try:
        samples = _samples(model, data, settings, device, found)
    except ArithmeticError as error:  # a latent whose inverse leaves the floating-point numbers: the scores stand
        found.gates["samples can be drawn"] = gates.verdict(False, str(error))
        return found
    if data.density is not None:
        _against_density(model, data, samples, settings, device, found)
    if data.spec.energy is not None and hasattr(model, "sample_with_log_prob"):
        _importance_weights(model, data, settings, found)
    if data.labels is not None and len(samples) >= FRECHET_SAMPLES:
        _image_quality(data, samples[:FRECHET_SAMPLES], found)
    return found


def score(log_prob: Callable[[Tensor], Tensor], x: Tensor, batch: int, device: torch.device) -> Tensor:
    """log p of each row of x, nats, (n,), on the CPU, in batches and without gradients."""
    with torch.no_grad():
        return torch.cat([log_prob(rows.to(device)).cpu() for rows in x.split(batch)])


def _likelihoods(
    model: Model, data: DataSet, test: Tensor, settings: Settings, device: torch.device, found: Evaluation
) -> None:
    scores: dict[str, Tensor] = {}
    for likelihood, log_prob in model.estimators():
        headline = not scores
        rows = test if headline else test[:SECOND_OPINION]
        with counting(model, data.spec.energy) as passes:
            started = synchronised_seconds(device)
            values = score(log_prob, rows, settings.batch, device)
            seconds = synchronised_seconds(device) - started
        scores[likelihood.kind] = values
        _likelihood_metrics(values, likelihood, data, headline, found)
        if headline:
            found.cost["likelihood_passes"] = passes.network / math.ceil(len(rows) / settings.batch)
            found.cost["seconds_per_1000_likelihoods"] = 1000 * seconds / len(rows)
            found.series["log_likelihood_by_block"] = metrics.by_block(values)
            found.arrays["log_prob"] = values.float().numpy()
            found.gates["finite scores"] = gates.all_finite(values, "test scores")
        if data.density is not None:
            _truth_gap(values, data, rows, likelihood, headline, found)
    _gaps(scores, model.estimators(), found)


def _gaps(scores: dict[str, Tensor], estimators: list, found: Evaluation) -> None:
    """What a second estimate adds to the headline on the same rows, and whether bounds are in their order."""
    paired = {kind: values[: min(map(len, scores.values()))] for kind, values in scores.items()}
    found.gates.update(gates.bounds_are_ordered(paired))
    (headline, _), *others = estimators
    for likelihood, _ in others:
        gap = paired[likelihood.kind] - paired[headline.kind]
        estimator = f"paired mean of {likelihood} minus {headline}"
        found.metrics[f"gap_to_{likelihood.kind}"] = metrics.mean_metric(gap, "nats", "lower", estimator)


def _likelihood_metrics(
    values: Tensor, likelihood: Likelihood, data: DataSet, headline: bool, found: Evaluation
) -> None:
    suffix = "" if headline else f"_{likelihood.kind}"
    found.metrics[f"log_likelihood{suffix}"] = metrics.mean_metric(values, "nats", "higher", str(likelihood))
    if data.kind == "image":
        bits = -values.double() / (data.spec.dim * math.log(2))
        found.metrics[f"bits_per_dim{suffix}"] = metrics.mean_metric(bits, "bits/dim", "lower", str(likelihood))


def _truth_gap(
    log_q: Tensor, data: DataSet, rows: Tensor, likelihood: Likelihood, headline: bool, found: Evaluation
) -> None:
    """KL(p || q) = E_p[log p - log q] over the test rows: exact truth, paired, so entropy's noise cancels."""
    log_p = data.density.log_prob(rows.double())
    found.gates[f"{likelihood.kind.replace('_', ' ')} not above the truth"] = gates.not_above_truth(log_q, log_p)
    if not headline:
        return
    estimator = "paired mean of log p - log q" + (
        "; an upper bound, q being a lower bound" if likelihood.is_bound else ""
    )
    found.metrics["kl_to_truth"] = metrics.mean_metric(log_p - log_q.double(), "nats", "lower", estimator)


def _samples(model: Model, data: DataSet, settings: Settings, device: torch.device, found: Evaluation) -> Tensor:
    with counting(model, data.spec.energy) as passes:
        started = synchronised_seconds(device)
        samples = draw(model, settings.samples, settings.batch)
        seconds = synchronised_seconds(device) - started
    batches = math.ceil(settings.samples / settings.batch)
    found.cost["sampling_passes"] = passes.network / batches
    found.cost["seconds_per_1000_samples"] = 1000 * seconds / settings.samples
    if data.spec.energy is not None:
        found.cost["energy_evaluations_per_sample"] = passes.energy / batches
    found.gates["finite samples"] = gates.all_finite(samples, "sample values")
    kept = samples[:100] if data.kind == "image" else samples[:5000]
    found.arrays["samples"] = kept.to(torch.uint8).numpy() if data.kind == "image" else kept.float().numpy()
    return samples


def _against_density(
    model: Model, data: DataSet, samples: Tensor, settings: Settings, device: torch.device, found: Evaluation
) -> None:
    density = data.density
    found.metrics["mass_outside"] = _mass_outside(data, samples)
    missed = density.modes_missed(samples.double())
    estimator = f"of {density.n_modes}; missed: under a tenth of its true mass in the samples"
    found.metrics["modes_missed"] = Metric(missed, "modes", "lower", len(samples), estimator)
    found.metrics["total_variation"] = metrics.total_variation(samples, density)
    if model.likelihood.kind in ("exact", "ode"):
        _integral(model, data, samples, settings, device, found)
    if hasattr(model, "sampling_steps"):
        found.series["mass_outside_by_steps"] = _mass_outside_by_steps(model, data, settings)


def _mass_outside(data: DataSet, samples: Tensor) -> Metric:
    outside = ~data.density.support(samples.double())
    return metrics.share_metric(outside, "samples outside the support (smooth densities: outside 99.9 % of the mass)")


def _mass_outside_by_steps(model: Model, data: DataSet, settings: Settings) -> dict:
    """The sampler re-run with fewer (and more) steps than it was trained for."""
    native, most = model.sampling_steps, getattr(model, "most_sampling_steps", math.inf)
    counts, shares = [steps for steps in STEP_COUNTS if steps <= most], []
    for steps in counts:
        model.sampling_steps = steps
        shares.append(_mass_outside(data, draw(model, min(settings.samples, 4000), settings.batch)).value)
    model.sampling_steps = native
    return {"x": counts, "y": shares, "x_label": "sampling steps", "y_label": "mass outside the support"}


def _integral(
    model: Model, data: DataSet, samples: Tensor, settings: Settings, device: torch.device, found: Evaluation
) -> None:
    box = tuple(
        (low - GRID_MARGIN * (high - low), high + GRID_MARGIN * (high - low)) for low, high in data.density.bounds
    )
    shape = (settings.grid, settings.grid + OFF_DIAGONAL)
    points, area = metrics.box_grid(box, shape)
    log_q = score(model.log_prob, points.float(), 20_000, device)
    low, high = (torch.tensor(side) for side in zip(*box, strict=True))
    outside = ~((samples >= low) & (samples <= high)).all(1)
    total, found.gates["integrates to one"] = gates.integrates_to_one(log_q, area, outside)
    found.metrics["integral"] = Metric(total, "mass", None, len(points), f"midpoint rule, {shape[0]}x{shape[1]} cells")
    # Stored as a picture: y down the rows, x along them.
    found.arrays["grid_log_density"] = log_q.reshape(shape).T.half().numpy()
    found.arrays["grid_box"] = np.array([*box[0], *box[1]], dtype=np.float32)


def _importance_weights(model: Model, data: DataSet, settings: Settings, found: Evaluation) -> None:
    """log w = -u(x) - log p(path): effective sample size, log Z and the free-energy difference of two modes."""
    sizes = [settings.batch] * max(1, settings.samples // settings.batch)
    device = next(model.parameters()).device
    started = synchronised_seconds(device)
    with torch.no_grad():
        draws = [model.sample_with_log_prob(size) for size in sizes]
        x = torch.cat([value for value, _ in draws])
        log_w = -data.spec.energy(x) - torch.cat([log_q for _, log_q in draws])
    seconds = synchronised_seconds(device) - started
    x, log_w = x.cpu().double(), log_w.cpu().double()
    n = len(x)
    ess = metrics.effective_sample_size(log_w)
    found.metrics["ess"] = Metric(ess, "share", "higher", n, "(Σw)² / (n Σw²) of path weights")
    found.cost["ess_per_second"] = ess * n / seconds
    found.metrics["log_z_error"] = Metric(
        abs(metrics.log_mean_exp(log_w) - data.density.log_partition), "nats", "lower", n, "|log mean w - log Z|"
    )
    if data.density.n_modes == 2:
        _free_energy(x, log_w, data, found)


def _free_energy(x: Tensor, log_w: Tensor, data: DataSet, found: Evaluation) -> None:
    """|ΔF - exact|, ΔF = log P(mode 1) / P(mode 0) in kT, from plain samples and from reweighted ones."""
    first = data.density.mode_of(x) == 0
    exact = data.density.free_energy_difference
    n = len(x)
    plain = math.log(max((~first).sum().item(), 0.5) / max(first.sum().item(), 0.5))
    none = torch.tensor(-math.inf, dtype=log_w.dtype)
    half = metrics.log_mean_exp(log_w) + math.log(0.5)  # an empty mode counts as half a sample, here as above
    masses = [max(torch.logsumexp(torch.where(side, log_w, none), 0).item(), half) for side in (~first, first)]
    reweighted = masses[0] - masses[1]
    for name, value in (("free_energy_bias", plain), ("free_energy_bias_reweighted", reweighted)):
        estimator = f"|ΔF - {exact:.4f}|, {'path weights' if 'reweighted' in name else 'plain samples'}"
        found.metrics[name] = Metric(abs(value - exact), "kT", "lower", n, estimator)


def _image_quality(data: DataSet, samples: Tensor, found: Evaluation) -> None:
    features = classifier_features(data)
    distance = metrics.frechet_distance(features(samples), features(data.test))
    estimator = "Fréchet distance in the hidden layer of a classifier trained here on the training labels (not FID)"
    found.metrics["frechet_distance"] = Metric(distance, "squared feature distance", "lower", len(samples), estimator)
