"""The one training loop: every family, every tier, one seed or several at once, interrupted or not.

Randomness comes from three streams derived from one number: initialisation, batch order and noise
(dropout, dequantization, diffusion times). A checkpoint holds all of them, so a resumed run ends in the
same bits as an uninterrupted one.
"""

from __future__ import annotations

import copy
import io
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.paths import replacing
from bench.training.ensemble import Alone, Groups, Stacked
from bench.training.member import Batches, Curve, Member, Plateau
from bench.training.recording import Recorded
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
    plateau: Mapping[str, float] | None = None  # the fields of a ``Plateau``
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


@dataclass(frozen=True)
class Outcome:
    model: Model
    curve: Curve
    steps: int
    seconds: float  # of training, of all seeds that trained together
    stopped: bool = False  # by a budget, before the steps or the patience of the recipe were spent
    diverged: str | None = None  # where the loss or the score ceased to be finite


def optimizer_for(groups: Groups, training: Training) -> torch.optim.Optimizer:
    """One parameter group per seed. On a GPU its numbers are tensors, so that a step can be recorded."""
    kinds = {
        "adam": torch.optim.Adam,
        "amsgrad": partial(torch.optim.Adam, amsgrad=True),
        "adamw": torch.optim.AdamW,
        "adamax": torch.optim.Adamax,
    }
    options: dict[str, object] = {} if training.optimizer == "adamax" else {"fused": True}
    device = groups[0][0].device
    if device.type == "cuda":
        options |= {"capturable": True}
    rates = [torch.tensor(training.lr, device=device) if device.type == "cuda" else training.lr for _ in groups]
    return kinds[training.optimizer](
        [{"params": group, "lr": lr} for group, lr in zip(groups, rates, strict=True)],
        betas=tuple(training.betas),
        weight_decay=training.weight_decay,
        **options,
    )


class Trainer:
    """Minimise ``model.loss`` on ``train`` and keep the parameters that score best on ``validation``.

    Several models are seeds of one cell, trained side by side (see ``Stacked``), each with its own batches, curve,
    patience and best parameters; one that has ended is carried along and not looked at any more. On a GPU the step is
    recorded, if the model's is ``steady``.
    """

    def __init__(
        self,
        models: Sequence[Model],
        training: Training,
        train: Tensor,
        validation: Tensor,
        seeds: Sequence[dict[str, int]],
    ) -> None:
        self.training, self.train = training, train
        self.validation = validation[: training.validation_points]
        self.noise_seed = seeds[0]["noise"]
        self.members = [Member(Batches(train, training.batch, s["batch order"]), s["evaluation"]) for s in seeds]
        self.together = self._ensemble(models)
        self.groups = self.together.groups
        self.optimizer = optimizer_for(self.groups, training)
        self.average = [[p.detach().clone() for p in group] for group in self.groups] if training.ema else None
        recordable = train.is_cuda and models[0].steady
        self.move: Callable[[Tensor], Tensor] = Recorded(self._move) if recordable else self._move
        self.step = 0
        self.seconds = 0.0

    def _ensemble(self, models: Sequence[Model]) -> Alone | Stacked:
        if len(models) == 1:
            return Alone(models[0], averaged=self.training.ema is not None)
        first = torch.stack([member.batches.order[: self.training.batch] for member in self.members])
        return Stacked(models, self.train[first])

    def run(
        self,
        checkpoint: Path | None = None,
        identity: str = "",
        report: Callable[[int, float], None] | None = None,
        budget: float = math.inf,
    ) -> list[Outcome]:
        """Train to the end, resuming from ``checkpoint`` if it holds a run of the same ``identity``.

        After ``budget`` seconds of training it stops where it is; the checkpoint lets a later run go on from there.
        """
        torch.manual_seed(self.noise_seed)
        if checkpoint and checkpoint.exists():
            self._load(checkpoint, identity)
        started = time.perf_counter() - self.seconds
        bad = torch.zeros(len(self.members), dtype=torch.bool, device=self.train.device)
        while not self._finished() and time.perf_counter() - started < budget:
            losses = self.advance()
            bad |= ~torch.isfinite(losses)
            validates = self.step % self.training.validation_interval == 0 or self.step == self.training.steps
            if validates or self.step % CHECK_EVERY == 0:
                self._check(bad.tolist())
                if report:
                    report(self.step, losses.mean().item())
            if validates:
                self.seconds = time.perf_counter() - started
                self._validate()
                started = time.perf_counter() - self.seconds  # validating is not training
                if checkpoint:
                    self._save(checkpoint, identity)
        self.seconds = time.perf_counter() - started
        cut = [not self._finished() and member.ended is None for member in self.members]
        if any(cut):
            if checkpoint:
                self._save(checkpoint, identity)
            self._validate()  # after saving: a run that goes on validates where an uninterrupted one does
        return [
            self._outcome(member, model, stopped)
            for member, model, stopped in zip(self.members, self._candidates(), cut, strict=True)
        ]

    def advance(self) -> Tensor:
        """One step of every seed; the losses, (seeds,), without gradients."""
        self.together.set_progress(self.step / self.training.steps)
        decay = self.training.decay(self.step)
        for group, member in zip(self.optimizer.param_groups, self.members, strict=True):
            _set_rate(group, self.training.lr * decay * member.rate)
        batch = self.train[torch.stack([member.batches.next() for member in self.members])]
        losses = self.move(batch)
        self.step += 1
        return losses

    def _move(self, batch: Tensor) -> Tensor:
        losses = self.together.losses(batch)
        self.together.differentiate(losses)
        if self.training.clip:
            for group in self.groups:
                nn.utils.clip_grad_norm_(group, self.training.clip)
        self.optimizer.step()
        if self.average:
            # The average starts from the parameters after the first step.
            weight = 1.0 if self.step == 0 else 1 - self.training.ema
            for averages, group in zip(self.average, self.groups, strict=True):
                torch._foreach_lerp_(averages, [p.detach() for p in group], weight)
        return losses.detach()

    def _check(self, bad: list[bool]) -> None:
        for member, is_bad in zip(self.members, bad, strict=True):
            if is_bad and member.ended is None:
                reason = f"the loss was not finite within the {CHECK_EVERY} steps before step {self.step}"
                member.diverge(self.step, reason)

    def _finished(self) -> bool:
        return self.step >= self.training.steps or all(member.ended is not None for member in self.members)

    def _candidates(self) -> list[Model]:
        """The models that would be used if training stopped now."""
        return self.together.written(self.average or self.groups)

    def _validate(self) -> None:
        """Score the candidates under the same noise every time, leaving the training noise untouched."""
        for member, model in zip(self.members, self._candidates(), strict=True):
            if member.ended is None:
                self._judge(member, model)

    def _judge(self, member: Member, model: Model) -> None:
        model.settle(self.train)
        if model.likelihood.kind == "none":  # nothing to score: the last parameters are the ones to use
            member.best = copy.deepcopy(model.state_dict())
            return
        nats = mean_nats(model, self.validation, member.evaluation_seed)
        if not math.isfinite(nats):
            member.diverge(self.step, f"the validation score was {nats} at step {self.step}")
            return
        member.curve.steps.append(self.step)
        member.curve.nats.append(nats)
        member.curve.seconds.append(self.seconds)
        if self.training.plateau is not None:
            member.slow_down(Plateau(**self.training.plateau), nats < member.best_nats)
        if nats < member.best_nats or self.training.select == "last":
            member.best, member.best_nats, member.stale = copy.deepcopy(model.state_dict()), nats, 0
        else:
            member.stale += 1
            if self.training.patience is not None and member.stale >= self.training.patience:
                member.ended = self.step

    def _outcome(self, member: Member, model: Model, stopped: bool) -> Outcome:
        if member.best is not None:
            model.load_state_dict(member.best)
        model.progress = 1.0
        steps = self.step if member.ended is None else member.ended
        return Outcome(model.eval(), member.curve, steps, self.seconds, stopped, member.diverged)

    def _save(self, path: Path, identity: str) -> None:
        state = {
            "identity": identity,
            "ensemble": self.together.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "members": [member.state_dict() for member in self.members],
            "noise": torch.get_rng_state(),
            "cuda_noise": torch.cuda.get_rng_state() if self.train.is_cuda else None,
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
        self.together.load_state_dict(state["ensemble"])
        if self.average:
            for averages, saved in zip(self.average, state["average"], strict=True):
                torch._foreach_copy_(averages, [value.to(averages[0].device) for value in saved])
        rates = [group["lr"] for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, lr in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = lr  # the very tensor, where it is one, on its device
        for member, saved in zip(self.members, state["members"], strict=True):
            member.load_state_dict(saved)
        torch.set_rng_state(state["noise"])
        if state["cuda_noise"] is not None:
            torch.cuda.set_rng_state(state["cuda_noise"])
        self.step, self.seconds = state["step"], state["seconds"]


def _set_rate(group: dict, lr: float) -> None:
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(lr)
    else:
        group["lr"] = lr


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
