"""Invertible residual networks: i-ResNet (Behrmann et al. 2019, arXiv 1811.00995) and Residual Flow (Chen et al.
2019, arXiv 1906.02735): z = x + g(x) is a bijection because g is a contraction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from models.base import StandardNormal
from models.flows.normalization import ActNorm
from models.layer import ChainModel, Layer, Likelihood, sum_rest
from models.nets.mlp import Activation, activation_module
from models.preprocessing import Squash, preprocessing
from models.registry import DataSpec, register

LogDet = Literal["exact", "series", "roulette"]
Trace = Literal["exact", "hutchinson"]
CONTRACTIVE = ("relu", "tanh", "elu", "softplus")  # the activations whose slope is nowhere above one


class LipSwish(nn.Module):
    """x σ(βx) / 1.1 with a learned β > 0: smooth, and its slope stays below one (Residual Flow, section 3.3)."""

    def __init__(self) -> None:
        super().__init__()
        self.raw_beta = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(F.softplus(self.raw_beta) * x) / 1.1


class SpectralBound(nn.Module):
    """A parametrization W -> W / max(1, |W|₂ / c): its spectral norm is at most c (i-ResNet, section 2).

    In training mode |W|₂ comes from ``steps`` of power iteration per pass, started where the last pass ended: an
    estimate from below, tight for weights that move slowly. In evaluation mode it is exact, so the bound holds.
    """

    def __init__(self, weight: Tensor, coefficient: float, steps: int = 5) -> None:
        super().__init__()
        if not 0 < coefficient < 1:
            raise ValueError(f"coefficient is {coefficient}; a contraction takes a Lipschitz constant in (0, 1)")
        self.coefficient, self.steps = coefficient, steps
        self.register_buffer("right", F.normalize(torch.randn(weight.shape[1]), dim=0))

    def forward(self, weight: Tensor) -> Tensor:
        left, right = self._top_vectors(weight.detach())
        return weight / (left @ weight @ right / self.coefficient).clamp_min(1.0)

    @torch.no_grad()
    def _top_vectors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        if not self.training:
            u, _, v = torch.linalg.svd(weight, full_matrices=False)
            return u[:, 0], v[0]
        for _ in range(self.steps):
            left = F.normalize(weight @ self.right, dim=0)
            self.right.copy_(F.normalize(weight.T @ left, dim=0))
        return left.clone(), self.right.clone()


def contraction(
    dim: int, hidden: Sequence[int], *, coefficient: float = 0.98, activation: Activation = LipSwish
) -> nn.Sequential:
    """An MLP of Lipschitz constant at most ``coefficient`` to the power of its depth; an activation, itself
    1-Lipschitz, before every linear layer, as in the authors' code. It starts near zero.
    """
    if isinstance(activation, str) and activation not in CONTRACTIVE:
        raise ValueError(f"activation is {activation!r}; a contraction takes {', '.join(CONTRACTIVE)}")
    layers: list[nn.Module] = []
    widths = [dim, *hidden, dim]
    for narrow, wide in zip(widths[:-1], widths[1:], strict=True):
        layers += [activation_module(activation), nn.Linear(narrow, wide)]
    with torch.no_grad():
        layers[-1].weight.mul_(0.1)
    for layer in layers[1::2]:
        parametrize.register_parametrization(layer, "weight", SpectralBound(layer.weight, coefficient))
    return nn.Sequential(*layers)


class Residual(Layer):
    """z = x + g(x), g with a Lipschitz constant below one; log|det| = log det(I + J), J = ∂g/∂x, is one of

    * ``exact``: of the dense Jacobian, D vector-Jacobian products;
    * ``series``: sum_{k <= terms} (-1)^(k+1) tr(Jᵏ) / k, biased by its truncation (i-ResNet, section 3);
    * ``roulette``: the same series, cut at a random length and reweighted, so that it is unbiased (Residual Flow,
      theorem 1): ``terms`` terms (20 or more in evaluation mode, as the authors), then N more, N geometric with
      p = ``stop``, drawn once per batch.

    ``log_det`` holds in evaluation mode, where ``exact`` makes the likelihood exact, ``train_log_det`` in training.
    The trace is ``exact``, or ``hutchinson`` vᵀJᵏv with normal v. The gradient of a Hutchinson series is the Neumann
    estimator (theorem 2): it keeps one vector-Jacobian product in memory, not one per term.

    ``decode`` iterates x <- z - g(x) until |x + g(x) - z| <= ``tolerance`` (1 + |x|), ten roundings unless given, and
    raises ArithmeticError if ``iterations`` do not suffice.
    """

    SURE_IN_EVALUATION = 20
    steady = False  # the roulette's series has another length every time

    def __init__(
        self,
        net: nn.Module,
        *,
        log_det: LogDet = "exact",
        train_log_det: LogDet = "roulette",
        trace: Trace = "hutchinson",
        terms: int = 2,
        stop: float = 0.5,
        tolerance: float | None = None,
        iterations: int = 2000,
    ) -> None:
        super().__init__()
        for name, value in (("log_det", log_det), ("train_log_det", train_log_det)):
            if value not in ("exact", "series", "roulette"):
                raise ValueError(f"{name} is {value!r}; it takes exact, series or roulette")
        if trace not in ("exact", "hutchinson"):
            raise ValueError(f"trace is {trace!r}; it takes exact or hutchinson")
        if terms < 1 or not 0 < stop < 1:
            raise ValueError(f"terms is {terms} and stop is {stop}; a series takes a term or more, and 0 < stop < 1")
        self.net, self.log_det, self.train_log_det, self.trace = net, log_det, train_log_det, trace
        self.terms, self.stop, self.tolerance, self.iterations = terms, stop, tolerance, iterations

    @property
    def solver(self) -> str | None:  # type: ignore[override]
        """What the log-determinant is in evaluation mode, None if it is exact."""
        names = {"series": f"power series of {self.terms} terms, biased", "roulette": "Russian roulette, unbiased"}
        return f"{names[self.log_det]}, {self.trace} trace" if self.log_det in names else None

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        with parametrize.cached():  # the weights are normalised once
            return self._encode(x)

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        with parametrize.cached():
            x = self._fixed_point(z)
        with parametrize.cached():  # anew, for the weights above have no gradient
            residual = x + self.net(x) - z
            if torch.is_grad_enabled():  # a Newton step: it moves nothing, but has the solution's derivative
                inverse = torch.linalg.inv(self._jacobian(x) + torch.eye(x.shape[1]).to(x)).detach()
                x = x - torch.einsum("bij,bj->bi", inverse, residual)
            return x, self._encode(x)[1]

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        name = self.train_log_det if self.training else self.log_det
        if name == "exact":
            g = self.net(x)
            return x + g, torch.linalg.slogdet(self._jacobian(x) + torch.eye(x.shape[1]).to(x)).logabsdet
        weights = self._weights(name)
        if self.trace == "hutchinson":
            g, log_det = series_by_hutchinson(self.net, x, weights)
            return x + g, log_det
        g = self.net(x)
        return x + g, series_by_powers(self._jacobian(x), weights)

    def _jacobian(self, x: Tensor) -> Tensor:
        """∂g/∂x, (batch, D, D)."""
        return torch.func.vmap(torch.func.jacrev(self.net))(x)

    def _weights(self, name: str) -> list[float]:
        """What every term of the series is multiplied by: 1, or 1 / P(the series is that long)."""
        if name == "series":
            return [1.0] * self.terms
        sure = self.terms if self.training else max(self.terms, self.SURE_IN_EVALUATION)
        extra = int(torch.empty(()).geometric_(self.stop))  # on the CPU: no device is waited for
        return [1.0] * sure + [(1 - self.stop) ** -k for k in range(extra)]

    @torch.no_grad()
    def _fixed_point(self, z: Tensor) -> Tensor:
        tolerance = self.tolerance or 10 * torch.finfo(z.dtype).eps
        x, left = z, z.new_full((len(z),), torch.inf)
        for _ in range(self.iterations):
            before, x = x, z - self.net(x)
            left = torch.linalg.vector_norm(x - before, dim=1)
            if bool((left < tolerance * (1 + torch.linalg.vector_norm(x, dim=1))).all()):  # not so if both are inf
                return x
        raise ArithmeticError(
            f"the inverse of a residual block has not converged in {self.iterations} iterations: the worst row still "
            f"moves by {float(left.max()):.1e}"
        )


def series_by_powers(jacobian: Tensor, weights: Sequence[float]) -> Tensor:
    """sum_k w_k (-1)^(k+1) tr(Jᵏ) / k, shape (batch,); jacobian (batch, D, D)."""
    power, total = jacobian, torch.zeros_like(jacobian[:, 0, 0])
    for k, weight in enumerate(weights, 1):
        total = total - (-1) ** k * weight / k * power.diagonal(dim1=1, dim2=2).sum(1)
        power = power @ jacobian
    return total


def series_by_hutchinson(net: Callable[[Tensor], Tensor], x: Tensor, weights: Sequence[float]) -> tuple[Tensor, Tensor]:
    """g(x) and sum_k w_k (-1)^(k+1) vᵀJᵏv / k for one normal v per row.

    d/dθ log det(I + J) = tr((I + J)⁻¹ dJ/dθ), so the gradient is that of wᵀJv with the weighted Neumann series
    w = sum_k w_{k+1} (-1)^k (Jᵀ)ᵏ v held fixed; the value is the series' own.
    """
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x if x.requires_grad else x.detach().requires_grad_()
        g = net(x)
        v = torch.randn_like(x)
        product, neumann, value = v, torch.zeros_like(v), torch.zeros_like(v[:, 0])
        for k, weight in enumerate(weights, 1):
            neumann = neumann - (-1) ** k * weight * product
            (product,) = torch.autograd.grad(g, x, product, retain_graph=True)
            value = value - (-1) ** k * weight / k * sum_rest(product * v)
        if not graph:
            return g.detach(), value
        (last,) = torch.autograd.grad(g, x, neumann, create_graph=True)
        surrogate = sum_rest(last * v)
    return g, value + surrogate - surrogate.detach()


class ResidualModel(ChainModel):
    """A chain with residual blocks: where their log-determinant is estimated, so is the likelihood."""

    @property
    def likelihood(self) -> Likelihood:
        found = super().likelihood
        return Likelihood("estimate", solver=found.solver) if found.kind == "ode" else found


def _flow(
    spec: DataSpec,
    family: str,
    blocks: int,
    net: Callable[[], nn.Module],
    actnorm: bool,
    squash: Squash,
    **settings: object,
) -> ResidualModel:
    if len(spec.shape) != 1:
        raise ValueError(f"{family} takes vectors, not data of shape {spec.shape}")
    if blocks < 1:
        raise ValueError(f"blocks is {blocks}; {family} takes at least one")
    steps: list[Layer] = []
    for _ in range(blocks):
        steps += [*([ActNorm(spec.dim)] if actnorm else []), Residual(net(), **settings)]
    return ResidualModel([*preprocessing(spec, squash=squash), *steps], StandardNormal(spec.shape))


@register("i-resnet")
def i_resnet(
    spec: DataSpec,
    *,
    blocks: int = 10,
    hidden: Sequence[int] = (128, 128, 128, 128),
    coefficient: float = 0.9,
    activation: str = "elu",
    terms: int = 10,
    trace: Trace = "hutchinson",
    log_det: LogDet = "exact",
    actnorm: bool = False,
    squash: Squash = "standardize",
) -> ResidualModel:
    """i-ResNet (arXiv 1811.00995), dense: trained on a power series of ``terms`` terms, scored by ``log_det``."""
    return _flow(
        spec,
        "i-resnet",
        blocks,
        lambda: contraction(spec.dim, hidden, coefficient=coefficient, activation=activation),
        actnorm,
        squash,
        train_log_det="series",
        log_det=log_det,
        terms=terms,
        trace=trace,
    )


@register("residual-flow")
def residual_flow(
    spec: DataSpec,
    *,
    blocks: int = 10,
    hidden: Sequence[int] = (128, 128, 128, 128),
    coefficient: float = 0.98,
    terms: int = 2,
    stop: float = 0.5,
    trace: Trace = "hutchinson",
    log_det: LogDet = "exact",
    actnorm: bool = False,
    squash: Squash = "standardize",
) -> ResidualModel:
    """Residual Flow (arXiv 1906.02735), dense: trained on Russian roulette after ``terms`` sure terms, scored by
    ``log_det``."""
    return _flow(
        spec,
        "residual-flow",
        blocks,
        lambda: contraction(spec.dim, hidden, coefficient=coefficient),
        actnorm,
        squash,
        train_log_det="roulette",
        log_det=log_det,
        terms=terms,
        stop=stop,
        trace=trace,
    )
