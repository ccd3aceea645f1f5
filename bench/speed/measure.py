"""A row's training step, density and samples, beside its peers' and the floor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import nan

import torch
from torch import Tensor, nn

from bench.speed.floor import floor_step, products
from bench.speed.race import race
from bench.speed.rows import ROWS, Row
from models.layer import Model

WARM_STEPS = 200
"""Training steps before samples are timed: an untrained flow is near the identity and easy to invert."""


@dataclass(frozen=True)
class Timing:
    """One row in one library at one dimension; milliseconds.

    ``train``: loss and gradients, without the optimiser; ``per_floor``: that time over the floor's, the dense matrix
    products alone. Of ours, after a short training and without gradients: ``density`` and as many ``sample``s, and
    ``round_trip``, the largest relative difference of the samples' latents, scored, from those they were made of;
    both are nan where an inverse finds no x, ``round_trip`` also where a sample leaves the floating-point numbers.
    """

    row: str
    dim: int
    system: str
    train: float
    per_floor: float
    density: float | None = None
    sample: float | None = None
    round_trip: float | None = None

    @property
    def sample_per_density(self) -> float | None:
        return self.sample / self.density if self.sample and self.density else None


def measure(
    names: Sequence[str], dims: Sequence[int], peers: Sequence[str], batch: int, rounds: int, device: torch.device
) -> Iterator[Timing]:
    """Timings of each row at each dimension: the floor's, ours, those of the peers that have the row."""
    for name in names:
        for dim in dims:
            torch.manual_seed(0)
            yield from _row(name, ROWS[name], correlated(batch, dim, device), peers, rounds)


def _row(name: str, row: Row, x: Tensor, peers: Sequence[str], rounds: int) -> Iterator[Timing]:
    dim = x.shape[1]
    ours = row.ours(dim).to(x.device)
    steps = {"floor": floor_step(products(ours, x), x.device), "ours": gradients(ours, ours.log_prob, x)}
    for name_of_peer in peers:
        if name_of_peer in row.peers:
            peer = row.peers[name_of_peer](dim)
            steps[name_of_peer] = gradients(peer.module.to(x.device), peer.log_prob, x)
    seconds = race(steps, rounds)
    inference = _inference(ours, x, rounds)
    for system, best in seconds.items():
        yield Timing(name, dim, system, 1e3 * best, best / seconds["floor"], *(inference if system == "ours" else ()))


def correlated(n: int, dim: int, device: torch.device) -> Tensor:
    """Correlated, skewed rows of unit scale: a Gaussian through a fixed random matrix, bent by sinh."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(dim, dim, generator=generator) / dim**0.5 + torch.eye(dim)
    rows = torch.sinh(0.5 * torch.randn(n, dim, generator=generator) @ mixing)
    return ((rows - rows.mean(0)) / rows.std(0)).to(device)


def gradients(module: nn.Module, log_prob: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], object]:
    parameters = [p for p in module.parameters() if p.requires_grad]
    return lambda: torch.autograd.grad(-log_prob(x).mean(), parameters, allow_unused=True)


def _inference(model: Model, x: Tensor, rounds: int) -> tuple[float, float, float]:
    """Milliseconds of a density and of as many samples, and their round trip, after a short training."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(WARM_STEPS):
        optimizer.zero_grad()
        model.loss(x).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    model.eval()
    with torch.no_grad():
        functions = {"density": lambda: model.log_prob(x), "sample": lambda: model.sample(len(x))}
        try:
            seconds = race(functions, rounds)
        except ArithmeticError:
            return 1e3 * race({"density": functions["density"]}, rounds)["density"], nan, nan
        return 1e3 * seconds["density"], 1e3 * seconds["sample"], _round_trip(model, torch.randn_like(x))


def _round_trip(model: Model, z: Tensor) -> float:
    try:
        back, _ = model.chain.encode(model.chain.decode(z)[0])
    except ArithmeticError:
        return nan
    return float(((back - z).abs() / (1 + z.abs())).max())
