"""Stochastic normalizing flows: blocks of flow couplings, each followed by a Monte Carlo walk.

Wu, Köhler and Noé 2020, arXiv 2002.06707. Block b of B carries samples towards the energy
u_λ = (1 - λ) u_Z + λ u_X, λ = b / B, and walks in it. A path from z to x has the importance weight

    log w = -u_X(x) - path log-probability (``sample_with_log_prob``) = -u_X(x) + u_Z(z) + Σ ΔS,

which makes expectations under exp(-u_X) / Z unbiased (E[w] = Z) and gives the effective sample size and free
energies; without stochastic blocks it is the flow's ordinary importance weight.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from torch import Tensor, nn

from models.base import StandardNormal
from models.flows.conditioner import Coupling
from models.flows.families import alternating_mask
from models.flows.univariate import AffineMap
from models.layer import ChainModel, Layer
from models.nets.mlp import MLP
from models.registry import DataSpec, register
from models.relaxed.stochastic import InterpolatedEnergy, Langevin, Metropolis, UnderdampedLangevin


class StochasticNormalizingFlow(ChainModel):
    """A chain with a known target energy, trained on data and on that energy.

    loss = (1 - a) · E_data[-log p(x)] + a · E_paths[-log w],   a = ``energy_weight``,

    where a is 0 during the first share ``warmup`` of the training: from data alone first.
    """

    def __init__(
        self, layers: Iterable[Layer], base: nn.Module, energy: nn.Module, *, energy_weight: float, warmup: float
    ) -> None:
        if not (0 <= energy_weight <= 1 and 0 <= warmup <= 1):
            raise ValueError(f"energy_weight is {energy_weight} and warmup is {warmup}; both are shares, from 0 to 1")
        super().__init__(layers, base)
        self.energy, self.energy_weight, self.warmup = energy, energy_weight, warmup

    @property
    def steady(self) -> bool:
        """Not at the end of the warm-up."""
        return False

    def loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        weight = self.energy_weight if self.progress >= self.warmup else 0.0
        total = x.new_zeros(())
        if weight < 1:
            total = total - (1 - weight) * self.log_prob(x, context).mean()
        if weight > 0:
            total = total - weight * self.log_weights(x.shape[0])[1].mean()
        return total

    def log_weights(self, n: int) -> tuple[Tensor, Tensor]:
        """n samples x and log w of the paths that made them, (n,), nats, as in the head of this file."""
        x, path = self.sample_with_log_prob(n)
        return x, -self.energy(x) - path


@register("snf")
def snf(
    spec: DataSpec,
    *,
    blocks: int = 3,
    hidden: Sequence[int] = (64, 64),
    stochastic: str = "metropolis",
    stochastic_steps: int = 20,
    step_size: float = 0.25,
    friction: float = 1.0,
    energy_weight: float = 0.5,
    warmup: float = 0.5,
) -> StochasticNormalizingFlow:
    """``blocks`` x (two affine couplings, a walk of ``stochastic_steps`` in u_λ), λ = 1/blocks, 2/blocks, ..., 1.

    ``stochastic``: metropolis | langevin | underdamped (with ``friction``), or none, which leaves exactly the
    Real NVP inside. Works in the coordinates of the energy, so the data are not standardised.
    """
    if spec.energy is None:
        raise ValueError("family 'snf' needs a data set with a known energy: choose one, such as double-well")
    underdamped = partial(UnderdampedLangevin, friction=friction)
    walks = {"none": None, "metropolis": Metropolis, "langevin": Langevin, "underdamped": underdamped}
    if stochastic not in walks:
        raise ValueError(f"stochastic is {stochastic!r}; it takes {', '.join(walks)}")
    base = StandardNormal(spec.shape)
    layers: list[Layer] = []
    for block in range(blocks, 0, -1):
        if walk := walks[stochastic]:
            layers.append(walk(InterpolatedEnergy(base, spec.energy, block / blocks), stochastic_steps, step_size))
        layers += [_coupling(spec.dim, hidden, parity) for parity in (0, 1)]
    return StochasticNormalizingFlow(layers, base, spec.energy, energy_weight=energy_weight, warmup=warmup)


def _coupling(dim: int, hidden: Sequence[int], parity: int) -> Coupling:
    """Transforms every other element by an affine map that reads the rest."""
    mask = alternating_mask(dim, parity)
    moved = int(mask.sum())
    return Coupling(AffineMap("tanh"), mask, MLP(dim - moved, hidden, 2 * moved))
