"""What the training loop keeps of one seed: its batches, how it scored, how it ended."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor


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


class Batches:
    """Mini-batches without replacement, reshuffled each epoch, as row numbers; its state fits in a checkpoint."""

    def __init__(self, data: Tensor, size: int, seed: int) -> None:
        if size > len(data):
            raise ValueError(f"batch: {size} is larger than the {len(data)} training rows; choose a smaller batch")
        self.rows, self.size = len(data), size
        self.generator = torch.Generator(device=data.device).manual_seed(seed)
        self._shuffle()

    def _shuffle(self) -> None:
        self.epoch_start = self.generator.get_state()
        self.order = torch.randperm(self.rows, generator=self.generator, device=self.generator.device)
        self.position = 0

    def next(self) -> Tensor:
        if self.position + self.size > self.rows:
            self._shuffle()
        found = self.order[self.position : self.position + self.size]
        self.position += self.size
        return found

    def state_dict(self) -> dict:
        return {"epoch_start": self.epoch_start, "position": self.position}

    def load_state_dict(self, state: dict) -> None:
        self.generator.set_state(state["epoch_start"])
        self._shuffle()
        self.position = state["position"]


@dataclass
class Member:
    """What the loop keeps of one seed: where its batches are, how it scored, how it ended."""

    batches: Batches
    evaluation_seed: int
    curve: Curve = field(default_factory=Curve)
    best: dict | None = None
    best_nats: float = math.inf
    stale: int = 0  # validations since the best one
    ended: int | None = None  # the step after which it is trained no further
    diverged: str | None = None
    rate: float = 1.0  # what plateaus have left of the learning rate
    flat: int = 0  # validations that count towards the next plateau
    cooling: int = 0  # validations after one that do not count

    STATE = ("best", "best_nats", "stale", "ended", "diverged", "rate", "flat", "cooling")

    def state_dict(self) -> dict:
        kept = {name: getattr(self, name) for name in self.STATE}
        return kept | {"batches": self.batches.state_dict(), "curve": dict(self.curve.__dict__)}

    def load_state_dict(self, state: dict) -> None:
        self.batches.load_state_dict(state["batches"])
        self.curve = Curve(**state["curve"])
        for name in self.STATE:
            setattr(self, name, state[name])

    def diverge(self, step: int, reason: str) -> None:
        self.ended, self.diverged = step, reason

    def slow_down(self, plateau: Plateau, improved: bool) -> None:
        """Lower the learning rate after more than ``patience`` validations without a better one."""
        self.flat = 0 if improved or self.cooling else self.flat + 1
        self.cooling = max(0, self.cooling - 1)
        if self.flat > plateau.patience:
            self.rate, self.flat, self.cooling = max(plateau.least, plateau.factor * self.rate), 0, plateau.cooldown


@dataclass(frozen=True)
class Plateau:
    """A learning rate that falls where the validation score stalls, as torch's ``ReduceLROnPlateau``, but of each
    seed: times ``factor``, down to the share ``least`` of where it started."""

    factor: float = 0.5
    patience: int = 20
    cooldown: int = 0
    least: float = 0.0
