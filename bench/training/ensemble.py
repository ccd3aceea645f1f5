"""What one optimiser step moves: one model, or several seeds of it stacked and trained together.

Both show the same face to the training loop: parameters in one group per seed, losses of shape (seeds,), gradients,
and models that hold what was learned so far.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from models.layer import Model

Groups = list[list[Tensor]]


class Alone:
    """One model, trained where it stands. Batches and losses have a leading axis of one."""

    def __init__(self, model: Model, averaged: bool = False) -> None:
        self.model = model
        self.copy = copy.deepcopy(model) if averaged else model
        self.groups: Groups = [_trained(model)]

    def losses(self, batch: Tensor) -> Tensor:
        """(1, batch, ...) -> (1,), nats or whatever the model minimises."""
        return self.model.loss(batch[0])[None]

    def differentiate(self, losses: Tensor) -> None:
        """Leave the gradients in the ``grad`` of every parameter."""
        for parameter in self.groups[0]:
            parameter.grad = None
        losses.sum().backward()

    def written(self, groups: Groups) -> list[Model]:
        """The model, with the given values for parameters; where they are averages, a copy of it."""
        if groups is self.groups:
            return [self.model]
        self.copy.load_state_dict(self.model.state_dict())
        with torch.no_grad():
            for target, value in zip(_trained(self.copy), groups[0], strict=True):
                target.copy_(value)
        return [self.copy]

    def set_progress(self, share: float) -> None:
        self.model.train().progress = share

    def state_dict(self) -> dict:
        return self.model.state_dict()

    def load_state_dict(self, state: dict) -> None:
        self.model.load_state_dict(state)


def _trained(model: Model) -> list[Tensor]:
    return [p for p in model.parameters() if p.requires_grad]


class Loss(nn.Module):
    """The loss as a module's ``forward``, which ``functional_call`` wants."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model.loss(x)


class Stacked:
    """Several seeds of one architecture under ``vmap``: S networks cost one network's kernel launches.

    The parameters of each seed lie in one row of a matrix (S, P), so the optimiser, clipping and averages are a kernel
    or two whatever the number of layers. Buffers that are saved have a leading axis too; others are constants, the
    same for every seed. Layers that start from their first batch see it before they are stacked. RuntimeError, at the
    latest from the first losses, if the model does something that ``vmap`` does not.
    """

    def __init__(self, models: Sequence[Model], first: Tensor) -> None:
        """``first`` (S, batch, ...): the first batch of every seed."""
        self.models = list(models)
        for model, batch in zip(models, first, strict=True):
            with torch.no_grad():
                model.train().loss(batch)
        self.loss = Loss(copy.deepcopy(models[0]))
        learned, buffers = stack_module_state([Loss(model) for model in models])
        saved = {f"model.{name}" for name in models[0].state_dict()}
        self.buffers = {name: value for name, value in buffers.items() if name in saved}
        self.names = list(learned)
        self.shapes = [value.shape[1:] for value in learned.values()]
        self.matrix = torch.cat([value.detach().reshape(len(models), -1) for value in learned.values()], 1)
        self.matrix.requires_grad_()
        self.gradient = torch.zeros_like(self.matrix)
        self.groups: Groups = [[nn.Parameter(row)] for row in self.matrix.detach()]
        for (row,), gradient in zip(self.groups, self.gradient, strict=True):
            row.grad = gradient

    def losses(self, batch: Tensor) -> Tensor:
        """(S, batch, ...) -> (S,)."""

        def one(row: Tensor, buffers: dict[str, Tensor], x: Tensor) -> Tensor:
            return functional_call(self.loss, (self._named(row), buffers), (x,))

        return vmap(one, randomness="different")(self.matrix, self.buffers, batch)

    def differentiate(self, losses: Tensor) -> None:
        """Seeds share no parameter, so the gradient of the sum holds each seed's own."""
        self.gradient.copy_(torch.autograd.grad(losses.sum(), self.matrix)[0])

    def written(self, groups: Groups) -> list[Model]:
        """The models, with the given values for parameters and what the seeds share with no one for buffers."""
        with torch.no_grad():
            for i, (model, (row,)) in enumerate(zip(self.models, groups, strict=True)):
                values = self._named(row) | {name: value[i] for name, value in self.buffers.items()}
                Loss(model).load_state_dict(values, strict=True)
        return self.models

    def set_progress(self, share: float) -> None:
        self.loss.model.train().progress = share

    def state_dict(self) -> dict:
        return {"matrix": self.matrix.detach(), **self.buffers}

    def load_state_dict(self, state: dict) -> None:
        for name, value in self.state_dict().items():
            value.copy_(state[name])

    def _named(self, row: Tensor) -> dict[str, Tensor]:
        parts = row.split([shape.numel() for shape in self.shapes])
        return {name: part.view(shape) for name, part, shape in zip(self.names, parts, self.shapes, strict=True)}


def side_by_side(model: Model, batch: Tensor) -> bool:
    """Whether to train seeds of this model together: on a GPU, where launching a kernel costs more than its
    arithmetic, and if the model lets ``vmap`` do it."""
    return batch.is_cuda and stackable(model, batch)


def stackable(model: Model, batch: Tensor) -> bool:
    """Whether seeds of this model can be trained side by side: two copies of it are tried on one batch."""
    try:
        pair = Stacked([copy.deepcopy(model), copy.deepcopy(model)], torch.stack([batch, batch]))
        pair.differentiate(pair.losses(torch.stack([batch, batch])))
    except (RuntimeError, ValueError, NotImplementedError):  # whatever vmap raises
        return False
    return True
