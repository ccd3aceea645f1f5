"""Autoregressive mixtures of Gaussians: MADE and MADE MoG, and the base of MAF MoG, TAN and TraDE."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.base import Base, normal_log_density
from models.flows.conditioner import condition, one_by_one
from models.layer import ChainModel
from models.nets.made import MADE
from models.preprocessing import Squash, preprocessing
from models.registry import DataSpec, register

LOG_STD = 16.0  # e^-16 is float32's resolution at one; without a bound a far point's gradient would be 0 * inf


class AutoregressiveMixture(Base):
    """p(x) = prod_i sum_k π_k(x_<i) N(x_i; μ_k(x_<i), σ_k(x_<i)²), i = 1..D, k = 1..K, from any autoregressive network.

    Per element ``network`` gives K logits of π, K means and K log σ, the last cut at ±16. Its final biases start with
    means from N(0, 1): equal parts would have equal gradients. ``log_prob`` takes one pass. ``sample`` is ancestral,
    hence exact: D steps that together cost about one pass; the draws carry no gradient.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__((network.dim,))
        if network.n_params % 3:
            raise ValueError(f"the network has {network.n_params} outputs per element; a mixture takes three per part")
        self.network, self.components = network, network.n_params // 3
        if self.components > 1:
            with torch.no_grad():
                network.last.bias.view(-1, 3, self.components)[:, 1].normal_()

    def log_prob(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return mixture_log_density(z, condition(self.network, z, context)).sum(1)

    def sample(self, n: int, context: Tensor | None = None) -> Tensor:
        like = self._like.new_empty((n, *self.shape))
        return one_by_one(self.network, like, context, lambda _, params: draw(params))


def parts_of(params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, means and log-deviations: (..., 3K) -> three of shape (..., K)."""
    logits, means, log_stds = params.unflatten(-1, (3, -1)).unbind(-2)
    return logits, means, log_stds.clamp(-LOG_STD, LOG_STD)


def mixture_log_density(x: Tensor, params: Tensor) -> Tensor:
    """log sum_k π_k N(x; μ_k, σ_k²) per element, nats: x (...), params (..., 3K)."""
    logits, means, log_stds = parts_of(params)
    if logits.shape[-1] == 1:
        return normal_log_density(x, means[..., 0], log_stds[..., 0])
    parts = logits + normal_log_density(x[..., None], means, log_stds)
    return torch.logsumexp(parts, -1) - torch.logsumexp(logits, -1)


def draw(params: Tensor) -> Tensor:
    """One draw of each mixture: params (batch, 3K) -> (batch,)."""
    logits, means, log_stds = parts_of(params)
    part = torch.multinomial(logits.softmax(-1), 1)
    mean, log_std = means.gather(1, part)[:, 0], log_stds.gather(1, part)[:, 0]
    return mean + log_std.exp() * torch.randn_like(mean)


@register("made")
def made(
    spec: DataSpec,
    *,
    hidden: Sequence[int] = (100,),
    activation: str = "relu",
    components: int = 1,
    squash: Squash = "standardize",
) -> ChainModel:
    """MADE with Gaussian conditionals (Germain et al. 2015, arXiv 1502.03509), or with mixtures of ``components``
    Gaussians: MADE and MADE MoG of the MAF paper (arXiv 1705.07057)."""
    if len(spec.shape) != 1:
        raise ValueError(f"made takes vectors, not data of shape {spec.shape}; for images there is pixelcnn")
    network = MADE(spec.dim, hidden, n_mixture_params(components), activation=activation, context_dim=spec.context_dim)
    return ChainModel(preprocessing(spec, squash=squash), AutoregressiveMixture(network))


def n_mixture_params(components: int) -> int:
    if components < 1:
        raise ValueError(f"components is {components}; a mixture takes at least one")
    return 3 * components
