"""The rows that are raced, each with the same architecture in every library that has it.

Two hidden layers of 256 and five steps; permutations and normalisation are left out, for the libraries choose them
differently.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

from bench.errors import UserError
from models.layer import Model
from models.registry import DataSpec, build

STEPS = 5
HIDDEN = (256, 256)
PEERS = ("zuko", "nflows")


@dataclass(frozen=True)
class Peer:
    """A density of another library: ``log_prob`` and ``sample`` of its module."""

    module: nn.Module
    log_prob: Callable[[Tensor], Tensor]
    sample: Callable[[int], Tensor]


@dataclass(frozen=True)
class Row:
    """A family with its settings, and the same flow in other libraries, by dimension."""

    family: str
    settings: dict[str, object]
    peers: dict[str, Callable[[int], Peer]] = field(default_factory=dict)
    note: str = ""

    def ours(self, dim: int) -> Model:
        return build(self.family, DataSpec((dim,)), **self.settings)


def _imported(name: str) -> object:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"{name} is not installed; run `pip install -c constraints.txt -e '.[test]'`") from None


def _zuko(flow: str, **settings: object) -> Callable[[int], Peer]:
    def make(dim: int) -> Peer:
        flows = _imported("zuko.flows")
        module = getattr(flows, flow)(dim, transforms=STEPS, hidden_features=HIDDEN, **settings)
        return Peer(module, lambda x: module().log_prob(x), lambda n: module().sample((n,)))

    return make


def _nflows(transform: Callable[[object, int, int], nn.Module]) -> Callable[[int], Peer]:
    def make(dim: int) -> Peer:
        transforms = _imported("nflows.transforms")
        flow, normal = _imported("nflows.flows").Flow, _imported("nflows.distributions").StandardNormal
        steps = [transform(transforms, dim, index) for index in range(STEPS)]
        module = flow(transforms.CompositeTransform(steps), normal([dim]))
        return Peer(module, module.log_prob, module.sample)

    return make


def _mask(dim: int, index: int) -> list[int]:
    return [(i + index) % 2 for i in range(dim)]


def _network(hidden: int) -> Callable[[int, int], nn.Module]:
    nets = _imported("nflows.nn.nets")
    return lambda inputs, outputs: nets.ResidualNet(inputs, outputs, hidden_features=hidden, num_blocks=len(HIDDEN))


BOUND, BINS = 5.0, 8

ROWS: dict[str, Row] = {
    "maf": Row(
        "maf",
        {"layers": STEPS, "hidden": HIDDEN, "batch_norm": False, "squash": "none"},
        {
            "zuko": _zuko("MAF"),
            "nflows": _nflows(
                lambda t, dim, _: t.MaskedAffineAutoregressiveTransform(
                    dim, HIDDEN[0], num_blocks=len(HIDDEN) - 1, use_residual_blocks=False
                )
            ),
        },
    ),
    "realnvp": Row(
        "realnvp",
        {"couplings": STEPS, "hidden": HIDDEN, "scale": "exp", "squash": "none"},
        {"zuko": _zuko("RealNVP")},
    ),
}
