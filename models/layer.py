"""The contract that every family keeps: layers between data and noise, and models that score and sample.

The view is that of SurVAE flows (Nielsen et al. 2020, arXiv 2007.02731, eq. 6): a generative model is a
chain of steps x <-> z, and each step adds one *contribution* to the log-likelihood,

    log p(x) ≃ log p(z) + [log p(x|z) - log q(z|x)],    z ~ q(z|x).

A bijection's contribution is log|det dz/dx|; an inference surjection's (z a function of x) is still exact;
a generative surjection's or a stochastic layer's makes the sum a lower bound in expectation.
All log-densities are in nats and have shape ``(batch,)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor, nn


class Kind(Enum):
    """What a layer is in each direction (SurVAE flows, table 1)."""

    BIJECTION = "bijection"
    INFERENCE_SURJECTION = "inference surjection"
    GENERATIVE_SURJECTION = "generative surjection"
    STOCHASTIC = "stochastic"

    @property
    def exact(self) -> bool:
        """Whether z is a function of x, so that the contribution leaves the likelihood exact."""
        return self in (Kind.BIJECTION, Kind.INFERENCE_SURJECTION)

    @staticmethod
    def of_chain(kinds: Iterable[Kind]) -> Kind:
        """The kind of a composition: deterministic both ways, one way, the other way, or neither."""
        kinds = set(kinds)
        if kinds <= {Kind.BIJECTION}:
            return Kind.BIJECTION
        if kinds <= {Kind.BIJECTION, Kind.INFERENCE_SURJECTION}:
            return Kind.INFERENCE_SURJECTION
        if kinds <= {Kind.BIJECTION, Kind.GENERATIVE_SURJECTION}:
            return Kind.GENERATIVE_SURJECTION
        return Kind.STOCHASTIC

    @property
    def inverse(self) -> Kind:
        """What the same step is with its ends exchanged."""
        if self is Kind.INFERENCE_SURJECTION:
            return Kind.GENERATIVE_SURJECTION
        return Kind.INFERENCE_SURJECTION if self is Kind.GENERATIVE_SURJECTION else self


@dataclass(frozen=True)
class Likelihood:
    """What a number called "log-likelihood" is: numbers are ranked only where this agrees.

    ``solver`` names a numerical integrator where one is involved ("dopri5 rtol 1e-05 ..., exact trace").
    """

    kind: str  # exact | lower_bound | importance_bound | ode | none
    importance_samples: int | None = None
    solver: str | None = None

    def __str__(self) -> str:
        name = self.kind.replace("_", " ")
        if self.importance_samples is not None:
            name += f" (k={self.importance_samples})"
        return f"{name} [{self.solver}]" if self.solver else name

    @property
    def is_bound(self) -> bool:
        return self.kind in ("lower_bound", "importance_bound")

    @classmethod
    def of(cls, kind: Kind, solver: str | None) -> Likelihood:
        """Derived from what the chain is and how it is computed."""
        if not kind.exact:
            return cls("lower_bound", solver=solver)
        return cls("ode", solver=solver) if solver else EXACT


EXACT = Likelihood("exact")
LOWER_BOUND = Likelihood("lower_bound")
NO_LIKELIHOOD = Likelihood("none")


class Layer(nn.Module):
    """One step x <-> z of a generative chain. The implementer's manual:

    * write ``encode`` and ``decode``; each returns the other end and its contribution, shape ``(batch,)``,
      nats: log p(x|z) - log q(z|x) *at the pair at hand*. For a bijection both directions therefore return
      the same number, log|det dz/dx|.
    * set ``kind`` if the layer is not a bijection, and ``solver`` if a numerical integrator is at work.
    * draw randomness from torch's global generator: the harness seeds it;
    * set ``settles`` and override ``settle`` if the layer keeps statistics of the whole training set;
    * unset ``steady`` if ``encode`` does not run the same operations on every batch in training mode, as where
      the data or a random number decide how many there are: a step that is ``steady`` may be recorded and replayed.

    Free of charge: chains, likelihood kind, sampling, bounds, contract tests (``tests/contracts``).
    """

    kind: Kind = Kind.BIJECTION
    solver: str | None = None
    settles: bool = False
    steady: bool = True

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x -> (z ~ q(z|x), contribution)."""
        raise NotImplementedError

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z -> (x ~ p(x|z), contribution)."""
        raise NotImplementedError

    def settle(self, blocks: list[Tensor], contexts: list[Tensor | None]) -> None:
        """In evaluation mode, see the whole training set in ``blocks``; replace each by where the layer sends it."""
        for i, context in enumerate(contexts):
            blocks[i] = self.encode(blocks[i], context)[0]


class Inverse(Layer):
    """A layer with its ends exchanged: ``encode`` is its ``decode``, and the contribution changes its sign."""

    steady = False  # a ``decode`` may search for its result

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer

    @property
    def kind(self) -> Kind:  # type: ignore[override]
        return self.layer.kind.inverse

    @property
    def solver(self) -> str | None:  # type: ignore[override]
        return self.layer.solver

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, contribution = self.layer.decode(x, context)
        return z, -contribution

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, contribution = self.layer.encode(z, context)
        return x, -contribution


class Chain(Layer):
    """Layers in the order in which ``encode`` meets them, data first: x = x0 -> x1 -> ... -> z."""

    def __init__(self, layers: Iterable[Layer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    @property
    def kind(self) -> Kind:  # type: ignore[override]
        return Kind.of_chain(layer.kind for layer in self.layers)

    @property
    def solver(self) -> str | None:  # type: ignore[override]
        return next((layer.solver for layer in self.layers if layer.solver), None)

    @property
    def settles(self) -> bool:  # type: ignore[override]
        return any(layer.settles for layer in self.layers)

    def settle(self, blocks: list[Tensor], contexts: list[Tensor | None]) -> None:
        for layer in self.layers:
            layer.settle(blocks, contexts)

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._run(x, context, [layer.encode for layer in self.layers])

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._run(z, context, [layer.decode for layer in reversed(self.layers)])

    @staticmethod
    def _run(value: Tensor, context: Tensor | None, steps: list[Callable]) -> tuple[Tensor, Tensor]:
        total: Tensor | float = 0.0
        for step in steps:
            value, contribution = step(value, context)
            total = total + contribution
        return value, total if isinstance(total, Tensor) else value.new_zeros(value.shape[0])


class Model(nn.Module):
    """A density with a likelihood of a stated kind, a sampler and a loss. The implementer's manual:

    * write ``sample``, and ``log_prob`` unless ``likelihood`` is ``none``;
    * override ``loss`` if training is not maximum likelihood; it may read ``progress``, the share of the
      training that lies behind (set by the loop), to schedule itself;
    * override ``estimators`` to offer more than one estimate of the likelihood.

    A model takes data exactly as the data set gives it (integers for images), so a score needs no
    correction outside; ``bits per dimension = -log_prob / (D log 2)``.
    """

    progress: float = 0.0
    estimator_k: int = 16  # importance samples of the second estimate that bounds get

    @property
    def likelihood(self) -> Likelihood:
        raise NotImplementedError

    @property
    def steady(self) -> bool:
        """Whether the loss runs the same operations on every batch: derived from the layers."""
        return all(layer.steady for layer in self.modules() if isinstance(layer, Layer))

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Shape (batch,), nats; what ``likelihood`` says it is."""
        raise NotImplementedError

    def sample(self, n: int, context: Tensor | None = None) -> Tensor:
        """n draws, shape (n, *shape)."""
        raise NotImplementedError

    def loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Scalar training objective: the mean negative log-likelihood (or bound), nats."""
        return -self.log_prob(x, context).mean()

    def settle(self, x: Tensor, context: Tensor | None = None, rows: int = 8192) -> None:
        """Take what the model keeps of the whole training set x; to be called before the model is scored.

        Most models keep nothing. ``rows`` go through the model at a time.
        """

    def importance_bound(self, x: Tensor, k: int, context: Tensor | None = None) -> Tensor:
        """IWBO_k = log 1/k sum_i exp(log_prob_i(x)) >= ELBO (Burda et al. 2016, eq. 8), k draws of the path."""
        draws = torch.stack([self.log_prob(x, context) for _ in range(k)])
        return torch.logsumexp(draws, 0) - math.log(k)

    def estimators(self) -> list[tuple[Likelihood, Callable[[Tensor], Tensor]]]:
        """Every estimate of log p(x) this model offers, the headline first."""
        if self.likelihood.kind == "none":
            return []
        found: list[tuple[Likelihood, Callable[[Tensor], Tensor]]] = [(self.likelihood, self.log_prob)]
        if self.likelihood.kind == "lower_bound":
            k = self.estimator_k
            tighter = Likelihood("importance_bound", k, self.likelihood.solver)
            found.append((tighter, lambda x: self.importance_bound(x, k)))
        return found


class ChainModel(Model):
    """log p(x) ≃ log p(z) + sum of contributions: a chain of layers ending in a base density.

    Flows, SurVAE flows, SNFs, VAEs and diffusions are all of this form; the kind of the likelihood is
    derived from the layers, never declared.
    """

    def __init__(self, layers: Iterable[Layer], base: nn.Module) -> None:
        super().__init__()
        self.chain = Chain(layers)
        self.base = base

    @property
    def likelihood(self) -> Likelihood:
        return Likelihood.of(self.chain.kind, self.chain.solver)

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        z, contribution = self.chain.encode(x, context)
        return self.base.log_prob(z, context) + contribution

    @torch.no_grad()
    def settle(self, x: Tensor, context: Tensor | None = None, rows: int = 8192) -> None:
        """Layer by layer, each seeing where the settled layers before it send x: one pass, and one copy of x."""
        if not self.chain.settles:
            return
        was_training = self.training
        self.eval()
        blocks = list(x.split(rows))
        self.chain.settle(blocks, [None] * len(blocks) if context is None else list(context.split(rows)))
        self.train(was_training)

    def sample(self, n: int, context: Tensor | None = None) -> Tensor:
        return self.sample_with_log_prob(n, context)[0]

    def sample_with_log_prob(self, n: int, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """n draws x (differentiable) and log p(z) + contributions along the very path that made them.

        For exact chains the second is log p(x). For stochastic ones exp(-u(x) - it) is the importance
        weight of the path (Wu et al. 2020, arXiv 2002.06707, eq. 15).
        """
        z = self.base.sample(n, context)
        x, contribution = self.chain.decode(z, context)
        return x, self.base.log_prob(z, context) + contribution


def sum_rest(x: Tensor) -> Tensor:
    """Sum over every dimension but the first: (batch, ...) -> (batch,)."""
    return x.reshape(x.shape[0], -1).sum(1)
