"""The one training loop: every family, every tier, interrupted or not.

Randomness comes from three streams derived from one number: initialisation, batch order and noise
(dropout, dequantization, diffusion times). A checkpoint holds all of them, so a resumed run ends in the
same bits as an uninterrupted one.
"""

from __future__ import annotations

import copy
import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from bench.paths import replacing
from models.layer import Model

CHECK_EVERY = 50  # steps between host synchronisations that look for a loss that is not finite


@dataclass(frozen=True)
class Training:
    """The training section of a recipe, with its defaults."""

    steps: int
    batch: int = 256
    lr: float = 1e-3
    optimizer: str = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    schedule: str = "constant"
    halve_every: int | None = None  # steps after which the learning rate is halved, again and again
    clip: float | None = None
    ema: float | None = None
    validate_every: int | None = None  # None: ten times per run
    validation_points: int = 500
    patience: int | None = None  # validations without improvement before the run stops
    select: str = "best"  # which parameters the run ends with

    def decay(self, step: int) -> float:
        """The factor of the learning rate after ``step`` steps."""
        halved = 0.5 ** (step // self.halve_every) if self.halve_every else 1.0
        return halved * (0.5 * (1 + math.cos(math.pi * step / self.steps)) if self.schedule == "cosine" else 1.0)

    @property
    def validation_interval(self) -> int:
        return self.validate_every or max(1, self.steps // 10)


class Diverged(Exception):
    """Training met a loss that is not finite; the message says where."""


@dataclass
class Curve:
    """Validation score, nats per example (lower is better), with the steps and seconds that led to it."""

    steps: list[int] = field(default_factory=list)
    nats: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def within(self, nats: float = 0.1) -> tuple[int, float] | None:
        """First step and second at which the curve is within ``nats`` of its best value."""
        if not self.nats:
            return None
        reached = next(i for i, value in enumerate(self.nats) if value <= min(self.nats) + nats)
        return self.steps[reached], self.seconds[reached]


@dataclass(frozen=True)
class Outcome:
    model: Model
    curve: Curve
    steps: int
    seconds: float
    stopped: bool = False  # by a budget, before the steps or the patience of the recipe were spent


class Batches:
    """Mini-batches without replacement, reshuffled each epoch; its state fits in a checkpoint."""

    def __init__(self, data: Tensor, size: int, seed: int) -> None:
        if size > len(data):
            raise ValueError(f"batch: {size} is larger than the {len(data)} training rows; choose a smaller batch")
        self.data, self.size = data, size
        self.generator = torch.Generator(device=data.device).manual_seed(seed)
        self._shuffle()

    def _shuffle(self) -> None:
        self.epoch_start = self.generator.get_state()
        self.order = torch.randperm(len(self.data), generator=self.generator, device=self.data.device)
        self.position = 0

    def next(self) -> Tensor:
        if self.position + self.size > len(self.order):
            self._shuffle()
        rows = self.order[self.position : self.position + self.size]
        self.position += self.size
        return self.data[rows]

    def state_dict(self) -> dict:
        return {"epoch_start": self.epoch_start, "position": self.position}

    def load_state_dict(self, state: dict) -> None:
        self.generator.set_state(state["epoch_start"])
        self._shuffle()
        self.position = state["position"]


def optimizer_for(model: nn.Module, training: Training) -> torch.optim.Optimizer:
    kinds = {
        "adam": torch.optim.Adam,
        "amsgrad": partial(torch.optim.Adam, amsgrad=True),
        "adamw": torch.optim.AdamW,
        "adamax": torch.optim.Adamax,
    }
    options = {} if training.optimizer == "adamax" else {"fused": True}
    trainable = [p for p in model.parameters() if p.requires_grad]
    return kinds[training.optimizer](
        trainable, lr=training.lr, betas=tuple(training.betas), weight_decay=training.weight_decay, **options
    )


class Trainer:
    """Minimise ``model.loss`` on ``train`` and keep the parameters that score best on ``validation``."""

    def __init__(
        self, model: Model, training: Training, train: Tensor, validation: Tensor, seeds: dict[str, int]
    ) -> None:
        self.model, self.training, self.seeds = model, training, seeds
        self.validation = validation[: training.validation_points]
        self.batches = Batches(train, training.batch, seeds["batch order"])
        self.optimizer = optimizer_for(model, training)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, training.decay)
        self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(training.ema)) if training.ema else None
        self.curve = Curve()
        self.best: dict | None = None
        self.best_nats = math.inf
        self.stale = 0
        self.step = 0
        self.seconds = 0.0

    @property
    def candidate(self) -> Model:
        """The parameters that would be used if training stopped now."""
        return self.average.module if self.average else self.model

    def run(
        self,
        checkpoint: Path | None = None,
        identity: str = "",
        report: Callable[[int, float], None] | None = None,
        budget: float = math.inf,
    ) -> Outcome:
        """Train to the end, resuming from ``checkpoint`` if it holds a run of the same ``identity``.

        After ``budget`` seconds of training it stops where it is; the checkpoint lets a later run go on from there.
        """
        torch.manual_seed(self.seeds["noise"])
        if checkpoint and checkpoint.exists():
            self._load(checkpoint, identity)
        started = time.perf_counter() - self.seconds
        bad = torch.zeros((), dtype=torch.bool, device=self.validation.device)
        while not self._finished() and time.perf_counter() - started < budget:
            loss = self._step()
            bad |= ~torch.isfinite(loss)
            validates = self.step % self.training.validation_interval == 0 or self.step == self.training.steps
            if validates or self.step % CHECK_EVERY == 0:
                if bad.item():
                    raise Diverged(f"the loss was not finite within the {CHECK_EVERY} steps before step {self.step}")
                if report:
                    report(self.step, loss.item())
            if validates:
                self.seconds = time.perf_counter() - started
                self._validate()
                started = time.perf_counter() - self.seconds  # validating is not training
                if checkpoint:
                    self._save(checkpoint, identity)
        self.seconds = time.perf_counter() - started
        stopped = not self._finished()
        if stopped:
            if checkpoint:
                self._save(checkpoint, identity)
            self._validate()  # after saving: a run that goes on validates where an uninterrupted one does
        return Outcome(self._selected(), self.curve, self.step, self.seconds, stopped)

    def _step(self) -> Tensor:
        self.model.train()
        self.model.progress = self.step / self.training.steps
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.model.loss(self.batches.next())
        loss.backward()
        if self.training.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.training.clip)
        self.optimizer.step()
        self.schedule.step()
        if self.average:
            self.average.update_parameters(self.model)
        self.step += 1
        return loss.detach()

    def _finished(self) -> bool:
        out_of_patience = self.training.patience is not None and self.stale >= self.training.patience
        return self.step >= self.training.steps or out_of_patience

    def _validate(self) -> None:
        """Score the candidate under the same noise every time, leaving the training noise untouched."""
        if self.model.likelihood.kind == "none":  # nothing to score: the last parameters are the ones to use
            self.best = copy.deepcopy(self.candidate.state_dict())
            return
        nats = mean_nats(self.candidate, self.validation, self.seeds["evaluation"])
        if not math.isfinite(nats):
            raise Diverged(f"the validation score was {nats} at step {self.step}")
        self.curve.steps.append(self.step)
        self.curve.nats.append(nats)
        self.curve.seconds.append(self.seconds)
        if nats < self.best_nats or self.training.select == "last":
            self.best, self.best_nats, self.stale = copy.deepcopy(self.candidate.state_dict()), nats, 0
        else:
            self.stale += 1

    def _selected(self) -> Model:
        if self.best is not None:
            self.model.load_state_dict(self.best)
        self.model.settle(self.batches.data)  # once: a pass of the whole training set for every validation is dear
        self.model.progress = 1.0
        return self.model.eval()

    def _save(self, path: Path, identity: str) -> None:
        state = {
            "identity": identity,
            "model": self.model.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "batches": self.batches.state_dict(),
            "noise": torch.get_rng_state(),
            "cuda_noise": torch.cuda.get_rng_state() if self.validation.is_cuda else None,
            "curve": dict(self.curve.__dict__),
            "best": self.best,
            "best_nats": self.best_nats,
            "stale": self.stale,
            "step": self.step,
            "seconds": self.seconds,
        }
        save_state(state, path)

    def _load(self, path: Path, identity: str) -> None:
        """Continue from a checkpoint; one of another configuration, or unreadable, is ignored."""
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception:  # a truncated or foreign file: whatever torch raises, start afresh
            return
        if not isinstance(state, dict) or state.get("identity") != identity:
            return
        self.model.load_state_dict(state["model"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.batches.load_state_dict(state["batches"])
        torch.set_rng_state(state["noise"])
        if state["cuda_noise"] is not None:
            torch.cuda.set_rng_state(state["cuda_noise"])
        self.curve = Curve(**state["curve"])
        for name in ("best", "best_nats", "stale", "step", "seconds"):
            setattr(self, name, state[name])


def save_state(state: dict, path: Path) -> None:
    """Write a state dictionary, whole or not at all."""
    buffer = io.BytesIO()  # torch calls a full disk a RuntimeError of its zip writer; writing bytes says what it is
    torch.save(state, buffer)
    with replacing(path) as part:
        part.write_bytes(buffer.getbuffer())


def mean_nats(model: Model, x: Tensor, seed: int) -> float:
    """Mean of -log_prob, nats, under a fixed noise seed that leaves the global generator as it was."""
    was_training = model.training
    model.eval()
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []), torch.no_grad():
        torch.manual_seed(seed)
        nats = -model.log_prob(x).mean().item()
    model.train(was_training)
    return nats
