"""The training loop: the same bits however often it is interrupted, and an honest end."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from bench.training import Batches, Curve, Diverged, Outcome, Trainer, Training
from models.base import StandardNormal
from models.flows.normalization import BatchNorm
from models.layer import ChainModel, Layer

SEEDS = {"batch order": 1, "noise": 2, "evaluation": 3}


class NoisyShift(Layer):
    """z = x - shift; adds noise in training, so that the noise stream matters."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(2))

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        noise = 0.1 * torch.randn_like(x) if self.training else 0.0
        return x - self.shift + noise, x.new_zeros(len(x))


def trainer(**changes: object) -> Trainer:
    torch.manual_seed(0)
    data = torch.randn(300, 2) + 3
    settings = Training(**{"steps": 40, "batch": 32, "lr": 0.1, "validate_every": 10, **changes})
    return Trainer(ChainModel([NoisyShift()], StandardNormal((2,))), settings, data[:200], data[200:], SEEDS)


class Interrupted(Exception):
    pass


def interrupt_after(validations: int, run: Trainer, checkpoint: Path) -> None:
    """Run until the checkpoint after that many validations is on disk, then stop dead."""
    save = run._save

    def save_then_die(path: Path, identity: str) -> None:
        save(path, identity)
        if len(run.curve.steps) == validations:
            raise Interrupted

    run._save = save_then_die
    with pytest.raises(Interrupted):
        run.run(checkpoint, "same")


def same_bits(a: Outcome, b: Outcome) -> bool:
    pairs = zip(a.model.state_dict().values(), b.model.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs) and a.curve.nats == b.curve.nats


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ema": 0.9},
        {"schedule": "cosine", "clip": 1.0},
        {"optimizer": "adamax"},
        {"optimizer": "amsgrad", "halve_every": 7},
    ],
)
def test_an_interrupted_run_ends_in_the_same_bits(tmp_path: Path, changes: dict) -> None:
    whole = trainer(**changes).run()
    checkpoint = tmp_path / "run.ckpt"
    interrupt_after(1, trainer(**changes), checkpoint)
    interrupt_after(3, trainer(**changes), checkpoint)
    resumed = trainer(**changes)
    assert same_bits(resumed.run(checkpoint, "same"), whole)
    assert resumed.step == 40


def test_a_checkpoint_of_another_run_is_ignored(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.ckpt"
    interrupt_after(2, trainer(lr=0.5), checkpoint)
    assert same_bits(trainer().run(checkpoint, "another"), trainer().run())


def test_a_truncated_checkpoint_is_ignored(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.ckpt"
    interrupt_after(2, trainer(), checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:200])
    assert same_bits(trainer().run(checkpoint, "same"), trainer().run())


def test_training_finds_the_optimum() -> None:
    outcome = trainer(steps=300).run()
    assert torch.allclose(outcome.model.chain.layers[0].shift, torch.full((2,), 3.0), atol=0.3)
    entropy = math.log(2 * math.pi * math.e)  # of a unit normal in two dimensions
    assert min(outcome.curve.nats) == pytest.approx(entropy, abs=0.25)


def test_keeps_the_best_parameters_not_the_last() -> None:
    run = trainer(lr=1.5, steps=60)
    outcome = run.run()
    last = run.curve.nats[-1]
    assert run.best_nats == min(run.curve.nats)
    with torch.no_grad():
        assert -outcome.model.log_prob(run.validation).mean().item() == pytest.approx(min(run.curve.nats), abs=1e-5)
    assert last >= run.best_nats


def test_patience_stops_early() -> None:
    outcome = trainer(lr=2.0, steps=2000, patience=3).run()
    assert outcome.steps < 2000


def test_a_loss_that_is_not_finite_is_a_divergence() -> None:
    run = trainer(steps=100, validate_every=100)
    run.model.loss = lambda x, context=None: run.model.chain.layers[0].shift.sum() * math.nan
    with pytest.raises(Diverged, match="step 50"):
        run.run()


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(ValueError, match="batch: 10 is larger than the 4 training rows"):
        Batches(torch.zeros(4, 1), 10, seed=0)


def test_batches_visit_every_row_once_an_epoch() -> None:
    batches = Batches(torch.arange(12), 4, seed=0)
    first = torch.cat([batches.next() for _ in range(3)])
    second = torch.cat([batches.next() for _ in range(3)])
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(12))
    assert first.tolist() != second.tolist()


def test_curve_reports_when_it_came_within_a_tenth_of_a_nat() -> None:
    curve = Curve(steps=[10, 20, 30], nats=[2.0, 1.05, 1.0], seconds=[1.0, 2.0, 3.0])
    assert curve.within(0.1) == (20, 2.0)
    assert Curve().within() is None


def test_a_run_that_a_budget_stops_goes_on_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped between two validations; what it ends with is scored all the same."""
    whole, checkpoint = trainer().run(), tmp_path / "x.ckpt"
    stopping = trainer()
    with monkeypatch.context() as patched:
        patched.setattr("bench.training.time", SimpleNamespace(perf_counter=lambda: stopping.step))
        outcome = stopping.run(checkpoint, "same", budget=13)
    assert outcome.stopped and outcome.steps == 13 and outcome.curve.steps == [10, 13]
    last = trainer().run(checkpoint, "same")
    assert not last.stopped and same_bits(last, whole)


def test_the_learning_rate_is_halved_and_follows_a_cosine() -> None:
    halved = Training(steps=20, halve_every=5)
    assert [halved.decay(step) for step in (0, 4, 5, 10, 19)] == [1, 1, 0.5, 0.25, 0.125]
    assert Training(steps=20, schedule="cosine", halve_every=10).decay(10) == pytest.approx(0.25)


def test_batch_norm_ends_with_the_statistics_of_the_whole_training_set() -> None:
    torch.manual_seed(0)
    data = torch.randn(500, 3) * torch.tensor([1.0, 2.0, 5.0]) + 4
    model = ChainModel([BatchNorm(3)], StandardNormal((3,)))
    outcome = Trainer(model, Training(steps=3, batch=32), data[:400], data[400:], SEEDS).run()
    (norm,) = outcome.model.chain.layers
    torch.testing.assert_close(norm.mean, data[:400].mean(0))
    torch.testing.assert_close(norm.variance, data[:400].var(0, unbiased=False))
