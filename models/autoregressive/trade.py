"""TraDE (Fakoor et al. 2020, arXiv 2004.02441): a causal Transformer with mixtures of Gaussians, and an MMD penalty."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.autoregressive.mixture import AutoregressiveMixture, n_mixture_params, parts_of
from models.layer import ChainModel, Layer
from models.nets.transformer import CausalTransformer, Position
from models.preprocessing import Squash, preprocessing
from models.registry import DataSpec, register

BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the squared distances, relative to their mean


class TraDE(ChainModel):
    """Maximum likelihood with a penalty: the loss is -mean log p(x) + ``penalty`` MMD²(samples, x).

    The samples are as many as the batch has rows, and their gradient goes through a Gumbel-softmax choice of the
    part at ``temperature``; the reported likelihood has no penalty in it. Kernel and estimator are ours.
    """

    def __init__(self, layers: list[Layer], base: AutoregressiveMixture, penalty: float, temperature: float) -> None:
        super().__init__(layers, base)
        self.penalty, self.temperature = penalty, temperature

    def loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        z, contribution = self.chain.encode(x, context)
        nats = -(self.base.log_prob(z, context) + contribution).mean()
        if not self.penalty:
            return nats
        samples = relaxed_sample(self.base.network, z, context, self.temperature)
        return nats + self.penalty * squared_mmd(samples, z)


def relaxed_sample(network: nn.Module, like: Tensor, context: Tensor | None, temperature: float) -> Tensor:
    """A draw shaped as ``like`` (batch, D), ancestral and differentiable: parts are mixed with Gumbel-softmax shares.

    (Jang et al. 2017, arXiv 1611.01144.) Its distribution is the mixture's as the temperature goes to zero.
    """
    x, memory = like[:, :0], network.memory(like)
    for _ in range(like.shape[1]):
        logits, means, log_stds = parts_of(network(x, context, memory))
        share = F.gumbel_softmax(logits, temperature)
        part = means + log_stds.exp() * torch.randn_like(means)
        x = torch.cat([x, (share * part).sum(-1, keepdim=True)], 1)
    return x


def squared_mmd(x: Tensor, y: Tensor) -> Tensor:
    """The unbiased estimate of MMD²(x, y), both (n, D) (Gretton et al. 2012, JMLR 13, eq. 3).

    The kernel is the mean of Gaussians exp(-|a - b|² / (2 b m)), with b of ``BANDWIDTHS`` and m the mean of |a - b|²
    over all pairs, held fixed.
    """
    n = len(x)
    if n < 2:
        raise ValueError(f"the MMD penalty takes batches of at least two rows, not {n}")
    both = torch.cat([x, y])
    squares = (both**2).sum(1)
    distance = (squares[:, None] + squares - 2 * both @ both.T).clamp_min(0)
    scale = distance.detach().sum() / (2 * n * (2 * n - 1))
    kernel = torch.stack([torch.exp(-distance / (2 * b * scale)) for b in BANDWIDTHS]).mean(0)
    within = [(block.sum() - block.diagonal().sum()) / (n * (n - 1)) for block in (kernel[:n, :n], kernel[n:, n:])]
    return within[0] + within[1] - 2 * kernel[:n, n:].mean()


@register("trade")
def trade(
    spec: DataSpec,
    *,
    components: int = 100,
    width: int = 128,
    heads: int = 4,
    layers: int = 4,
    dropout: float = 0.1,
    position: Position = "recurrent",
    penalty: float = 0.0,
    temperature: float = 1.0,
    squash: Squash = "standardize",
) -> TraDE:
    """A causal Transformer of ``layers`` blocks, mixtures of ``components`` Gaussians, and ``penalty`` times MMD²."""
    if len(spec.shape) != 1:
        raise ValueError(f"trade takes vectors, not data of shape {spec.shape}")
    if penalty < 0 or temperature <= 0:
        raise ValueError(f"penalty is {penalty} and temperature {temperature}; at least 0, and above 0")
    network = CausalTransformer(
        spec.dim,
        n_mixture_params(components),
        width=width,
        heads=heads,
        layers=layers,
        dropout=dropout,
        position=position,
        context_dim=spec.context_dim,
    )
    return TraDE(preprocessing(spec, squash=squash), AutoregressiveMixture(network), penalty, temperature)
