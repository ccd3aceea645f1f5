"""Synthetic records that satisfy the schema, and a whole plausible run of them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bench import records
from bench.recipes import Recipe

UNITS = {
    "log_likelihood": ("nats", "higher"), "log_likelihood_importance_bound": ("nats", "higher"),
    "log_likelihood_ode": ("nats", "higher"), "log_likelihood_lower_bound": ("nats", "higher"),
    "gap_to_importance_bound": ("nats", "lower"),
    "bits_per_dim": ("bits/dim", "lower"), "kl_to_truth": ("nats", "lower"), "mass_outside": ("share", "lower"),
    "modes_missed": ("modes", "lower"), "total_variation": ("total variation", "lower"), "integral": ("mass", None),
    "frechet_distance": ("squared feature distance", "lower"), "ess": ("share", "higher"),
    "log_z_error": ("nats", "lower"), "free_energy_bias": ("kT", "lower"),
    "free_energy_bias_reweighted": ("kT", "lower"),
}  # fmt: skip


def metric(name: str, value: float | None) -> dict:
    unit, better = UNITS[name]
    spread = (
        {"value": 0.01, "kind": "standard error of the mean over examples"} if unit in ("nats", "bits/dim") else None
    )
    return {
        "value": value,
        "unit": unit,
        "better": better,
        "n": 10_000,
        "estimator": "synthetic",
        "uncertainty": spread,
    }


def record(
    row: str = "realnvp",
    dataset: str = "checkerboard",
    seed: int = 0,
    *,
    group: str = "normalizing flow",
    kind: str = "toy",
    tier: str = "quick",
    likelihood: str = "exact",
    status: str = "ok",
    reason: str | None = None,
    metrics: Mapping[str, float | None] | None = None,
    cost: Mapping[str, float | None] | None = None,
    gates: Mapping[str, tuple[bool, str]] | None = None,
    series: Mapping[str, tuple[list, list]] | None = None,
    flags: tuple[str, ...] = (),
    name: str | None = None,
    dequantization: str = "none",
) -> dict:
    levels = 17 if kind == "image" else None
    return {
        "schema": records.SCHEMA_VERSION,
        "run": {"tier": tier, "row": row, "name": name or row, "group": group, "dataset": dataset, "seed": seed},
        "status": status,
        "reason": reason,
        "likelihood": {"kind": likelihood, "importance_samples": None, "solver": None},
        "metrics": {key: metric(key, value) for key, value in (metrics or {}).items()},
        "gates": {key: {"passed": passed, "detail": detail} for key, (passed, detail) in (gates or {}).items()},
        "series": {
            key: {"x": x, "y": y, "x_label": "training steps", "y_label": "validation, nats"}
            for key, (x, y) in (series or {}).items()
        },
        "comparability": {
            "likelihood": likelihood, "dequantization": dequantization, "preprocessing": "standardized", "tier": tier,
            "flags": list(flags), "budget": tier, "test_rows": 10_000,
        },
        "settings": {"family": row, "model": {}, "training": {"steps": 100}, "evaluation": {}},
        "settings_sha256": "0" * 64,
        "data": {
            "md5": "d" * 32, "splits": {"train": 100, "val": 10, "test": 10},
            "shape": [1, 8, 8] if kind == "image" else [2], "levels": levels, "kind": kind,
        },
        "code": {"commit": "c" * 40, "dirty": False, "source_sha256": "5" * 64},
        "environment": {"python": "3.13", "torch": "2.13", "device": "cpu"},
        "cost": {"steps": 100, "parameters": 5000, "train_seconds": 5.0, **(cost or {})},
    }  # fmt: skip


def seeds(
    values: Mapping[str, tuple[float, ...]],
    row: str,
    dataset: str,
    costs: Mapping[str, tuple[float, ...]] | None = None,
    **options,
) -> list[dict]:
    """One record per seed: metric -> one value per seed."""
    columns = {**values, **(costs or {})}
    count = len(next(iter(columns.values())))
    return [
        record(
            row, dataset, seed,
            metrics={key: column[seed] for key, column in values.items()},
            cost={key: column[seed] for key, column in (costs or {}).items()}, **options,
        )
        for seed in range(count)
    ]  # fmt: skip


def scored(
    scores: Sequence[Sequence[float]], row: str, metric: str = "log_likelihood", blocks: int | None = None, **options
) -> list[dict]:
    """One record per seed from its scores of every test row, the metric's unit: their mean, and block means in nats.

    ``blocks``: how many; by default each test row is one.
    """
    found = []
    for seed, values in enumerate(np.asarray(scores, dtype=float)):
        item = record(row, seed=seed, metrics={metric: values.mean()}, **options)
        bits = -np.log(2) * np.prod(item["data"]["shape"])
        nats = values * {"log_likelihood": 1.0, "kl_to_truth": -1.0, "bits_per_dim": bits}[metric]
        item["series"] |= by_block(np.array_split(nats, blocks or len(nats)))
        item["comparability"]["test_rows"] = len(values)
        found.append(item)
    return found


def by_block(parts: Sequence[Sequence[float]]) -> dict:
    """The series that a record keeps of its test rows' log-likelihoods, given block by block."""
    x, y = np.cumsum([len(part) for part in parts]).tolist(), [float(np.mean(part)) for part in parts]
    return {"log_likelihood_by_block": {"x": x, "y": y, "x_label": "test rows", "y_label": "nats"}}


def recipe(row: str, group: str = "normalizing flow", published: Mapping[str, Mapping] | None = None) -> Recipe:
    return Recipe(row, row.upper(), group, row, "a paper", (), {}, published or {}, {})


def write(found: list[dict], cells: Path) -> None:
    for item in found:
        run = item["run"]
        records.write(item, cells / run["dataset"] / run["row"] / f"seed{run['seed']}.json")


# --- a whole run -----------------------------------------------------------------------------------------------------

ROWS = {
    # id: (name, group, likelihood, quality: smaller is better, passes, training speed)
    "realnvp": ("RealNVP", "normalizing flow", "exact", 0.9, 1, 1.0),
    "maf": ("MAF", "normalizing flow", "exact", 0.8, 2, 1.0),
    "rq-nsf-ar": ("RQ-NSF(AR)", "normalizing flow", "exact", 0.3, 2, 2.0),
    "ffjord": ("FFJORD", "continuous flow", "ode", 0.6, 80, 6.0),
    "vae": ("VAE", "VAE", "lower_bound", 1.5, 1, 0.5),
    "ddpm": ("DDPM", "diffusion", "lower_bound", 0.7, 100, 1.0),
    "ddpm-simple": ("DDPM (simple loss)", "diffusion", "lower_bound", 0.6, 100, 1.0),
    "score-sde": ("Score SDE (VP)", "score-based", "ode", 0.6, 200, 1.0),
    "flow-matching": ("Flow matching", "flow matching", "ode", 0.5, 60, 0.8),
    "survae-baseline": ("SurVAE baseline", "SurVAE flow", "exact", 0.9, 1, 1.0),
    "abs-flow": ("AbsFlow", "SurVAE flow", "exact", 0.2, 1, 1.0),
    "signed-abs-flow": ("AbsFlow (learned sign)", "SurVAE flow", "exact", 0.2, 1, 1.0),
    "diffflow": ("DiffFlow", "DiffFlow", "lower_bound", 0.5, 20, 5.0),
    "gan": ("GAN", "GAN", "none", 1.4, 1, 2.0),
}
TOYS = ("checkerboard", "corners", "eight-gaussians", "four-circles", "two-spirals", "rings")
WELL = {"snf-none": (0.5, 0), "snf-metropolis": (0.2, 20), "snf-langevin": (0.25, 20), "snf-underdamped": (0.22, 20),
        "snf-metropolis-2": (0.42, 2), "snf-metropolis-5": (0.33, 5)}  # fmt: skip
IMAGES = ("realnvp", "glow", "survae-image-baseline", "max-pool-flow", "vae", "ddpm", "ddpm-simple", "pixelcnn", "gan")


def run(tier: str = "quick", n: int = 3) -> list[dict]:
    """A plausible quick run: toys, energies, digits, two tabular sets; one diverged run, one failed gate."""
    rng = random.Random(0)
    found = [_toy(row, dataset, s, rng, tier) for dataset in TOYS for row in ROWS for s in range(n)]
    found += [
        _energy(row, dataset, s, rng, tier)
        for dataset in ("double-well", "gaussian-mixture")
        for row in WELL
        for s in range(n)
    ]
    found += [_image(row, s, rng, tier) for row in IMAGES for s in range(n)]
    found += [
        _tabular(row, d, s, rng, tier)
        for d in ("breast-cancer", "photo-patches")
        for row in ("realnvp", "maf", "rq-nsf-ar", "vae")
        for s in range(n)
    ]
    return sorted(found, key=records.identity)


def _curve(end: float, rng: random.Random) -> dict:
    x = list(range(100, 2001, 100))
    return {"validation": (x, [end + 2.0 * 0.8**i + rng.gauss(0, 0.02) for i in range(len(x))])}


def _common_cost(passes: float, speed: float, rng: random.Random) -> dict:
    def j(value: float) -> float:
        return value * (1 + rng.gauss(0, 0.05))

    return {
        "steps": 2000, "parameters": 21_000 + 500 * passes, "train_seconds": j(6 * speed), "evaluation_seconds": j(1.0),
        "cpu_seconds": j(8.0), "peak_memory_mb": 420.0, "steps_to_within": 900.0, "seconds_to_within": j(3 * speed),
        "sampling_passes": passes, "seconds_per_1000_samples": j(0.004 * passes), "likelihood_passes": passes,
        "seconds_per_1000_likelihoods": j(0.004 * passes),
    }  # fmt: skip


def _toy(row: str, dataset: str, seed: int, rng: random.Random, tier: str) -> dict:
    name, group, kind, quality, passes, speed = ROWS[row]
    noisy = quality * (1 + rng.gauss(0, 0.04))
    metrics = {"mass_outside": 0.08 * noisy, "modes_missed": float(row == "gan"), "total_variation": 0.15 + 0.1 * noisy}
    if kind != "none":
        metrics |= {"log_likelihood": -3.4 - 0.3 * noisy, "kl_to_truth": 0.3 * noisy}
    if kind == "lower_bound":
        metrics["log_likelihood_importance_bound"] = metrics["log_likelihood"] + 0.05
        metrics["gap_to_importance_bound"] = 0.05
    series = _curve(3.4 + 0.3 * noisy, rng)
    if passes >= 20:
        series["mass_outside_by_steps"] = ([2, 5, 10, 20, 50], [noisy * v for v in (0.5, 0.3, 0.18, 0.1, 0.08)])
    broken = row == "maf" and dataset == "rings"
    if row == "ffjord" and dataset == "four-circles" and seed == 1:
        return record(row, dataset, seed, group=group, likelihood=kind, name=name, tier=tier, status="diverged",
                      reason="the loss was not finite at step 412")  # fmt: skip
    return record(
        row, dataset, seed, group=group, likelihood=kind, name=name, tier=tier, metrics=metrics, series=series,
        cost=_common_cost(passes, speed, rng),
        gates={"integrates to one": (not broken, f"integral {0.93 if broken else 1.0:.4f} on 40000 cells")},
    )  # fmt: skip


def _energy(row: str, dataset: str, seed: int, rng: random.Random, tier: str) -> dict:
    level, steps = WELL[row]
    noisy = level * (1 + rng.gauss(0, 0.08))
    metrics = {
        "total_variation": noisy, "modes_missed": round(4 * level), "mass_outside": 0.1 * noisy,
        "ess": 0.9 - noisy, "log_z_error": 0.2 * noisy, "free_energy_bias": 2 * noisy,
        "free_energy_bias_reweighted": 0.5 * noisy, "log_likelihood": -2.0 - noisy,
    }  # fmt: skip
    cost = _common_cost(1, 1 + steps / 10, rng) | {
        "energy_evaluations_per_sample": 3.0 * steps, "ess_per_second": 1e6 * (0.9 - noisy) / (1 + steps / 4),
        "seconds_per_1000_samples": (0.004 + 0.001 * steps) * (1 + rng.gauss(0, 0.02)),
    }  # fmt: skip
    kind = "exact" if row == "snf-none" else "lower_bound"
    group = "stochastic normalizing flow"
    return record(row, dataset, seed, group=group, kind="energy", likelihood=kind, tier=tier,
                  metrics=metrics, cost=cost, series=_curve(2 + noisy, rng), name=row.upper())  # fmt: skip


def _image(row: str, seed: int, rng: random.Random, tier: str) -> dict:
    groups = {
        "glow": "normalizing flow",
        "survae-image-baseline": "SurVAE flow",
        "max-pool-flow": "SurVAE flow",
        "pixelcnn": "autoregressive",
    }
    group = groups.get(row) or ROWS[row][1]
    kind = {"pixelcnn": "exact", "gan": "none"}.get(row, "lower_bound")
    metrics = {"frechet_distance": rng.gauss(12, 0.4)}
    if kind != "none":
        metrics |= {"bits_per_dim": rng.gauss(2.2, 0.01), "log_likelihood": rng.gauss(-97, 0.4)}
    passes = {"ddpm": 100, "ddpm-simple": 100, "pixelcnn": 64}.get(row, 1)
    return record(row, "digits", seed, group=group, kind="image", likelihood=kind, tier=tier, metrics=metrics, name=row,
                  dequantization="uniform", cost=_common_cost(passes, 1, rng), series=_curve(97, rng))  # fmt: skip


def _tabular(row: str, dataset: str, seed: int, rng: random.Random, tier: str) -> dict:
    name, group, kind, quality, passes, speed = ROWS[row]
    value = {"breast-cancer": 2.0, "photo-patches": 140.0}[dataset] - 3 * quality
    return record(row, dataset, seed, group=group, kind="tabular", likelihood=kind, tier=tier, name=name,
                  metrics={"log_likelihood": rng.gauss(value, 0.1)}, cost=_common_cost(passes, speed, rng),
                  series=_curve(-value, rng))  # fmt: skip


def artifacts(found: list[dict], cells: Path) -> None:
    """Pictures beside the first seed's records: blurred densities, noisy digits."""
    generator = np.random.default_rng(0)
    for item in found:
        run = item["run"]
        if run["seed"] or item["status"] != "ok":
            continue
        arrays: dict[str, np.ndarray] = {}
        if item["data"]["kind"] == "image":
            arrays["samples"] = generator.integers(0, 17, (100, 1, 8, 8)).astype(np.uint8)
        elif item["data"]["shape"] == [2]:
            centres = 2.8 * np.stack([np.cos(a := np.arange(8) * np.pi / 4), np.sin(a)], 1)
            arrays["samples"] = (
                centres[generator.integers(0, 8, 5000)] + 0.4 * generator.normal(size=(5000, 2))
            ).astype(np.float32)
            if item["likelihood"]["kind"] in ("exact", "ode"):
                axis = np.linspace(-6, 6, 200)
                x, y = np.meshgrid(axis, axis)
                density = sum(np.exp(-((x - a) ** 2 + (y - b) ** 2) / 0.5) for a, b in centres) / (8 * np.pi * 0.5)
                arrays["grid_log_density"] = np.log(density + 1e-9).astype(np.float16)
                arrays["grid_box"] = np.array([-6, 6, -6, 6], dtype=np.float32)
        if arrays:
            np.savez_compressed(cells / run["dataset"] / run["row"] / "seed0.npz", **arrays)
