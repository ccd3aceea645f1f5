"""What several seeds trained side by side cost beside one, and what recording a step as a CUDA graph brings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from bench.speed.measure import correlated
from bench.speed.race import race
from bench.speed.rows import ROWS
from bench.training import Trainer, Training
from bench.training.ensemble import stackable
from bench.training.recording import WARM_STEPS, Recorded

DATA_ROWS = 16


@dataclass(frozen=True)
class SeedTiming:
    """Optimiser steps of one row, milliseconds: of ``one`` seed as it is and ``recorded``, of several ``together``.

    ``recording``: seconds, once per training, that recording took: of all together, or of one if they train in turn.
    None: not on this device, or not for this row.
    """

    row: str
    dim: int
    seeds: int
    one: float
    recorded: float | None
    together: float | None
    recording: float | None

    @property
    def per_one(self) -> float | None:
        """All seeds over the best that one seed can do."""
        return self.together / min(self.one, self.recorded or self.one) if self.together else None


def measure_seeds(
    names: Sequence[str], dims: Sequence[int], seeds: int, batch: int, rounds: int, device: torch.device
) -> Iterator[SeedTiming]:
    for name in names:
        for dim in dims:
            yield _timing(name, dim, seeds, correlated(DATA_ROWS * batch, dim, device), batch, rounds)


def _timing(name: str, dim: int, seeds: int, data: torch.Tensor, batch: int, rounds: int) -> SeedTiming:
    trainers = {"one": _trainer(name, data, batch, 1)}
    trainers["one"].move = trainers["one"]._move
    if data.is_cuda and ROWS[name].ours(dim).steady:
        trainers["recorded"] = _trainer(name, data, batch, 1)
    if stackable(ROWS[name].ours(dim).to(data.device), data[:batch]):
        trainers["together"] = _trainer(name, data, batch, seeds)
    for trainer in trainers.values():
        for _ in range(WARM_STEPS + 1):
            trainer.advance()
    if "recorded" in trainers and trainers["recorded"].move.refused:
        del trainers["recorded"]
    best = {key: 1e3 * value for key, value in race({k: t.advance for k, t in trainers.items()}, rounds).items()}
    moves = [trainer.move for trainer in trainers.values() if isinstance(trainer.move, Recorded)]
    recording = next((move.seconds for move in reversed(moves) if not move.refused), None)
    return SeedTiming(name, dim, seeds, best["one"], best.get("recorded"), best.get("together"), recording)


def _trainer(name: str, data: torch.Tensor, batch: int, seeds: int) -> Trainer:
    torch.manual_seed(0)
    models = [ROWS[name].ours(data.shape[1]).to(data.device) for _ in range(seeds)]
    streams = [{"batch order": i, "noise": i, "evaluation": i} for i in range(seeds)]
    return Trainer(models, Training(steps=10**9, batch=batch, lr=1e-4), data, data[:batch], streams)
