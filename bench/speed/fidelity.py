"""Is a row the flow that other libraries call by that name? Weights are copied, and both directions compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.speed.rows import imported
from models.flows.conditioner import Coupling, MaskedAutoregressive
from models.flows.univariate import AffineMap, RationalQuadraticSpline
from models.layer import Layer
from models.nets.made import MADE
from models.nets.mlp import ResidualMLP

DIM, HIDDEN, BINS, BOUND = 5, 16, 4, 3.0
MASK = torch.tensor([1, 0, 1, 0, 1])
TOLERANCE = 1e-5
"""Largest relative difference of float64 numbers that are called the same."""

Theirs = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Twin:
    """One layer here and elsewhere, with the same weights; each direction gives the other end and log|det|.

    ``decode`` None: the masks are another library's, and an inverse element by element needs our own.
    """

    mine: Layer
    encode: Theirs
    decode: Theirs | None = None


@dataclass(frozen=True)
class Agreement:
    """Largest relative differences of the latent, the log-determinant and the inverse."""

    row: str
    peer: str
    encode: float
    log_det: float
    decode: float | None

    @property
    def worst(self) -> float:
        return max(self.encode, self.log_det, self.decode or 0.0)


def agreements(names: list[str] | None = None) -> Iterator[Agreement]:
    """Every row with a twin, in float64, on rows that also lie far outside a spline's box."""
    for name in names or list(TWINS):
        for peer, build in TWINS.get(name, {}).items():
            with double_precision(), torch.no_grad():
                torch.manual_seed(0)
                yield _agreement(name, peer, build())


def _agreement(name: str, peer: str, twin: Twin) -> Agreement:
    x = torch.cat([2 * torch.randn(60, DIM), 20 * torch.randn(20, DIM)])
    z, log_det = twin.mine.encode(x)
    their_z, their_log_det = twin.encode(x)
    back = _difference(twin.mine.decode(z)[0], twin.decode(z)[0]) if twin.decode else None
    return Agreement(name, peer, _difference(z, their_z), _difference(log_det, their_log_det), back)


def _difference(mine: Tensor, theirs: Tensor) -> float:
    return float(((mine - theirs).abs() / (1 + theirs.abs())).max())


@contextmanager
def double_precision() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def copy_weights(target: nn.Module, source: nn.Module) -> None:
    """Every weight and bias in the order of definition, drawn anew first so that no zero hides a difference."""
    for mine, theirs in zip(target.parameters(), source.parameters(), strict=True):
        theirs.normal_(std=0.3)
        mine.copy_(theirs)


def sort_by_degree(made: MADE) -> None:
    """nflows numbers hidden units 1, 2, ..., D-1, 1, 2, ...; here they ascend. Weights that lie as there, moved."""
    order = (torch.arange(made.first.out_features) % (made.dim - 1)).argsort(stable=True)
    inner = [layer for block in made.blocks for layer in block if isinstance(layer, nn.Linear)]
    for layer in (made.first, *inner):
        layer.weight.copy_(layer.weight[order])
        layer.bias.copy_(layer.bias[order])
    for layer in (*inner, made.last):
        layer.weight.copy_(layer.weight[:, order])


class SoftplusAffine(AffineMap):
    """nflows' choice of scale."""

    def _log_scale(self, a: Tensor) -> Tensor:
        return torch.log(F.softplus(a) + 1e-3)


def _nflows_maf() -> Twin:
    mine = MaskedAutoregressive(SoftplusAffine(), MADE(DIM, [HIDDEN] * 2, 2))
    transforms = imported("nflows.transforms")
    theirs = transforms.MaskedAffineAutoregressiveTransform(DIM, HIDDEN, num_blocks=1, use_residual_blocks=False)
    copy_weights(mine, theirs)
    sort_by_degree(mine.made)
    return Twin(mine, theirs, theirs.inverse)


def _zuko_maf() -> Twin:
    """zuko masks hidden units in another pattern: its masks are copied along with its weights."""
    mine = MaskedAutoregressive(AffineMap("exp"), MADE(DIM, [HIDDEN] * 2, 2))
    theirs = imported("zuko.flows").MaskedAutoregressiveTransform(
        DIM,
        hidden_features=(HIDDEN, HIDDEN),
        univariate=lambda scale, shift: torch.distributions.AffineTransform(shift, scale.exp()),
        shapes=[(), ()],
    )
    copy_weights(mine, theirs)
    ours = [mine.made.first, mine.made.blocks[0][-1], mine.made.last]
    for layer, other in zip(ours, [m for m in theirs.hyper if isinstance(m, nn.Linear)], strict=True):
        layer.mask.copy_(other.mask)
    return Twin(mine, theirs().call_and_ladj)


def _residual_net(inputs: int, outputs: int) -> nn.Module:
    return imported("nflows.nn.nets").ResidualNet(inputs, outputs, hidden_features=HIDDEN)


def _nflows_affine_coupling() -> Twin:
    theirs = imported("nflows.transforms").AffineCouplingTransform(MASK, _residual_net)
    network = ResidualMLP(2, [HIDDEN] * 2, 6)
    copy_weights(network, theirs.transform_net)
    # nflows puts all shifts before all scales; here each element has (scale, shift).
    order = torch.tensor([3, 0, 4, 1, 5, 2])
    for parameter in network.last.parameters():
        parameter.copy_(parameter[order])
    return Twin(Coupling(AffineMap("sigmoid"), MASK.bool(), network), theirs, theirs.inverse)


def _nflows_rq_ar() -> Twin:
    spline = RationalQuadraticSpline(BINS, BOUND)
    mine = MaskedAutoregressive(spline, MADE(DIM, [HIDDEN] * 2, spline.n_params, residual=True))
    theirs = imported("nflows.transforms").MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
        DIM, HIDDEN, num_bins=BINS, tails="linear", tail_bound=BOUND, num_blocks=2
    )
    copy_weights(mine, theirs)
    sort_by_degree(mine.made)
    return Twin(mine, theirs, theirs.inverse)


def _nflows_rq_coupling() -> Twin:
    theirs = imported("nflows.transforms").PiecewiseRationalQuadraticCouplingTransform(
        MASK, _residual_net, num_bins=BINS, tails="linear", tail_bound=BOUND, apply_unconditional_transform=True
    )
    spline = RationalQuadraticSpline(BINS, BOUND, logit_scale=HIDDEN**-0.5)
    network = ResidualMLP(2, [HIDDEN] * 2, 3 * spline.n_params)
    mine = Coupling(spline, MASK.bool(), network, unconditional=True)
    copy_weights(network, theirs.transform_net)
    free = theirs.unconditional_transform
    for parameter in free.parameters():
        parameter.normal_()
    # nflows scales the logits of the network only.
    parts = [free.unnormalized_widths * HIDDEN**0.5, free.unnormalized_heights * HIDDEN**0.5]
    mine.free.copy_(torch.cat([*parts, free.unnormalized_derivatives], 1))
    return Twin(mine, theirs, theirs.inverse)


TWINS: dict[str, dict[str, Callable[[], Twin]]] = {
    "maf": {"nflows": _nflows_maf, "zuko": _zuko_maf},
    "realnvp": {"nflows": _nflows_affine_coupling},
    "rq-nsf-ar": {"nflows": _nflows_rq_ar},
    "rq-nsf-c": {"nflows": _nflows_rq_coupling},
}
