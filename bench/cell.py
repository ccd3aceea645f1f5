"""One cell, from recipe to records: build, train, evaluate, write; once per seed."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from bench import provenance, records
from bench.config import Config
from bench.datasets.base import DataSet, check_rows, load
from bench.device import select_device
from bench.errors import UserError
from bench.evaluation import Evaluation, Settings, evaluate
from bench.paths import replacing
from bench.recipes import Cell, digest
from bench.sampling import draw
from bench.seeds import derive
from bench.training import Outcome, Trainer, Training, save_state
from bench.training.ensemble import side_by_side
from models.layer import Model
from models.registry import build

Progress = Callable[[int, float], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """One repetition of a cell on one device."""

    cell: Cell
    config: Config
    data: DataSet
    repetition: int
    device: torch.device

    @property
    def path(self) -> Path:
        return self.config.cell_folder(self.cell.row, self.cell.dataset) / f"seed{self.repetition}.json"

    def seed(self, axis: str) -> int:
        return derive(self.config.seed, axis, self.repetition)


def load_data(config: Config, dataset: str) -> DataSet:
    folder = config.prepared(dataset)
    if not (folder / "meta.json").exists():
        raise UserError(f"{folder} is not prepared; run `relaxbench prepare {dataset} --tier {config.tier.name}` first")
    data = load(folder)
    check_rows(data, folder)
    return data


def train_cell(
    cell: Cell,
    config: Config,
    progress: Callable[[Sequence[Run]], Progress],
    log: Callable[[str], None],
    budget: float = math.inf,
) -> list[dict]:
    """Every repetition of a cell; returns its records, which lie in the cell's folder.

    On a GPU the repetitions train side by side, if the model lets them. ``budget`` seconds of training are shared by
    the repetitions; a run that it stops is flagged ``reduced``. A run that diverges or fails on its own account is a
    record too; only the user's mistakes raise.
    """
    device = select_device(config.device)
    data = load_data(config, cell.dataset)
    runs = [Run(cell, config, data, repetition, device) for repetition in config.tier.seeds]
    first = data.train[: cell.training.get("batch", Training.batch)].to(device)
    together = len(runs) > 1 and side_by_side(build_model(runs[0]), first)
    groups = [runs] if together else [[run] for run in runs]
    found = []
    for group in groups:
        for record in run_together(group, progress(group), budget / len(groups)):
            log(summary(record))
            found.append(record)
    return found


def run_together(runs: Sequence[Run], progress: Progress | None = None, budget: float = math.inf) -> list[dict]:
    """Train repetitions of a cell side by side, then evaluate each and write its record."""
    cpu = time.process_time()
    models = [build_model(run) for run in runs]
    trainer = trainer_of(runs, models)
    for run in runs:
        for suffix in (".json", ".npz", ".pt"):  # what an earlier run left must not stand beside this one's
            run.path.with_suffix(suffix).unlink(missing_ok=True)
    outcomes, failure = attempt(runs[0], lambda: trainer.run(checkpoint_path(runs), identity(runs), progress, budget))
    shared = {"cpu_seconds": time.process_time() - cpu, "seeds_together": len(runs)}
    found = [
        _conclude(run, model, outcome, failure, shared)
        for run, model, outcome in zip(runs, models, outcomes or [None] * len(runs), strict=True)
    ]
    if not any(outcome.stopped for outcome in outcomes or ()):
        checkpoint_path(runs).unlink(missing_ok=True)
    return found


def _conclude(
    run: Run, model: Model, outcome: Outcome | None, failure: str | None, shared: Mapping[str, float]
) -> dict:
    """Evaluate what training left of one repetition, and write its record and what lies beside it."""
    cpu, started = time.process_time(), time.perf_counter()
    evaluation, status = Evaluation(), "ok"
    if outcome is None:
        status = "failed"
    elif outcome.diverged:
        status, failure = "diverged", outcome.diverged
    else:
        settings = Settings(**run.cell.evaluation)
        found, failure = attempt(
            run, lambda: evaluate(outcome.model, run.data, settings, run.seed("evaluation"), run.device)
        )
        evaluation, status = (found, "ok") if found else (evaluation, "failed")
        evaluation.cost["evaluation_seconds"] = time.perf_counter() - started
    evaluation.cost |= _cost(model, outcome) | shared
    evaluation.cost["cpu_seconds"] += time.process_time() - cpu
    record = assemble(run, model, evaluation, outcome, status, failure)
    if evaluation.arrays:
        with replacing(run.path.with_suffix(".npz")) as part, part.open("wb") as file:
            np.savez_compressed(file, **evaluation.arrays)
    if outcome and not outcome.diverged:
        save_state(outcome.model.state_dict(), run.path.with_suffix(".pt"))
    records.write(record, run.path)
    return record


def attempt(run: Run, work: Callable[[], T]) -> tuple[T | None, str | None]:
    """What ``work`` gives; or why a number inside torch, torchdiffeq or scipy failed it: a result of this row, not
    the user's mistake."""
    try:
        return work(), None
    except ValueError as error:  # a setting that only the data show to be wrong
        raise _mistake(run, error) from None
    except (RuntimeError, ArithmeticError, AssertionError) as error:
        if isinstance(error, torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise UserError(
                f"{run.cell.row} on {run.cell.dataset}: out of memory; use a smaller batch in its recipe"
            ) from None
        return None, " ".join(f"{type(error).__name__}: {error}".split())[:500]


def sample_trained(cell: Cell, config: Config, repetition: int, count: int) -> np.ndarray:
    """``count`` samples, (count, *shape), from the weights that ``train`` left; UserError if there are none."""
    device = select_device(config.device)
    run = Run(cell, config, load_data(config, cell.dataset), repetition, device)
    weights = run.path.with_suffix(".pt")
    if not weights.exists():
        hint = f"relaxbench train {cell.row} {cell.dataset} --tier {config.tier.name}"
        raise UserError(f"{weights} is not there: this row is not trained; run `{hint}` first")
    model = build_model(run)
    model.load_state_dict(torch.load(weights, map_location=device, weights_only=True))
    torch.manual_seed(run.seed("evaluation"))
    return draw(model.eval(), count).numpy()


def checkpoint_path(runs: Sequence[Run]) -> Path:
    name = "-".join(str(run.repetition) for run in runs)
    return runs[0].path.with_name(f"seed{name}.ckpt")


def build_model(run: Run) -> Model:
    """The family's model under the repetition's own initialisation; a bad hyperparameter is the user's mistake."""
    torch.manual_seed(run.seed("init"))
    try:
        return build(run.cell.recipe.family, run.data.spec, **run.cell.model).to(run.device)
    except (ValueError, TypeError) as error:
        raise _mistake(run, error) from None


def trainer_of(runs: Sequence[Run], models: Sequence[Model]) -> Trainer:
    run = runs[0]
    if "steps" not in run.cell.training:
        raise UserError(
            f"recipes/{run.cell.row}.yaml: training.steps is missing for {run.cell.dataset}; say how long to train"
        )
    seeds = [{axis: run.seed(axis) for axis in ("batch order", "noise", "evaluation")} for run in runs]
    train, val = (split.to(run.device) for split in (run.data.train, run.data.val))
    try:
        return Trainer(models, Training(**run.cell.training), train, val, seeds)
    except ValueError as error:
        raise _mistake(run, error) from None


def _mistake(run: Run, error: Exception) -> UserError:
    return UserError(f"recipes/{run.cell.row}.yaml on {run.cell.dataset}: {error}")


def identity(runs: Sequence[Run]) -> str:
    """What a checkpoint must share with the runs that resume it."""
    run = runs[0]
    machine = [run.device.type, torch.__version__]
    repetitions = [run.repetition for run in runs]
    parts = [run.cell.settings(), run.data.md5, repetitions, run.config.seed, provenance.source_hash(), machine]
    return digest(parts)


def assemble(
    run: Run, model: Model, evaluation: Evaluation, outcome: Outcome | None, status: str, reason: str | None
) -> dict:
    """The record, as its schema wants it."""
    cell, data = run.cell, run.data
    series = dict(evaluation.series)
    if outcome and outcome.curve.steps:
        curve = {"x": outcome.curve.steps, "y": [records.finite(y) for y in outcome.curve.nats]}
        series["validation"] = {
            **curve,
            "x_label": "training steps",
            "y_label": "validation, nats per example (lower is better)",
        }
    settings = cell.settings()
    return {
        "schema": records.SCHEMA_VERSION,
        "run": {
            "tier": run.config.tier.name,
            "row": cell.row,
            "name": cell.recipe.row,
            "group": cell.recipe.group,
            "dataset": cell.dataset,
            "seed": run.repetition,
        },
        "status": status,
        "reason": reason,
        "likelihood": dict(model.likelihood.__dict__),
        "metrics": {name: metric.to_json() for name, metric in evaluation.metrics.items()},
        "gates": evaluation.gates,
        "series": series,
        "comparability": comparability(run, model, outcome),
        "settings": settings,
        "settings_sha256": digest(settings),
        "data": {
            "md5": data.md5,
            "kind": data.kind,
            "splits": {"train": len(data.train), "val": len(data.val), "test": len(data.test)},
            "shape": list(data.spec.shape),
            "levels": data.spec.levels,
        },
        "code": provenance.code(),
        "environment": provenance.environment(run.device),
        "cost": {name: records.finite(value) for name, value in evaluation.cost.items()},
    }


def comparability(run: Run, model: Model, outcome: Outcome | None) -> dict:
    """Two cells are ranked against each other only where all of this agrees."""
    layers = [type(layer).__name__ for layer in getattr(getattr(model, "chain", None), "layers", [])]
    dequantization = next((name for name in layers if "Dequantization" in name), "none")
    cut = budget_cut(run.cell, outcome)
    budget = "as published" if run.config.tier.name == "paper" else run.config.tier.name
    return {
        "likelihood": str(model.likelihood),
        "dequantization": dequantization.replace("Dequantization", "").lower() or "none",
        "preprocessing": run.data.preprocessing,
        "test_rows": min(len(run.data.test), Settings(**run.cell.evaluation).test_points or len(run.data.test)),
        "tier": run.config.tier.name,
        "flags": list(dict.fromkeys([*run.data.flags, *(["reduced"] if cut else [])])),
        "budget": cut or budget,
    }


def budget_cut(cell: Cell, outcome: Outcome | None) -> str | None:
    """How a run fell short of its recipe's steps, None if it did not."""
    steps = cell.training["steps"]
    if outcome is not None and outcome.stopped:
        return f"stopped after {outcome.steps:,} of {cell.whole or steps:,} steps"
    return f"{steps:,} of {cell.whole:,} steps, the schedule compressed" if cell.whole else None


def _cost(model: Model, outcome: Outcome | None) -> dict[str, float]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cost: dict[str, float] = {
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "peak_memory_mb": peak / (1024**2 if sys.platform == "darwin" else 1024),
    }
    if torch.cuda.is_available():
        cost["peak_gpu_memory_mb"] = torch.cuda.max_memory_allocated() / 1024**2
    if outcome:
        cost |= {"steps": outcome.steps, "train_seconds": outcome.seconds}
        if reached := outcome.curve.within():
            cost["steps_to_within"], cost["seconds_to_within"] = reached
    return cost


def summary(record: dict) -> str:
    """One line for people: what came out."""
    run = record["run"]
    head = f"{run['name']} on {run['dataset']}, seed {run['seed']}: {record['status']}"
    if record["status"] != "ok":
        return f"{head}: {record['reason']}"
    shown = [
        f"{k} {m['value']:.4g} {m['unit']}"
        for k, m in record["metrics"].items()
        if k in HEADLINES and m["value"] is not None
    ]
    failed = [name for name, gate in record["gates"].items() if not gate["passed"]]
    marks = f" [failed gates: {', '.join(failed)}]" if failed else ""
    return f"{head}, {', '.join(shown)}{marks} ({record['cost']['train_seconds']:.1f} s training)"


HEADLINES = ("log_likelihood", "bits_per_dim", "kl_to_truth", "mass_outside", "ess", "frechet_distance")
