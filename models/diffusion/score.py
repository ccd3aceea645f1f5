"""Score-based models through stochastic differential equations (Song et al. 2021, arXiv 2011.13456)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.base import StandardNormal
from models.flows.continuous import ContinuousFlow, ContinuousModel
from models.layer import Chain, Layer
from models.nets.time import stratified_times
from models.nets.unet import time_network
from models.preprocessing import preprocessing
from models.registry import DataSpec, register

SAMPLERS = ("pc", "euler-maruyama", "langevin", "ode")


class VPSDE(nn.Module):
    """dx = -½ β(t) x dt + sqrt(β(t)) dw on [0, 1], β linear from ``low`` to ``high`` (eq. 11, 32, 33).

    Its marginals are x_t | x_0 ~ N(exp(-½ B) x_0, 1 - exp(-B)), B(t) = ∫_0^t β; its prior is N(0, I).
    t is a scalar or (batch,); what comes back broadcasts against x.
    """

    def __init__(self, low: float = 0.1, high: float = 20.0) -> None:
        super().__init__()
        if not 0 <= low < high:
            raise ValueError(f"beta_min is {low} and beta_max is {high}; they take 0 <= beta_min < beta_max")
        self.low, self.high = low, high

    def rate(self, t: Tensor, x: Tensor) -> Tensor:
        """β(t) = g(t)²."""
        return self.low + _against(t, x) * (self.high - self.low)

    def marginal(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The factor of x_0 and the standard deviation of x_t | x_0."""
        t = _against(t, x)
        integral = t * self.low + 0.5 * t**2 * (self.high - self.low)
        return torch.exp(-0.5 * integral), torch.sqrt(-torch.expm1(-integral))

    def importance_time(self, u: Tensor, eps: float) -> Tensor:
        """u ~ U[0, 1] -> t in [eps, 1] with density proportional to g² / std²: uniform in the log signal-to-noise
        ratio, whose negative is log(exp(B) - 1)."""
        ends = [t * self.low + 0.5 * t**2 * (self.high - self.low) for t in (eps, 1.0)]
        first, last = (math.log(math.expm1(end)) for end in ends)
        integral = F.softplus(first + (last - first) * u)
        slope = self.high - self.low
        return (torch.sqrt(self.low**2 + 2 * slope * integral) - self.low) / slope

    def reverse_drift(self, t: Tensor, x: Tensor, score: Tensor) -> Tensor:
        """f - g² s, the drift of the SDE run backward (eq. 6)."""
        return -self.rate(t, x) * (0.5 * x + score)

    def flow_drift(self, t: Tensor, x: Tensor, score: Tensor) -> Tensor:
        """f - ½ g² s, the drift of the probability-flow ODE (eq. 13)."""
        return -0.5 * self.rate(t, x) * (x + score)


class Score(nn.Module):
    """s(t, x) = -ε(t, x) / std(t), the noise read off the network as ε = std x + factor v(t, x).

    v is the velocity of Salimans and Ho (2022, arXiv 2202.00512, section 4). Near t = 1 it leaves the exact score
    -x of the prior alone, where a network for ε itself errs, and the probability flow adds that error up.
    """

    def __init__(self, sde: VPSDE, network: nn.Module) -> None:
        super().__init__()
        self.sde, self.network = sde, network

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return -self.noise(t, x, context) / self.sde.marginal(t, x)[1]

    def noise(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        factor, std = self.sde.marginal(t, x)
        return std * x + factor * self.network(t, x, context)


class ProbabilityFlow(nn.Module):
    """dx/dt = f(x, t) - ½ g(t)² s(t, x): the field whose flow has the SDE's marginals (eq. 13)."""

    def __init__(self, sde: VPSDE, score: nn.Module) -> None:
        super().__init__()
        self.sde, self.score = sde, score

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.sde.flow_drift(t, x, self.score(t, x, context))


class ScoreSDE(ContinuousModel):
    """Trained by denoising score matching (eq. 7), scored by its probability-flow ODE (eq. 39).

    ``weighting`` "simple" (λ = std²: the mean squared error of the noise at uniform times) or "likelihood" (λ = g²,
    by drawing times in proportion to g² / std²: Song et al. 2021, arXiv 2101.09258, section 4.4). Time stops at
    ``eps``: the model's density *is* that of the ODE started from N(0, I) at t = 1 and stopped at ``eps``; data are
    taken to be x_eps, without correction.

    ``sampler``: "pc" (predictor and Langevin corrector, algorithm 1), "euler-maruyama" (the reverse SDE alone),
    "langevin" (correctors alone at falling noise levels: annealed Langevin), or "ode", whose samples are the ones
    that ``log_prob`` scores. Stochastic samplers take ``sampling_steps`` time steps, of two passes each in "pc";
    "ode" takes that many Euler steps, or follows its tolerance where it is None. ``snr`` r sets the Langevin step
    2 (r std(t))² (the rule of Song and Ermon 2019, arXiv 1907.05600: proportional to the noise variance).
    """

    def __init__(
        self,
        data_end: Sequence[Layer],
        flow: ContinuousFlow,
        shape: Sequence[int],
        *,
        weighting: str,
        sampler: str,
        sampling_steps: int | None,
        snr: float,
    ) -> None:
        if weighting not in ("simple", "likelihood"):
            raise ValueError(f"weighting is {weighting!r}; it takes simple or likelihood")
        if sampler not in SAMPLERS:
            raise ValueError(f"sampler is {sampler!r}; it takes {', '.join(SAMPLERS)}")
        if sampler != "ode" and sampling_steps is None:
            raise ValueError(f"sampler {sampler!r} needs sampling_steps, the number of its time steps")
        if not 0 < flow.t_data < 1 or snr <= 0:
            raise ValueError(f"eps is {flow.t_data} and snr is {snr}; 0 < eps < 1, and snr is positive")
        super().__init__([Chain(data_end), flow], StandardNormal(shape))
        self.weighting, self.sampler, self.sampling_steps, self.snr = weighting, sampler, sampling_steps, snr

    @property
    def score(self) -> Score:
        return self.chain.layers[1].field.score

    @property
    def eps(self) -> float:
        return self.chain.layers[1].t_data

    def loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        x0, _ = self.chain.layers[0].encode(x, context)
        u = stratified_times(len(x0), x0)
        sde = self.score.sde
        t = sde.importance_time(u, self.eps) if self.weighting == "likelihood" else self.eps + (1 - self.eps) * u
        factor, std = sde.marginal(t, x0)
        noise = torch.randn_like(x0)
        return (self.score.noise(t, factor * x0 + std * noise, context) - noise).square().mean()

    def sample(self, n: int, context: Tensor | None = None) -> Tensor:
        if self.sampler == "ode":
            return super().sample(n, context)
        x = self.base.sample(n, context)
        times = torch.linspace(1, self.eps, self.sampling_steps + 1).to(x)
        for i, (now, then) in enumerate(zip(times[:-1], times[1:], strict=True)):
            last = i + 1 == self.sampling_steps
            if self.sampler != "langevin":
                x = self._predict(now, then, x, context, noisy=not last)
            if self.sampler == "langevin" or (self.sampler == "pc" and not last):
                x = self._correct(then, x, context)
        return self.chain.layers[0].decode(x, context)[0]

    def _predict(self, now: Tensor, then: Tensor, x: Tensor, context: Tensor | None, noisy: bool) -> Tensor:
        """One Euler-Maruyama step of the reverse SDE; the last one is taken without noise."""
        sde, span = self.score.sde, now - then
        mean = x - sde.reverse_drift(now, x, self.score(now, x, context)) * span
        return mean + torch.sqrt(sde.rate(now, x) * span) * torch.randn_like(x) if noisy else mean

    def _correct(self, t: Tensor, x: Tensor, context: Tensor | None) -> Tensor:
        """One Langevin step towards the marginal at t: x + α s + sqrt(2 α) w."""
        step = 2 * (self.snr * self.score.sde.marginal(t, x)[1]) ** 2
        return x + step * self.score(t, x, context) + torch.sqrt(2 * step) * torch.randn_like(x)


def _against(t: Tensor, x: Tensor) -> Tensor:
    return t.reshape(-1, *[1] * (x.dim() - 1))


@register("score-sde-vp")
def score_sde_vp(
    spec: DataSpec,
    *,
    hidden: Sequence[int] = (128, 128, 128),
    frequencies: int = 0,
    widths: Sequence[int] | None = None,
    beta_min: float = 0.1,
    beta_max: float = 20.0,
    eps: float = 1e-5,
    weighting: str = "simple",
    sampler: str = "pc",
    sampling_steps: int | None = 1000,
    snr: float = 0.16,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    trace: str = "exact",
) -> ScoreSDE:
    """Variance-preserving score SDE with an MLP of ``hidden`` or a U-Net of ``widths``."""
    sde = VPSDE(beta_min, beta_max)
    field = ProbabilityFlow(sde, Score(sde, time_network(spec.shape, hidden, frequencies, widths)))
    flow = ContinuousFlow(field, t_data=eps, t_noise=1.0, rtol=rtol, atol=atol, trace=trace)
    return ScoreSDE(
        preprocessing(spec),
        flow,
        spec.shape,
        weighting=weighting,
        sampler=sampler,
        sampling_steps=sampling_steps,
        snr=snr,
    )
