"""Autoregressive flows whose univariate map is a monotone network or polynomial, inverted by Newton steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch

from models.flows.conditioner import MaskedAutoregressive
from models.flows.families import features, flow, repeat
from models.flows.linear import Rescale, Reverse
from models.flows.normalization import BatchNorm
from models.flows.univariate import DeepDenseSigmoid, DeepSigmoid, MonotonicNetwork, SumOfSquares, Univariate
from models.layer import ChainModel, Layer
from models.nets.made import MADE
from models.preprocessing import Squash
from models.registry import DataSpec, register


def _steps(
    spec: DataSpec,
    flows: int,
    hidden: Sequence[int],
    activation: str,
    make: Callable[[], Univariate],
    *,
    batch_norm: bool = False,
    weight_norm: bool = False,
) -> list[Layer]:
    """``flows`` times a univariate map times MADE, the order reversed after each, and batch norm where asked for."""
    if flows < 1:
        raise ValueError(f"flows is {flows}; it is at least 1")

    def step(index: int) -> list[Layer]:
        univariate = make()
        options = {"context_dim": spec.context_dim, "activation": activation, "weight_norm": weight_norm}
        made = MADE(spec.dim, hidden, univariate.n_params, **options)
        with torch.no_grad():  # small parameters at first: powers of x would leave the floating-point numbers
            for parameter in (made.last.bias, made.last.lengths if weight_norm else made.last.weight):
                parameter.mul_(0.01)
        return [MaskedAutoregressive(univariate, made), *([BatchNorm(spec.dim)] if batch_norm else []), Reverse()]

    return repeat(step, flows)


@register("naf")
def naf(
    spec: DataSpec,
    *,
    flows: int = 5,
    transformer: Literal["ddsf", "dsf"] = "ddsf",
    dimension: int = 16,
    layers: int = 2,
    signal: int = 16,
    hidden: Sequence[int] = (100, 100),
    activation: str = "elu",
    weight_norm: bool = False,
    squash: Squash = "standardize",
) -> ChainModel:
    """Neural autoregressive flow (Huang et al. 2018, arXiv 1804.00779) with DDSF, as its tables have it, or DSF.

    The last layer is a free scale and shift per feature. ``weight_norm`` is that of the conditioner's linear layers.
    Both as in the authors' code.
    """
    transformers = {"ddsf": DeepDenseSigmoid, "dsf": DeepSigmoid}
    if transformer not in transformers:
        raise ValueError(f"transformer is {transformer!r}; it takes {' or '.join(transformers)}")
    features(spec, "naf")
    make = partial(transformers[transformer], dimension, layers, signal=signal)
    steps = _steps(spec, flows, hidden, activation, make, weight_norm=weight_norm)
    return flow(spec, squash, [*steps, Rescale(spec.dim, shift=True)])


@register("sos")
def sos(
    spec: DataSpec,
    *,
    flows: int = 8,
    polynomials: int = 5,
    degree: int = 4,
    bound: float = 5.0,
    hidden: Sequence[int] = (200, 200),
    activation: str = "relu",
    batch_norm: bool = True,
    squash: Squash = "standardize",
) -> ChainModel:
    """Sum-of-squares polynomial flow (Jaini et al. 2019, arXiv 1905.02325).

    Batch norm keeps a polynomial's values where the next one can take them: ten degrees compose to a thousand.
    """
    features(spec, "sos")
    make = partial(SumOfSquares, polynomials, degree, bound=bound)
    return flow(spec, squash, _steps(spec, flows, hidden, activation, make, batch_norm=batch_norm))


@register("umnn")
def umnn(
    spec: DataSpec,
    *,
    flows: int = 5,
    embedding: int = 30,
    integrand: Sequence[int] = (50, 50, 50, 50),
    steps: int = 50,
    hidden: Sequence[int] = (512, 512),
    activation: str = "relu",
    squash: Squash = "standardize",
) -> ChainModel:
    """Unconstrained monotonic neural networks, UMNN-MAF (Wehenkel & Louppe 2019, arXiv 1908.05164)."""
    features(spec, "umnn")
    layers = _steps(spec, flows, hidden, activation, lambda: MonotonicNetwork(embedding, integrand, steps))
    return flow(spec, squash, layers)
