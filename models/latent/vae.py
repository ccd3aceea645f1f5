"""The variational autoencoder (Kingma and Welling 2014, arXiv 1312.6114): a chain of one stochastic layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.base import StandardNormal, normal_log_density
from models.layer import ChainModel, Kind, Layer, Model, sum_rest
from models.nets.mlp import MLP
from models.preprocessing import preprocessing
from models.registry import DataSpec, register


class Conditional(nn.Module):
    """A density p(value | given), computed by ``network``. log-densities in nats, shape (batch,)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def log_prob(self, value: Tensor, given: Tensor) -> Tensor:
        raise NotImplementedError

    def sample(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """value ~ p(. | given) and its log-density."""
        raise NotImplementedError


class ConditionalNormal(Conditional):
    """N(μ(given), diag σ²). The network gives μ and log σ; or, with ``scales``, μ alone: σ is then one learned
    number per dimension (a variance that depends on z would let the likelihood of continuous data run away)."""

    def __init__(self, network: nn.Module, scales: int | None = None) -> None:
        super().__init__(network)
        self.log_std = None if scales is None else nn.Parameter(torch.full((scales,), -1.0))

    def _parameters_of(self, given: Tensor) -> tuple[Tensor, Tensor]:
        out = self.network(given)
        return out.chunk(2, -1) if self.log_std is None else (out, self.log_std)

    def log_prob(self, value: Tensor, given: Tensor) -> Tensor:
        return sum_rest(normal_log_density(value, *self._parameters_of(given)))

    def sample(self, given: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self._parameters_of(given)
        value = mean + log_std.exp() * torch.randn_like(mean)
        return value, sum_rest(normal_log_density(value, mean, log_std))


class DiscretizedLogistic(Conditional):
    """Integers 0..K-1: P(x) = σ((x + ½ - μ) / s) - σ((x - ½ - μ) / s), the outer levels taking the tails.

    (Salimans et al. 2017, arXiv 1701.05517, eq. 2, with one component.) The network gives μ and log s on the
    scale where the levels span [-1, 1].
    """

    MIN_LOG_SCALE = -7.0

    def __init__(self, network: nn.Module, shape: Sequence[int], levels: int) -> None:
        super().__init__(network)
        self.shape, self.levels = tuple(shape), levels

    def _parameters_of(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """μ and s in units of one level."""
        mean, log_scale = self.network(given).unflatten(-1, (2, *self.shape)).unbind(1)
        half = (self.levels - 1) / 2
        return half * (mean + 1), half * log_scale.clamp(min=self.MIN_LOG_SCALE).exp()

    def log_prob(self, value: Tensor, given: Tensor) -> Tensor:
        return self._log_prob(value, *self._parameters_of(given))

    def _log_prob(self, value: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        """By σ(a) - σ(b) = σ(a) σ(-b) (1 - exp(b - a)), which loses no digits; an open end is a factor of one."""
        lowest, highest = value <= 0, value >= self.levels - 1
        below_upper = F.logsigmoid((value + 0.5 - mean) / scale).where(~highest, 0.0)
        above_lower = F.logsigmoid(-(value - 0.5 - mean) / scale).where(~lowest, 0.0)
        width = torch.log(-torch.expm1(-1 / scale)).where(~(lowest | highest), 0.0)
        return sum_rest(below_upper + above_lower + width)

    def sample(self, given: Tensor) -> tuple[Tensor, Tensor]:
        mean, scale = self._parameters_of(given)
        uniform = torch.rand_like(mean)
        logistic = mean + scale * (torch.log(uniform) - torch.log1p(-uniform))
        value = logistic.round().clamp(0, self.levels - 1).long()
        return value, self._log_prob(value, mean, scale)


class Categorical(Conditional):
    """Integers 0..K-1: one free probability per level and pixel; the network gives the logits."""

    def __init__(self, network: nn.Module, shape: Sequence[int], levels: int) -> None:
        super().__init__(network)
        self.shape, self.levels = tuple(shape), levels

    def _logits(self, given: Tensor) -> Tensor:
        return self.network(given).unflatten(-1, (self.levels, *self.shape))

    def log_prob(self, value: Tensor, given: Tensor) -> Tensor:
        return -sum_rest(F.cross_entropy(self._logits(given), value.long(), reduction="none"))

    def sample(self, given: Tensor) -> tuple[Tensor, Tensor]:
        logits = self._logits(given)
        flat = logits.movedim(1, -1).reshape(-1, self.levels)
        value = torch.multinomial(flat.softmax(-1), 1).reshape(-1, *self.shape)
        return value, -sum_rest(F.cross_entropy(logits, value, reduction="none"))


class VariationalLayer(Layer):
    """z ~ q(z|x), x ~ p(x|z), contribution log p(x|z) - log q(z|x): with a base p(z), the evidence lower bound."""

    kind = Kind.STOCHASTIC

    def __init__(self, posterior: Conditional, likelihood: Conditional) -> None:
        super().__init__()
        self.posterior, self.likelihood = posterior, likelihood

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, log_posterior = self.posterior.sample(x)
        return z, self.likelihood.log_prob(x, z) - log_posterior

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, log_likelihood = self.likelihood.sample(z)
        return x, log_likelihood - self.posterior.log_prob(z, x)


class Centre(nn.Module):
    """Integers 0..K-1 -> real numbers in [-1, 1], flat."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels
        self.register_buffer("_like", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (2 * x.to(self._like.dtype) / (self.levels - 1) - 1).flatten(1)


Decoder = Literal["logistic", "categorical"]


@register("vae")
def vae(spec: DataSpec, *, latent: int = 2, hidden: Sequence[int] = (64, 64), decoder: Decoder = "logistic") -> Model:
    """MLPs both ways, ``hidden`` listed data-first. Real vectors: a Gaussian likelihood. Integer images: ``decoder``
    (logistic or categorical), a likelihood of the integers, so the bound is on log P(x) with no dequantization."""
    if decoder not in ("logistic", "categorical"):
        raise ValueError(f"decoder is {decoder!r}; for integer images it is logistic or categorical")

    def encoding(d_in: int) -> nn.Module:
        return MLP(d_in, hidden, 2 * latent)

    def decoding(d_out: int) -> nn.Module:
        return MLP(latent, hidden[::-1], d_out)

    if spec.levels is None:
        layers = preprocessing(spec)
        posterior = ConditionalNormal(encoding(spec.dim))
        likelihood: Conditional = ConditionalNormal(decoding(spec.dim), scales=spec.dim)
    else:
        layers = []
        posterior = ConditionalNormal(nn.Sequential(Centre(spec.levels), encoding(spec.dim)))
        if decoder == "logistic":
            likelihood = DiscretizedLogistic(decoding(2 * spec.dim), spec.shape, spec.levels)
        else:
            likelihood = Categorical(decoding(spec.levels * spec.dim), spec.shape, spec.levels)
    return ChainModel([*layers, VariationalLayer(posterior, likelihood)], StandardNormal((latent,)))
