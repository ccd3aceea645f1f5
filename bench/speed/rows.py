"""The rows that are raced, each with the same architecture in every library that has it.

Two hidden layers of 256 and five steps (of residual rows: two blocks of two layers). Normalisation and learned linear
layers are left out, for the libraries choose them differently.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType

import torch
from torch import Tensor, nn

from bench.errors import UserError
from models.base import StandardNormal
from models.flows.conditioner import Coupling, MaskedAutoregressive
from models.flows.linear import Reverse
from models.flows.univariate import (
    AffineMap,
    DeepDenseSigmoid,
    MonotonicNetwork,
    RationalQuadraticSpline,
    SumOfSquares,
    Univariate,
)
from models.layer import ChainModel, Layer, Model
from models.nets.made import MADE
from models.nets.mlp import MLP, ResidualMLP

STEPS = 5
HIDDEN = (256, 256)
BINS, BOUND = 8, 5.0
INTEGRAND = (64, 64)
PEERS = ("zuko", "nflows")


@dataclass(frozen=True)
class Peer:
    """A density of another library: ``log_prob`` of its module."""

    module: nn.Module
    log_prob: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Row:
    """A flow by its dimension, here and in other libraries; ``note`` says where its peers are built otherwise."""

    ours: Callable[[int], Model]
    peers: dict[str, Callable[[int], Peer]] = field(default_factory=dict)
    note: str = ""


def imported(name: str) -> ModuleType:
    """A peer's module; UserError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        hint = "run `pip install -c constraints.txt -e '.[test]'`"
        raise UserError(f"{name.split('.')[0]} is not installed; {hint}, or leave it out with --peer") from None


def _chain(step: Callable[[int, int], list[Layer]]) -> Callable[[int], Model]:
    """``STEPS`` times the layers that ``step`` gives for (dim, index)."""

    def make(dim: int) -> Model:
        return ChainModel([layer for index in range(STEPS) for layer in step(dim, index)], StandardNormal((dim,)))

    return make


def _autoregressive(univariate: Callable[[], Univariate], **settings: object) -> Callable[[int], Model]:
    def step(dim: int, _: int) -> list[Layer]:
        found = univariate()
        made = MADE(dim, HIDDEN, found.n_params, **settings)
        return [MaskedAutoregressive(found, made), Reverse()]

    return _chain(step)


def _coupling(
    univariate: Callable[[], Univariate], network: type[MLP] | type[ResidualMLP] = MLP
) -> Callable[[int], Model]:
    def step(dim: int, index: int) -> list[Layer]:
        found, mask = univariate(), torch.tensor(_mask(dim, index), dtype=torch.bool)
        moved = int(mask.sum())
        return [Coupling(found, mask, network(dim - moved, HIDDEN, moved * found.n_params))]

    return _chain(step)


def _mask(dim: int, index: int) -> list[int]:
    return [(i + index) % 2 for i in range(dim)]


def _zuko(flow: str, **settings: object) -> Callable[[int], Peer]:
    def make(dim: int) -> Peer:
        module = getattr(imported("zuko.flows"), flow)(dim, transforms=STEPS, hidden_features=HIDDEN, **settings)
        return Peer(module, lambda x: module().log_prob(x))

    return make


def _zuko_spline_coupling(dim: int) -> Peer:
    """zuko's own NSF(passes=2) masks a network over all features; a coupling's reads half of them."""
    coupling, transforms = imported("zuko.flows.coupling"), imported("zuko.transforms")
    steps = [
        coupling.GeneralCouplingTransform(
            dim,
            mask=torch.tensor(_mask(dim, index), dtype=torch.bool),
            univariate=lambda *phi: transforms.MonotonicRQSTransform(*phi, bound=BOUND),
            shapes=[(BINS,), (BINS,), (BINS - 1,)],
            hidden_features=HIDDEN,
        )
        for index in range(STEPS)
    ]
    normal = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(dim), 1.0), 1)
    module = imported("zuko.flows").Flow(steps, lambda context: normal)
    return Peer(module, lambda x: module().log_prob(x))


def _nflows(transform: Callable[[ModuleType, int, int], nn.Module]) -> Callable[[int], Peer]:
    def make(dim: int) -> Peer:
        transforms = imported("nflows.transforms")
        flow, normal = imported("nflows.flows").Flow, imported("nflows.distributions").StandardNormal
        steps = [transform(transforms, dim, index) for index in range(STEPS)]
        module = flow(transforms.CompositeTransform(steps), normal([dim]))
        return Peer(module, module.log_prob)

    return make


def _residual_net(inputs: int, outputs: int) -> nn.Module:
    return imported("nflows.nn.nets").ResidualNet(inputs, outputs, HIDDEN[0], num_blocks=len(HIDDEN))


def _spline() -> Univariate:
    return RationalQuadraticSpline(BINS, BOUND)


_nflows_spline = {"num_bins": BINS, "tails": "linear", "tail_bound": BOUND}

ROWS: dict[str, Row] = {
    "maf": Row(
        _autoregressive(AffineMap),
        {
            "zuko": _zuko("MAF"),
            "nflows": _nflows(
                lambda t, dim, _: t.MaskedAffineAutoregressiveTransform(
                    dim, HIDDEN[0], num_blocks=len(HIDDEN) - 1, use_residual_blocks=False
                )
            ),
        },
    ),
    "realnvp": Row(_coupling(AffineMap), {"zuko": _zuko("RealNVP")}),
    "realnvp-residual": Row(
        _coupling(lambda: AffineMap("sigmoid"), ResidualMLP),
        {"nflows": _nflows(lambda t, dim, index: t.AffineCouplingTransform(_mask(dim, index), _residual_net))},
    ),
    "rq-nsf-ar": Row(_autoregressive(_spline), {"zuko": _zuko("NSF", bins=BINS)}),
    "rq-nsf-ar-residual": Row(
        _autoregressive(_spline, residual=True),
        {
            "nflows": _nflows(
                lambda t, dim, _: t.MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
                    dim, HIDDEN[0], num_blocks=len(HIDDEN), **_nflows_spline
                )
            )
        },
    ),
    "rq-nsf-c": Row(_coupling(_spline), {"zuko": _zuko_spline_coupling}),
    "rq-nsf-c-residual": Row(
        _coupling(_spline, ResidualMLP),
        {
            "nflows": _nflows(
                lambda t, dim, index: t.PiecewiseRationalQuadraticCouplingTransform(
                    _mask(dim, index), _residual_net, **_nflows_spline
                )
            )
        },
    ),
    "sos": Row(
        _autoregressive(lambda: SumOfSquares(3, 4, bound=1.0)),
        {"zuko": _zuko("SOSPF", polynomials=3, degree=4)},
        "ours go on along their tangents beyond 1, without which training before sampling diverges; zuko's read x / 10",
    ),
    "naf": Row(
        _autoregressive(DeepDenseSigmoid, activation="tanh"),
        {"zuko": _zuko("NAF", network={"hidden_features": (32, 32)}, activation=nn.Tanh)},
        "value and slope take 3,376 multiply-adds here, for a dense sigmoid flow of two layers of 16, and 3,200 in "
        "zuko, a positive network (32, 32) per feature and its gradient by the input; both read a signal of 16; tanh "
        "in the masked networks: with ReLU a sample far out makes the next ones farther, until one is not a number",
    ),
    "umnn": Row(
        _autoregressive(lambda: MonotonicNetwork(16, INTEGRAND, 32)),
        {"zuko": _zuko("UNAF", network={"hidden_features": INTEGRAND})},
        "33 Clenshaw-Curtis nodes here, 32 Gauss-Legendre nodes in zuko, which has one network per feature",
    ),
}
