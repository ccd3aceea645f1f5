"""Denoising diffusion (Ho et al. 2020, arXiv 2006.11239): a chain of T stochastic layers that share one network."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.base import StandardNormal, normal_log_density
from models.layer import Chain, ChainModel, Kind, Layer, sum_rest
from models.nets.time import stratified_times
from models.nets.unet import time_network
from models.preprocessing import preprocessing
from models.registry import DataSpec, register


def noise_schedule(name: str, steps: int) -> Tensor:
    """β_1..β_T, float64.

    "linear": 1e-4 to .02 over 1000 steps (Ho et al. 2020, section 4), scaled by 1000/T so that any T ends in the
    same noise. "cosine": ᾱ_t = cos²((t/T + s)/(1 + s) π/2) with s = .008, β <= .999 (Nichol and Dhariwal 2021,
    arXiv 2102.09672, eq. 17).
    """
    if name == "linear":
        scale = 1000 / steps
        return torch.linspace(1e-4 * scale, 0.02 * scale, steps, dtype=torch.float64).clamp(max=0.999)
    if name == "cosine":
        t = torch.arange(steps + 1, dtype=torch.float64) / steps
        alpha_bar = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
        return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)
    raise ValueError(f"schedule is {name!r}; it takes linear or cosine")


class Diffusion(nn.Module):
    """The process and its learned reverse, t = 1..T:

        q(x_t | x_{t-1}) = N(sqrt(1 - β_t) x_{t-1}, β_t),   q(x_t | x_0) = N(sqrt(ᾱ_t) x_0, 1 - ᾱ_t),
        p(x_{t-1} | x_t) = N(μ(x_t, t), σ_t²),   μ = (x_t - β_t / sqrt(1 - ᾱ_t) ε(x_t, t)) / sqrt(1 - β_t)

    (Ho et al. 2020, eq. 2, 4, 11). ``variance`` of the reverse: σ² = β ("large"; exact where the data are N(0, I)) or
    β̃ ("small"; exact where they are one point, but β_1 at t = 1, where β̃ is 0); section 3.2 there.
    """

    def __init__(self, network: nn.Module, betas: Tensor, variance: str = "large") -> None:
        super().__init__()
        if variance not in ("large", "small"):
            raise ValueError(f"variance is {variance!r}; it takes large or small")
        self.network, self.steps = network, len(betas)
        bar = torch.cumprod(1 - betas, 0)
        before = torch.cat([bar.new_ones(1), bar[:-1]])
        posterior = torch.cat([betas[:1], (betas * (1 - before) / (1 - bar))[1:]])  # β̃_t (eq. 7), but β_1 at t = 1
        tables = {
            "beta": betas,
            "alpha_bar": bar,
            "alpha_bar_before": before,
            "posterior_variance": posterior,
            "reverse_variance": betas if variance == "large" else posterior,
        }
        for name, table in tables.items():
            self.register_buffer(name, table.to(torch.get_default_dtype()), persistent=False)

    def at(self, table: str, t: Tensor, x: Tensor) -> Tensor:
        """The table's entries for t (scalar or (batch,), counted from 1), to broadcast against x."""
        return getattr(self, table)[t - 1].reshape(-1, *[1] * (x.dim() - 1))

    def noise(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        """ε(x_t, t); the network sees t / T."""
        return self.network(t.to(x.dtype) / self.steps, x, context)

    def reverse_mean(self, t: Tensor, x: Tensor, noise: Tensor) -> Tensor:
        beta, bar = self.at("beta", t, x), self.at("alpha_bar", t, x)
        return (x - beta * torch.rsqrt(1 - bar) * noise) * torch.rsqrt(1 - beta)

    def diffuse(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        bar = self.at("alpha_bar", t, x0)
        return bar.sqrt() * x0 + (1 - bar).sqrt() * noise

    def divergence(self, t: Tensor, x0: Tensor, x: Tensor, mean: Tensor) -> Tensor:
        """KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)), nats, (batch,), for t > 1 (eq. 5 to 7)."""
        beta, bar, before = (self.at(name, t, x) for name in ("beta", "alpha_bar", "alpha_bar_before"))
        true_mean = (before.sqrt() * beta * x0 + (1 - beta).sqrt() * (1 - before) * x) / (1 - bar)
        variance = self.at("reverse_variance", t, x)
        ratio = self.at("posterior_variance", t, x) / variance
        return 0.5 * sum_rest(ratio - ratio.log() - 1 + (true_mean - mean) ** 2 / variance)

    def prior_divergence(self, x0: Tensor) -> Tensor:
        """KL(q(x_T | x_0) || N(0, I)), nats, (batch,)."""
        bar = self.alpha_bar[-1]
        return 0.5 * sum_rest(bar * x0**2 - bar - torch.log1p(-bar))


class DiffusionStep(Layer):
    """x_{t-1} <-> x_t: encode draws q(x_t | x_{t-1}), decode draws p(x_{t-1} | x_t)."""

    kind = Kind.STOCHASTIC

    def __init__(self, diffusion: Diffusion, t: int) -> None:
        super().__init__()
        # In a tuple, so that the T steps do not each list the one network among their parameters.
        self._shared = (diffusion,)
        self.register_buffer("t", torch.tensor(t), persistent=False)

    @property
    def diffusion(self) -> Diffusion:
        return self._shared[0]

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, beta = self.to_real(x), self.diffusion.beta[self.t - 1]
        z = (1 - beta).sqrt() * x + beta.sqrt() * torch.randn_like(x)
        return z, self.log_likelihood(x, *self.reverse(z, context)) - self._log_forward(x, z)

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mean, log_std = self.reverse(z, context)
        value = self.to_data(mean + log_std.exp() * torch.randn_like(z))
        x = self.to_real(value)
        return value, self.log_likelihood(x, mean, log_std) - self._log_forward(x, z)

    def reverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of p(x_{t-1} | x_t = z)."""
        d = self.diffusion
        return d.reverse_mean(self.t, z, d.noise(self.t, z, context)), 0.5 * d.reverse_variance[self.t - 1].log()

    def _log_forward(self, x: Tensor, z: Tensor) -> Tensor:
        beta = self.diffusion.beta[self.t - 1]
        return sum_rest(normal_log_density(z, (1 - beta).sqrt() * x, 0.5 * beta.log()))

    def log_likelihood(self, x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
        """log p(x_{t-1} = x | x_t), (batch,); mean and log_std broadcast against x."""
        return sum_rest(normal_log_density(x, mean, log_std))

    def to_real(self, x: Tensor) -> Tensor:
        """From data to the reals that the process diffuses."""
        return x

    def to_data(self, x: Tensor) -> Tensor:
        """The nearest data to reals; inverts ``to_real``."""
        return x


class DiscretizedStep(DiffusionStep):
    """The first step for integers 0..K-1, seen as reals 2x/(K-1) - 1: P(x_0 | x_1) is the Gaussian's mass within
    half a level of x_0, the outer levels taking the tails, so the bound is on the discrete log P (eq. 13)."""

    def __init__(self, diffusion: Diffusion, levels: int) -> None:
        super().__init__(diffusion, 1)
        self.levels = levels

    def log_likelihood(self, x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
        half = 1 / (self.levels - 1)
        # By symmetry to the lower tail, where a difference of two cumulatives keeps its digits.
        sign = torch.where(x > mean, -1.0, 1.0)
        centre = sign * (x - mean)
        inner = 1 - half / 2
        upper = torch.where(sign * x > inner, math.inf, (centre + half) * torch.exp(-log_std))
        lower = torch.where(sign * x < -inner, -math.inf, (centre - half) * torch.exp(-log_std))
        return sum_rest(log_normal_mass(lower, upper))

    def to_real(self, x: Tensor) -> Tensor:
        real = x if x.is_floating_point() else x.to(self.diffusion.beta.dtype)
        return 2 * real / (self.levels - 1) - 1

    def to_data(self, x: Tensor) -> Tensor:
        return ((x + 1) / 2 * (self.levels - 1)).round().clamp(0, self.levels - 1).long()


def log_normal_mass(lower: Tensor, upper: Tensor) -> Tensor:
    """log(Φ(upper) - Φ(lower)), accurate where lower <= 0 (infinities allowed)."""
    top = torch.special.log_ndtr(upper)
    return top + torch.log(-torch.expm1(torch.special.log_ndtr(lower) - top))


class DDPM(ChainModel):
    """x -> x_1 -> ... -> x_T ~ N(0, I) by T diffusion steps.

    ``loss``: "bound", the variational bound with analytic divergences (Ho et al. 2020, eq. 5), its sum over t
    estimated at one t per example; or "simple", E ||ε - ε(x_t, t)||² per element (eq. 14). ``log_prob`` is the bound
    along one sampled path, T passes: the same expectation, and measured less noisy than the divergences at T
    independent draws (standard deviation .7 against 1.6 nats in 2-D), because neighbouring terms cancel.
    ``sampling_steps`` T draws every p(x_{t-1} | x_t), the last without noise (algorithm 2); fewer take DDIM's
    deterministic strides (Song et al. 2021, arXiv 2010.02502, eq. 12 with σ = 0).
    """

    estimator_k = 2  # each draw of a path costs T passes

    def __init__(
        self, diffusion: Diffusion, data_end: Sequence[Layer], first: DiffusionStep, loss: str, shape: Sequence[int]
    ) -> None:
        if loss not in ("bound", "simple"):
            raise ValueError(f"loss is {loss!r}; it takes bound or simple")
        later = [DiffusionStep(diffusion, t) for t in range(2, diffusion.steps + 1)]
        super().__init__([Chain(data_end), first, *later], StandardNormal(shape))
        self.diffusion, self.objective, self.sampling_steps = diffusion, loss, diffusion.steps

    def loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        x0, contribution = self._start(x, context)
        t = 1 + (stratified_times(len(x0), x0) * self.diffusion.steps).long().clamp(max=self.diffusion.steps - 1)
        term, error = self._term(x0, t, context)
        if self.objective == "simple":
            return error.mean()
        return (self.diffusion.prior_divergence(x0) - contribution - self.diffusion.steps * term).mean()

    @property
    def most_sampling_steps(self) -> int:
        return self.diffusion.steps

    def check_sampling_steps(self) -> None:
        if not 1 <= self.sampling_steps <= self.most_sampling_steps:
            raise ValueError(f"sampling_steps is {self.sampling_steps}; this chain takes 1 to {self.diffusion.steps}")

    def sample(self, n: int, context: Tensor | None = None) -> Tensor:
        self.check_sampling_steps()
        x = self.base.sample(n, context)
        x = self._ancestral(x, context) if self.sampling_steps == self.diffusion.steps else self._strides(x, context)
        return self.chain.layers[0].decode(self.chain.layers[1].to_data(x), context)[0]

    def _start(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """x_0 as the process sees it, and the contribution of getting there."""
        value, contribution = self.chain.layers[0].encode(x, context)
        x0 = self.chain.layers[1].to_real(value)
        return x0, contribution.to(x0)

    def _term(self, x0: Tensor, t: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The bound's term at t, shape (batch,): log p(x_0 | x_1) or -KL_t; and the squared error of the noise."""
        d, noise = self.diffusion, torch.randn_like(x0)
        x = d.diffuse(x0, t, noise)
        predicted = d.noise(t, x, context)
        mean = d.reverse_mean(t, x, predicted)
        decoder = self.chain.layers[1].log_likelihood(x0, mean, 0.5 * d.at("reverse_variance", t, x).log())
        return torch.where(t == 1, decoder, -d.divergence(t, x0, x, mean)), (noise - predicted) ** 2

    def _ancestral(self, x: Tensor, context: Tensor | None) -> Tensor:
        for step in reversed(self.chain.layers[2:]):
            mean, log_std = step.reverse(x, context)
            x = mean + log_std.exp() * torch.randn_like(x)
        return self.chain.layers[1].reverse(x, context)[0]

    def _strides(self, x: Tensor, context: Tensor | None) -> Tensor:
        d, count = self.diffusion, self.sampling_steps
        times = [math.ceil(i * d.steps / count) for i in range(count, -1, -1)]
        for now, then in zip(times[:-1], times[1:], strict=True):
            t = torch.full((), now, device=x.device)
            noise = d.noise(t, x, context)
            bar = d.alpha_bar[now - 1]
            target = d.alpha_bar[then - 1] if then else torch.ones_like(bar)
            x0 = (x - (1 - bar).sqrt() * noise) / bar.sqrt()
            x = target.sqrt() * x0 + (1 - target).sqrt() * noise
        return x


@register("ddpm")
def ddpm(
    spec: DataSpec,
    *,
    steps: int = 1000,
    schedule: str = "linear",
    variance: str = "large",
    loss: str = "bound",
    sampling_steps: int | None = None,
    hidden: Sequence[int] = (128, 128, 128),
    frequencies: int = 0,
    widths: Sequence[int] | None = None,
) -> DDPM:
    """DDPM with an MLP of ``hidden`` or a U-Net of ``widths``. Integers are decoded by discretised Gaussians and
    need no dequantization; real vectors by a Gaussian of variance β_1."""
    network = time_network(spec.shape, hidden, frequencies, widths)
    diffusion = Diffusion(network, noise_schedule(schedule, steps), variance)
    first = DiscretizedStep(diffusion, spec.levels) if spec.levels else DiffusionStep(diffusion, 1)
    model = DDPM(diffusion, [] if spec.levels else preprocessing(spec), first, loss, spec.shape)
    model.sampling_steps = steps if sampling_steps is None else sampling_steps
    model.check_sampling_steps()
    return model
