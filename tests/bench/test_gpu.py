"""Recorded steps on a GPU: the same training as step by step. Skipped where there is none."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bench.training import Trainer, Training
from bench.training.ensemble import stackable
from bench.training.recording import WARM_STEPS, Recorded
from models.layer import Model
from tests.contracts.case import ModelCase
from tests.contracts.cases import MODELS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
STEPS = 3 * WARM_STEPS


def made(case: ModelCase, count: int) -> tuple[list[Model], Tensor]:
    models = []
    for seed in range(count):
        torch.manual_seed(seed)
        models.append(case.make().cuda())
    x = case.x(256).cuda()
    return models, x.float() if x.is_floating_point() else x


def trainer(models: Sequence[Model], x: Tensor, **changes: object) -> Trainer:
    settings = Training(**{"steps": STEPS, "batch": 32, "lr": 1e-3, "validate_every": 5, "clip": 5.0, **changes})
    seeds = [{"batch order": i, "noise": 7, "evaluation": i} for i in range(len(models))]
    torch.manual_seed(7)  # seeds side by side see their first batch as they are stacked, and may draw
    return Trainer(models, settings, x[:192], x[192:], seeds)


def losses(run: Trainer) -> Tensor:
    torch.manual_seed(7)
    return torch.stack([run.advance().clone() for _ in range(STEPS)])


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_recorded_step_is_the_step(name: str) -> None:
    models, x = made(MODELS[name], 1)
    if not models[0].steady:
        pytest.skip("its step is not recorded")
    recorded, plain = trainer(copy.deepcopy(models), x), trainer(models, x)
    assert isinstance(recorded.move, Recorded)
    plain.move = plain._move
    torch.testing.assert_close(losses(recorded), losses(plain), rtol=1e-3, atol=1e-4)
    assert recorded.move.graph is not None


@pytest.mark.parametrize("name", sorted(MODELS))
def test_recorded_seeds_side_by_side_are_those_steps_too(name: str) -> None:
    models, x = made(MODELS[name], 3)
    if not models[0].steady or not stackable(models[0], x[:32]):
        pytest.skip("its seeds train in turn")
    recorded, plain = trainer(copy.deepcopy(models), x, ema=0.9), trainer(models, x, ema=0.9)
    plain.move = plain._move
    torch.testing.assert_close(losses(recorded), losses(plain), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(recorded.average, plain.average, rtol=1e-3, atol=1e-4)
    assert recorded.move.graph is not None


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_learning_rate_reaches_the_recording(schedule: str) -> None:
    """A rate baked into the graph would go on for ever: with a cosine the last steps hardly move."""
    models, x = made(MODELS["maf"], 1)
    run = trainer(models, x, schedule=schedule, steps=STEPS)
    moves = []
    for _ in range(STEPS):
        before = torch.cat([p.detach().flatten() for p in run.groups[0]])
        run.advance()
        moves.append(float((torch.cat([p.detach().flatten() for p in run.groups[0]]) - before).abs().mean()))
    slow = moves[-1] < 0.1 * moves[WARM_STEPS]
    assert slow == (schedule == "cosine")


def test_an_interrupted_recording_ends_in_the_same_bits(tmp_path: Path) -> None:
    def run() -> Trainer:
        return trainer(*made(MODELS["nsf:autoregressive"], 2), ema=0.9, steps=40, validate_every=10)

    whole = run().run()
    first = run()
    save = first._save

    def save_then_die(path: Path, identity: str) -> None:
        save(path, identity)
        if first.step == 20:
            raise KeyboardInterrupt

    first._save = save_then_die
    with pytest.raises(KeyboardInterrupt):
        first.run(tmp_path / "x.ckpt", "same")
    for a, b in zip(run().run(tmp_path / "x.ckpt", "same"), whole, strict=True):
        assert a.curve.nats == b.curve.nats
        for name, value in a.model.state_dict().items():
            assert torch.equal(value, b.model.state_dict()[name]), name
