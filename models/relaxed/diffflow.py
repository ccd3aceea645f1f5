"""Diffusion normalizing flow: a diffusion whose forward process is learned too (Zhang and Chen 2021, arXiv 2110.07579).

    forward   dx = f(t, x) dt + g(t) dw             from data (t = 0) to noise (t = 1)
    backward  dx = [f(t, x) - g(t)² s(t, x)] dt + g(t) dw

With g -> 0 it is a continuous flow in Euler steps; with f fixed it is a diffusion model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.base import StandardNormal
from models.flows.continuous import ContinuousFlow
from models.layer import ChainModel, Kind, Layer, Likelihood, sum_rest
from models.nets.time import TimeMLP
from models.preprocessing import preprocessing
from models.registry import DataSpec, register

GRID_EXPONENT = 1 / 0.9  # of i / N: steps are finer near the data


class DiffusionPath(Layer):
    """N Gaussian steps x_0 = data, ..., x_N = noise, at times t_i = (i/N)^(1/.9), Δ_i = t_{i+1} - t_i:

        q:  x_{i+1} = x_i + f_i(x_i) Δ_i + g_i sqrt(Δ_i) δF_i
        p:  x_i = x_{i+1} - [f_{i+1} - g²_{i+1} s_{i+1}](x_{i+1}) Δ_i + g_{i+1} sqrt(Δ_i) δB_i

    and log p(x|z) - log q(z|x) = ½ Σ (||δF||² - ||δB||²) - d log(g_N / g_0), the noises being standard normal.
    One pass of either direction evaluates f at N + 1 states and s at N.

    ``drift`` and ``score`` are fields (t, x, context) -> like x; g(t) runs geometrically from ``noise[0]`` to
    ``noise[1]``. With ``replay`` only the states are kept for the gradient, and f is evaluated again on the way
    back: memory independent of the depth of the networks, a third more time.
    """

    kind = Kind.STOCHASTIC

    def __init__(
        self, drift: nn.Module, score: nn.Module, steps: int, noise: Sequence[float] = (0.2, 0.2), replay: bool = False
    ) -> None:
        super().__init__()
        if steps < 1 or len(noise) != 2 or min(noise) <= 0:
            raise ValueError(f"DiffFlow takes steps >= 1 and two noise levels > 0, not {steps} and {list(noise)}")
        self.drift, self.score, self.steps, self.replay = drift, score, steps, replay
        self.register_buffer("log_noise", torch.tensor(noise, dtype=torch.get_default_dtype()).log(), persistent=False)

    def diffusion(self, t: Tensor) -> Tensor:
        """g(t)."""
        return torch.lerp(self.log_noise[0], self.log_noise[1], t).exp()

    def grid(self, steps: int) -> Tensor:
        """t_0 = 0, ..., t_steps = 1."""
        like = self.log_noise
        return torch.linspace(0, 1, steps + 1, dtype=like.dtype, device=like.device) ** GRID_EXPONENT

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        t = self.grid(self.steps)
        spread = self.diffusion(t[:-1]) * t.diff().sqrt()
        path, drifts = [x], [self._drift(t[0], x, context)]
        for i, span in enumerate(t.diff()):
            x = x + drifts[-1] * span + spread[i] * torch.randn_like(x)
            path.append(x)
            drifts.append(self._drift(t[i + 1], x, context))
        # The scores steer nothing on the way to the noise, so all N states are scored at once.
        states = torch.stack(path)
        scores = torch.func.vmap(self.score, (0, 0, None), randomness="different")(t[1:], states[1:], context)
        return x, self._contribution(t, states, torch.stack(drifts), scores)

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        t = self.grid(self.steps)
        path, drifts, scores = [z], [self._drift(t[-1], z, context)], []
        for start, end in pairwise(t.flip(0)):
            scores.append(self.score(start, path[-1], context))
            path.append(self._step_back(path[-1], drifts[-1], scores[-1], start, end, 1.0))
            drifts.append(self._drift(end, path[-1], context))
        forward = [torch.stack(parts[::-1]) for parts in (path, drifts, scores)]
        return path[-1], self._contribution(t, *forward)

    def simulate(self, z: Tensor, context: Tensor | None, steps: int | None = None, noise: float = 1.0) -> Tensor:
        """z -> x by dx = [f - (1 + λ²)/2 g² s] dt + λ g dw, λ = ``noise``, in ``steps`` Euler steps (N if None).

        Every λ has the same marginals where s is the score; λ = 1 in N steps is ``decode``, λ = 0 the ODE.
        """
        for start, end in pairwise(self.grid(steps or self.steps).flip(0)):
            z = self._step_back(z, self.drift(start, z, context), self.score(start, z, context), start, end, noise)
        return z

    def probability_flow(self) -> ContinuousFlow:
        """The ODE of λ = 0 as an exact layer: dx/dt = f - ½ g² s."""
        return ContinuousFlow(_ProbabilityFlow(self), train_method="dopri5")

    def _drift(self, t: Tensor, x: Tensor, context: Tensor | None) -> Tensor:
        if self.replay and torch.is_grad_enabled():
            return checkpoint(self.drift, t, x, context, use_reentrant=False)
        return self.drift(t, x, context)

    def _step_back(self, x: Tensor, drift: Tensor, score: Tensor, start: Tensor, end: Tensor, noise: float) -> Tensor:
        g, span = self.diffusion(start), start - end
        velocity = drift - 0.5 * (1 + noise**2) * g**2 * score
        return x - velocity * span + noise * g * span.sqrt() * torch.randn_like(x)

    def _contribution(self, t: Tensor, path: Tensor, drifts: Tensor, scores: Tensor) -> Tensor:
        """Of a path (N+1, batch, ...), the drifts at its states and the scores at all but the first."""
        column = (-1, *[1] * (path.ndim - 1))
        span, g = t.diff().view(column), self.diffusion(t).view(column)
        gap = path.diff(dim=0)
        ahead = (gap - drifts[:-1] * span) / (g[:-1] * span.sqrt())
        back = ((drifts[1:] - g[1:] ** 2 * scores) * span - gap) / (g[1:] * span.sqrt())
        volume = path[0, 0].numel() * (self.log_noise[1] - self.log_noise[0])
        return 0.5 * sum_rest((ahead**2 - back**2).transpose(0, 1)) - volume


class _ProbabilityFlow(nn.Module):
    def __init__(self, path: DiffusionPath) -> None:
        super().__init__()
        self.path = path

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        score = self.path.score(t, x, context)
        return self.path.drift(t, x, context) - 0.5 * self.path.diffusion(t) ** 2 * score


class DiffFlow(ChainModel):
    """A chain with a ``DiffusionPath``: log_prob is the lower bound of the discrete chain.

    Beside it ``estimators`` offers the exact likelihood of the probability-flow ODE. That is the density of
    another sampler (λ = 0, small steps), equal to the SDE's only where s is the score: no theorem orders the two.
    Sampling takes ``sampling_steps`` steps (None: as trained) at noise level λ = ``sampling_noise``.
    """

    sampling_steps: int | None = None
    sampling_noise: float = 1.0

    def sample(self, n: int, context: Tensor | None = None) -> Tensor:
        x = self.base.sample(n, context)
        for layer in reversed(self.chain.layers):
            if isinstance(layer, DiffusionPath):
                x = layer.simulate(x, context, self.sampling_steps, self.sampling_noise)
            else:
                x = layer.decode(x, context)[0]
        return x

    def probability_flow(self) -> ChainModel:
        """The deterministic twin, with the same networks."""
        layers = self.chain.layers
        twins = [layer.probability_flow() if isinstance(layer, DiffusionPath) else layer for layer in layers]
        return ChainModel(twins, self.base)

    def estimators(self) -> list[tuple[Likelihood, Callable[[Tensor], Tensor]]]:
        bound, *tighter = super().estimators()
        twin = self.probability_flow()
        return [bound, (twin.likelihood, twin.log_prob), *tighter]


@register("diffflow")
def diffflow(
    spec: DataSpec,
    *,
    steps: int = 30,
    hidden: Sequence[int] = (64, 64, 64),
    frequencies: int = 0,
    noise: Sequence[float] = (0.2, 0.2),
    replay: bool = False,
    squash: str = "standardize",
) -> DiffFlow:
    """DiffFlow of ``steps`` steps, trained by the bound; its drift and its score are networks of widths ``hidden``."""
    drift, score = (TimeMLP(spec.dim, hidden, frequencies=frequencies) for _ in range(2))
    path = DiffusionPath(drift, score, steps, noise, replay)
    return DiffFlow([*preprocessing(spec, squash=squash), path], StandardNormal(spec.shape))
