"""What the training loop asks of every model's step: that it can be recorded, and that seeds can share it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.training.ensemble import Alone, Stacked, stackable
from models.layer import Model
from tests.contracts.case import ModelCase
from tests.contracts.cases import MODELS

pytestmark = pytest.mark.usefixtures("float64")
BATCH = 16
WAITING = {"aten._local_scalar_dense.default", "aten.nonzero.default", "aten.lift_fresh.default"}
"""Numbers that go to the host, or come from it: a recording can do neither."""
APART = {
    *("ffjord", "ffjord:images", "gan:image", "gan:vector", "i-resnet", "i-resnet:series", "iaf"),
    *("residual-flow", "residual-flow:roulette", "snf:langevin", "snf:underdamped"),  # derivatives by their inputs
    *("recurrent-autoregressive", "tan", "trade"),  # the library's recurrent network
    *("naf", "naf:dsf", "umnn"),  # gradients by hand
}
"""Models whose seeds train one after the other: what they do, ``vmap`` does not."""


@pytest.fixture(params=sorted(MODELS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def started(case: ModelCase, seed: int) -> Model:
    torch.manual_seed(seed)
    model = case.make().double().train()
    with torch.no_grad():
        model.loss(case.x(BATCH))  # data-dependent initialisation
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


class Log(TorchDispatchMode):
    """Every operation that reaches a kernel, with the shapes and numbers that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple] = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        given = tree_leaves((arguments, options))
        seen = [tuple(leaf.shape) if isinstance(leaf, torch.Tensor) else repr(leaf) for leaf in given]
        self.operations.append((str(function), *seen))
        return function(*arguments, **(options or {}))


def operations(model: Model, x: torch.Tensor) -> list[tuple]:
    model.zero_grad(set_to_none=True)
    with Log() as log:
        model.loss(x).backward()
    return log.operations


def test_a_steady_model_runs_the_same_operations_on_every_batch(name: str) -> None:
    """A replayed recording would be silently wrong otherwise: it repeats the numbers that it was given."""
    case = MODELS[name]
    model = started(case, 1)
    if not model.steady:
        pytest.skip("it says that it is not")
    logs = []
    for i in range(6):
        model.progress = i / 6
        logs.append(operations(model, (1 + i % 3) * case.x(BATCH) if case.x(1).is_floating_point() else case.x(BATCH)))
    assert all(log == logs[0] for log in logs)
    assert not WAITING & {operation for operation, *_ in logs[0]}


def test_seeds_side_by_side_are_as_alone(name: str) -> None:
    """Losses and gradients of a stack of two against each by itself."""
    case = MODELS[name]
    models, batches = [started(case, seed) for seed in (1, 2)], torch.stack([case.x(BATCH), case.x(BATCH)])
    assert stackable(models[0], batches[0]) == (name not in APART)
    if name in APART:
        return
    alone = [Alone(copy.deepcopy(model)) for model in models]
    stack = Stacked(models, batches)
    losses = stack.losses(batches)
    stack.differentiate(losses)
    if not deterministic(alone[0].model, batches[0]):
        assert torch.isfinite(losses).all() and not torch.equal(losses[0], losses[1])
        return
    for i, (one, (row,)) in enumerate(zip(alone, stack.groups, strict=True)):
        (loss,) = one.losses(batches[i][None])
        one.differentiate(loss[None])
        torch.testing.assert_close(losses[i], loss)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in one.groups[0]]
        torch.testing.assert_close(row.grad, torch.cat([g.flatten() for g in gradients]))
    for model, one in zip(stack.written(stack.groups), alone, strict=True):
        for key, value in one.model.state_dict().items():
            torch.testing.assert_close(model.state_dict()[key], value)


def deterministic(model: Model, x: torch.Tensor) -> bool:
    kept = copy.deepcopy(model)
    with torch.no_grad():
        return torch.equal(kept.loss(x), kept.loss(x))
