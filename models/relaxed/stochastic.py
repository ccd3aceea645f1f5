"""Stochastic blocks of normalizing flows: Monte Carlo kernels as layers z <-> x.

A block runs a Markov kernel in both directions and contributes

    log p(x|z) - log q(z|x) = -ΔS,    ΔS = log q̃(x -> z) / q(z -> x)

(Wu, Köhler and Noé 2020, Stochastic Normalizing Flows, arXiv 2002.06707), over the whole path of steps inside
it, so the noise of each step never needs to be integrated out. The kernels here are their own backward kernels:
``encode`` and ``decode`` take the same random walk and differ only in the sign of what they contribute.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.layer import Kind, Layer, sum_rest


class InterpolatedEnergy(nn.Module):
    """u_λ(x) = (1 - λ) u_Z(x) + λ u_X(x), u_Z = -log p_Z of the base: (batch, ...) -> (batch,), units of kT.

    λ runs from 0 at the noise to 1 at the data, so that each block is asked for a small move only.
    """

    def __init__(self, base: nn.Module, target: nn.Module, fraction: float) -> None:
        super().__init__()
        self.base, self.target, self.fraction = base, target, fraction

    def forward(self, x: Tensor) -> Tensor:
        if self.fraction == 1:
            return self.target(x)
        return (self.fraction - 1) * self.base.log_prob(x) + self.fraction * self.target(x)


def energy_gradient(energy: nn.Module, x: Tensor) -> Tensor:
    """∇u(x), shape of x; itself differentiable in x where the caller needs that. Parameters of u get no gradient."""
    differentiable = torch.is_grad_enabled() and x.requires_grad
    with torch.enable_grad():
        point = x if differentiable else x.detach().requires_grad_()
        return torch.autograd.grad(energy(point).sum(), point, create_graph=differentiable)[0]


class ReversibleWalk(Layer):
    """A block that walks the same way from z to x as from x to z. To write one: ``walk``.

    ``energy``: module u(x) -> (batch,); ``steps``: how many steps one block takes; ``step_size``: their size.
    """

    kind = Kind.STOCHASTIC

    def __init__(self, energy: nn.Module, steps: int, step_size: float) -> None:
        super().__init__()
        if steps < 0 or step_size <= 0:
            raise ValueError(f"a stochastic block takes steps >= 0 and step_size > 0, not {steps} and {step_size}")
        self.energy, self.steps, self.step_size = energy, steps, step_size

    def walk(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """y -> (y', log q(y -> y') - log q(y' -> y) of the path taken), (batch,), nats."""
        raise NotImplementedError

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.walk(z)

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, log_ratio = self.walk(x)
        return z, -log_ratio


class Metropolis(ReversibleWalk):
    """Random-walk Metropolis: propose y + step_size·w, w ~ N(0, I), accept with min(1, exp(u(y) - u(y'))).

    Detailed balance makes the contribution u(z) - u(x), whatever happened in between. Gradients pass through
    the proposals and not through the decisions to accept, as in Wu et al.; so x moves with z, one to one.
    Costs steps + 1 energies, and one more under autograd.
    """

    def walk(self, y: Tensor) -> tuple[Tensor, Tensor]:
        start = self.energy(y)
        with torch.no_grad():
            end, level = y, start
            noises = self.step_size * torch.randn(self.steps, *y.shape, dtype=y.dtype, device=y.device)
            thresholds = torch.rand(self.steps, y.shape[0], dtype=y.dtype, device=y.device).log()
            for noise, threshold in zip(noises, thresholds, strict=True):
                proposal = end + noise
                proposed = self.energy(proposal)
                accept = threshold < level - proposed
                end = torch.where(accept.view(-1, *[1] * (y.ndim - 1)), proposal, end)
                level = torch.where(accept, proposed, level)
        if not torch.is_grad_enabled():
            return end, start - level
        moved = y + (end - y).detach()
        return moved, start - self.energy(moved)


class Langevin(ReversibleWalk):
    """Overdamped Langevin steps y' = y - ε∇u(y) + sqrt(2ε) w, ε = step_size, neither accepted nor rejected.

    Per step ΔS = ½(||w||² - ||w̃||²), with w̃ = sqrt(ε/2)(∇u(y) + ∇u(y')) - w the noise that would lead back.
    Costs steps + 1 energies (with gradients).
    """

    def walk(self, y: Tensor) -> tuple[Tensor, Tensor]:
        epsilon, log_ratio = self.step_size, y.new_zeros(y.shape[0])
        slope = energy_gradient(self.energy, y) if self.steps else y
        for _ in range(self.steps):
            noise, before = torch.randn_like(y), slope
            y = y - epsilon * before + (2 * epsilon) ** 0.5 * noise
            slope = energy_gradient(self.energy, y)
            back = (epsilon / 2) ** 0.5 * (before + slope) - noise
            log_ratio = log_ratio + 0.5 * sum_rest(back**2 - noise**2)
        return y, log_ratio


class UnderdampedLangevin(ReversibleWalk):
    """Langevin dynamics with unit mass at kT = 1, integrated by Brünger-Brooks-Karplus (BBK) steps of Δ = step_size,

        v½ = v - Δ/2 (∇u(y) + γ v) + c w₁,   y' = y + Δ v½,   v' = (v½ - Δ/2 ∇u(y') + c w₂) / (1 + γΔ/2),

    c = sqrt(γΔ), γ = ``friction``. The way back starts from (y', -v') and needs the noises w̃₁ = w₂ - c v' and
    w̃₂ = w₁ - c v, hence ΔS = ½ Σ (w² - w̃²) per step.

    The velocity lives only inside the block: it is drawn from N(0, I) at the start, and the way back draws its
    own, -v', from N(0, I). The block thus adds log N(v_first) - log N(v_last) and is a valid stochastic layer of
    positions. Without friction it is leapfrog, and the block contributes the gain in kinetic energy.
    Costs steps + 1 energies (with gradients).
    """

    def __init__(self, energy: nn.Module, steps: int, step_size: float, friction: float = 1.0) -> None:
        super().__init__(energy, steps, step_size)
        if friction < 0:
            raise ValueError(f"friction is {friction}; it takes 0, which is no friction, or more")
        self.friction = friction

    def walk(self, y: Tensor) -> tuple[Tensor, Tensor]:
        delta, drag = self.step_size, self.friction * self.step_size
        kick = drag**0.5
        velocity = torch.randn_like(y)
        log_ratio = -0.5 * sum_rest(velocity**2)
        slope = energy_gradient(self.energy, y) if self.steps else y
        for _ in range(self.steps):
            noise1, noise2, before = torch.randn_like(y), torch.randn_like(y), velocity
            half = before - 0.5 * (delta * slope + drag * before) + kick * noise1
            y = y + delta * half
            slope = energy_gradient(self.energy, y)
            velocity = (half - 0.5 * delta * slope + kick * noise2) / (1 + 0.5 * drag)
            back1, back2 = noise2 - kick * velocity, noise1 - kick * before
            log_ratio = log_ratio + 0.5 * sum_rest(back1**2 + back2**2 - noise1**2 - noise2**2)
        return y, log_ratio + 0.5 * sum_rest(velocity**2)
