"""A row's training step, density and samples, beside its peers' and the floor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.speed.floor import floor_step, products
from bench.speed.race import race
from bench.speed.rows import ROWS, Row
from models.layer import Model

WARM_STEPS = 200
"""Training steps before samples are timed: how soon Jacobi iteration ends depends on the weights."""


@dataclass(frozen=True)
class Timing:
    """One row in one library at one dimension.

    ``train``: milliseconds of loss and gradients, without the optimiser. ``floor``: that time over the floor's.
    ``density``, ``sample``: milliseconds of ``log_prob`` and of as many samples, without gradients, after a short
    training (our rows only). ``error``: the largest difference of a sample from sequential inversion.
    """

    row: str
    dim: int
    system: str
    train: float
    floor: float
    density: float | None = None
    sample: float | None = None
    compiling: float | None = None

    @property
    def sample_per_density(self) -> float | None:
        return self.sample / self.density if self.sample and self.density else None


def measure(
    names: Sequence[str],
    dims: Sequence[int],
    peers: Sequence[str],
    *,
    batch: int = 512,
    rounds: int = 7,
    device: torch.device | None = None,
) -> Iterator[Timing]:
    """Timings of each row at each dimension: the floor's first, then ours, then the peers' that have the row."""
    device = device or torch.device("cpu")
    for name in names:
        for dim in dims:
            yield from _row(name, ROWS[name], dim, peers, batch, rounds, device)


def _row(
    name: str, row: Row, dim: int, peers: Sequence[str], batch: int, rounds: int, device: torch.device
) -> Iterator[Timing]:
    torch.manual_seed(0)
    x = correlated(batch, dim, device)
    ours = row.ours(dim).to(device)
    steps = {"floor": floor_step(products(ours, x), device), "ours": gradients(ours, ours.log_prob, x)}
    for peer in peers:
        if peer in row.peers:
            other = row.peers[peer](dim)
            other.module.to(device)
            steps[peer] = gradients(other.module, other.log_prob, x)
    seconds = race(steps, rounds)
    density, sample = _inference(ours, x, rounds)
    for system, best in seconds.items():
        mine = (1e3 * density, 1e3 * sample) if system == "ours" else (None, None)
        yield Timing(name, dim, system, 1e3 * best, best / seconds["floor"], *mine)


def correlated(n: int, dim: int, device: torch.device) -> Tensor:
    """Correlated, skewed rows of unit scale: a Gaussian through a fixed random matrix, bent by sinh."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(dim, dim, generator=generator) / dim**0.5 + torch.eye(dim)
    rows = torch.sinh(0.5 * torch.randn(n, dim, generator=generator) @ mixing)
    return ((rows - rows.mean(0)) / rows.std(0)).to(device)


def gradients(module: nn.Module, log_prob: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], object]:
    parameters = [p for p in module.parameters() if p.requires_grad]
    return lambda: torch.autograd.grad(-log_prob(x).mean(), parameters, allow_unused=True)


def _inference(model: Model, x: Tensor, rounds: int) -> tuple[float, float]:
    """Seconds of a density and of as many samples, after a short training."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(WARM_STEPS):
        optimizer.zero_grad()
        model.loss(x).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    model.eval()
    with torch.no_grad():
        seconds = race({"density": lambda: model.log_prob(x), "sample": lambda: model.sample(len(x))}, rounds)
    return seconds["density"], seconds["sample"]
