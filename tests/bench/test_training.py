"""The training loop: the same bits however often it is interrupted, and an honest end."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from bench.training import Outcome, Trainer, Training
from bench.training.member import Batches, Curve, Member, Plateau
from models.base import StandardNormal
from models.flows.normalization import BatchNorm
from models.layer import ChainModel, Layer, Model
from models.registry import DataSpec, build

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
    return Trainer([ChainModel([NoisyShift()], StandardNormal((2,)))], settings, data[:200], data[200:], [SEEDS])


def side_by_side(count: int, model=lambda: realnvp(), **changes: object) -> tuple[Trainer, list[Trainer]]:
    """``count`` seeds as one trainer, and each by itself: the same start, the same batches."""
    torch.manual_seed(0)
    data = torch.randn(300, 2) @ torch.tensor([[1.0, 0.8], [0.0, 0.6]]) + 1
    settings = Training(**{"steps": 40, "batch": 32, "lr": 1e-2, "validate_every": 10, **changes})
    models = [model() for _ in range(count)]
    seeds = [{"batch order": 10 + i, "noise": i, "evaluation": i} for i in range(count)]
    alone = [
        Trainer([copy.deepcopy(model)], settings, data[:200], data[200:], [seed])
        for model, seed in zip(models, seeds, strict=True)
    ]
    return Trainer(models, settings, data[:200], data[200:], seeds), alone


def realnvp(batch_norm: bool = True) -> Model:
    return build("realnvp", DataSpec((2,)), couplings=2, hidden=[8], batch_norm=batch_norm)


def outcome_of(run: Trainer, *arguments: object, **options: object) -> Outcome:
    (outcome,) = run.run(*arguments, **options)
    return outcome


class Interrupted(Exception):
    pass


def interrupt_after(validations: int, run: Trainer, checkpoint: Path) -> None:
    """Run until the checkpoint after that many validations is on disk, then stop dead."""
    save = run._save

    def save_then_die(path: Path, identity: str) -> None:
        save(path, identity)
        if len(run.members[0].curve.steps) == validations:
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
        {"lr": 1.0, "plateau": {"patience": 0}},
    ],
)
def test_an_interrupted_run_ends_in_the_same_bits(tmp_path: Path, changes: dict) -> None:
    whole = outcome_of(trainer(**changes))
    checkpoint = tmp_path / "run.ckpt"
    interrupt_after(1, trainer(**changes), checkpoint)
    interrupt_after(3, trainer(**changes), checkpoint)
    resumed = trainer(**changes)
    assert same_bits(outcome_of(resumed, checkpoint, "same"), whole)
    assert resumed.step == 40


def test_a_checkpoint_of_another_run_is_ignored(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.ckpt"
    interrupt_after(2, trainer(lr=0.5), checkpoint)
    assert same_bits(outcome_of(trainer(), checkpoint, "another"), outcome_of(trainer()))


def test_a_truncated_checkpoint_is_ignored(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.ckpt"
    interrupt_after(2, trainer(), checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:200])
    assert same_bits(outcome_of(trainer(), checkpoint, "same"), outcome_of(trainer()))


def test_training_finds_the_optimum() -> None:
    outcome = outcome_of(trainer(steps=300))
    assert torch.allclose(outcome.model.chain.layers[0].shift, torch.full((2,), 3.0), atol=0.3)
    entropy = math.log(2 * math.pi * math.e)  # of a unit normal in two dimensions
    assert min(outcome.curve.nats) == pytest.approx(entropy, abs=0.25)


def test_keeps_the_best_parameters_not_the_last() -> None:
    run = trainer(lr=1.5, steps=60)
    outcome = outcome_of(run)
    best = min(outcome.curve.nats)
    with torch.no_grad():
        assert -outcome.model.log_prob(run.validation).mean().item() == pytest.approx(best, abs=1e-5)
    assert outcome.curve.nats[-1] > best


def test_patience_stops_early() -> None:
    outcome = outcome_of(trainer(lr=2.0, steps=2000, patience=3))
    assert outcome.steps < 2000


def test_a_loss_that_is_not_finite_is_a_divergence() -> None:
    run = trainer(steps=100, validate_every=100)
    model = run.together.model
    model.loss = lambda x, context=None: model.chain.layers[0].shift.sum() * math.nan
    outcome = outcome_of(run)
    assert outcome.steps == 50 and "step 50" in outcome.diverged


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
    whole, checkpoint = outcome_of(trainer()), tmp_path / "x.ckpt"
    stopping = trainer()
    with monkeypatch.context() as patched:
        patched.setattr("bench.training.loop.time", SimpleNamespace(perf_counter=lambda: stopping.step))
        outcome = outcome_of(stopping, checkpoint, "same", budget=13)
    assert outcome.stopped and outcome.steps == 13 and outcome.curve.steps == [10, 13]
    last = outcome_of(trainer(), checkpoint, "same")
    assert not last.stopped and same_bits(last, whole)


def test_the_learning_rate_is_halved_and_follows_a_cosine() -> None:
    halved = Training(steps=20, halve_every=5)
    assert [halved.decay(step) for step in (0, 4, 5, 10, 19)] == [1, 1, 0.5, 0.25, 0.125]
    assert Training(steps=20, schedule="cosine", halve_every=10).decay(10) == pytest.approx(0.25)


def test_a_plateau_lowers_the_rate_as_the_library_does() -> None:
    torch.manual_seed(0)
    scores = torch.randn(200).cumsum(0).abs().tolist()
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    library = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=3, cooldown=2, min_lr=0.05, threshold=0.0
    )
    member, best = Member(Batches(torch.zeros(4, 1), 2, seed=0), 0), math.inf
    for score in scores:
        library.step(score)
        member.slow_down(Plateau(factor=0.5, patience=3, cooldown=2, least=0.05), score < best)
        best = min(best, score)
        assert member.rate == optimizer.param_groups[0]["lr"]
    assert member.rate == 0.05


def test_each_seed_has_its_own_plateau() -> None:
    together, alone = side_by_side(3, lr=0.3, steps=200, plateau={"patience": 1})
    together.run()
    assert [member.rate for member in together.members] == [(run.run(), run.members[0].rate)[1] for run in alone]
    assert len({member.rate for member in together.members}) > 1


def test_batch_norm_ends_with_the_statistics_of_the_whole_training_set() -> None:
    torch.manual_seed(0)
    data = torch.randn(500, 3) * torch.tensor([1.0, 2.0, 5.0]) + 4
    model = ChainModel([BatchNorm(3)], StandardNormal((3,)))
    outcome = outcome_of(Trainer([model], Training(steps=3, batch=32), data[:400], data[400:], [SEEDS]))
    (norm,) = outcome.model.chain.layers
    torch.testing.assert_close(norm.mean, data[:400].mean(0))
    torch.testing.assert_close(norm.variance, data[:400].var(0, unbiased=False))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("changes", [{}, {"ema": 0.9, "clip": 0.1}, {"optimizer": "amsgrad", "weight_decay": 0.1}])
def test_seeds_side_by_side_end_as_each_alone(changes: dict) -> None:
    """Without batch normalisation: a shift before it has no gradient but rounding, which Adam makes large."""
    together, alone = side_by_side(3, model=lambda: realnvp(batch_norm=False), **changes)
    for outcome, one in zip(together.run(), [outcome_of(run) for run in alone], strict=True):
        assert outcome.curve.nats == pytest.approx(one.curve.nats, rel=1e-9)
        for name, value in one.model.state_dict().items():
            torch.testing.assert_close(outcome.model.state_dict()[name], value, rtol=1e-6, atol=1e-9)


@pytest.mark.usefixtures("float64")
def test_each_seed_has_its_own_patience() -> None:
    together, alone = side_by_side(3, lr=0.3, steps=400, patience=2)
    steps = [outcome.steps for outcome in together.run()]
    assert steps == [outcome_of(run).steps for run in alone]
    assert len(set(steps)) > 1 and max(steps) == together.step < 400


class Falling(ChainModel):
    """Its loss is no number in the seed that is told so."""

    def __init__(self, falls: bool) -> None:
        super().__init__([NoisyShift()], StandardNormal((2,)))
        self.register_buffer("slip", torch.tensor(math.nan if falls else 0.0))

    def loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return super().loss(x) + self.slip * self.chain.layers[0].shift.sum()


def test_a_seed_that_diverges_leaves_the_others_alone() -> None:
    falls = iter([False, True, False])
    together, _ = side_by_side(3, model=lambda: Falling(next(falls)), clip=1.0)
    first, second, third = together.run()
    assert "not finite" in second.diverged and second.steps == 10
    for outcome in (first, third):
        assert outcome.diverged is None and outcome.steps == 40 and outcome.curve.nats[-1] < outcome.curve.nats[0]


def test_seeds_that_are_interrupted_together_end_in_the_same_bits(tmp_path: Path) -> None:
    whole, _ = side_by_side(2, ema=0.9)
    checkpoint = tmp_path / "both.ckpt"
    interrupt_after(2, side_by_side(2, ema=0.9)[0], checkpoint)
    resumed, _ = side_by_side(2, ema=0.9)
    for a, b in zip(resumed.run(checkpoint, "same"), whole.run(), strict=True):
        assert same_bits(a, b)


def test_batch_norm_is_judged_by_the_statistics_of_the_whole_training_set() -> None:
    """At every validation, not only at the end: the best parameters are the best as they will be scored."""
    run = side_by_side(1)[1][0]
    (outcome,) = run.run()
    model = outcome.model
    model.settle(run.train)
    with torch.no_grad():
        assert -model.log_prob(run.validation).mean().item() == pytest.approx(min(outcome.curve.nats), abs=1e-6)
