"""Floors of the tables: densities that anything deep should beat. (One Gaussian is the family "gaussian".)"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from models.base import LOG_2PI, Base
from models.flows.gaussianization import FirstBatch
from models.layer import ChainModel
from models.preprocessing import Squash, preprocessing
from models.registry import DataSpec, register

Covariance = Literal["full", "diagonal"]


class LearnedMixture(FirstBatch, Base):
    """sum_k w_k N(μ_k, Λ_k⁻¹) over vectors, all learned; Λ_k = L_k L_kᵀ with L_k lower triangular, its diagonal an
    exponential, or diagonal altogether.

    The means start at random rows of the first batch (with a little noise, for two equal components would stay
    equal), the covariances at the batch's variances.
    """

    def __init__(self, dim: int, components: int, covariance: Covariance = "full") -> None:
        if components < 1:
            raise ValueError(f"components is {components}; a mixture takes at least one")
        if covariance not in ("full", "diagonal"):
            raise ValueError(f"covariance is {covariance!r}; it takes full or diagonal")
        super().__init__((dim,))
        self.logits = nn.Parameter(torch.zeros(components))
        self.means = nn.Parameter(torch.randn(components, dim))
        self.log_diagonal = nn.Parameter(torch.zeros(components, dim))
        self.below = nn.Parameter(torch.zeros(components, dim, dim)) if covariance == "full" else None

    def log_prob(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        self.see(z)
        offset = (z[:, None] - self.means).movedim(1, 0)  # components first: one matrix product each
        scaled = offset * self.log_diagonal.exp()[:, None] if self.below is None else offset @ self._factor()
        log_part = self.log_diagonal.sum(1)[:, None] - 0.5 * (scaled**2).sum(-1) - 0.5 * z.shape[1] * LOG_2PI
        return torch.logsumexp(log_part + torch.log_softmax(self.logits, 0)[:, None], 0)

    def sample(self, n: int, context: Tensor | None = None) -> Tensor:
        part = torch.multinomial(self.logits.softmax(0), n, replacement=True)
        noise = torch.randn_like(self.means[part])
        if self.below is None:
            return self.means[part] + noise * torch.exp(-self.log_diagonal[part])
        step = torch.linalg.solve_triangular(self._factor().mT[part], noise[..., None], upper=True)
        return self.means[part] + step[..., 0]

    def initialize(self, x: Tensor) -> None:
        spread = x.std(0, unbiased=False).clamp_min(1e-6)
        rows = x[torch.randint(len(x), (len(self.means),), device=x.device)]
        self.means.copy_(rows + 0.1 * spread * torch.randn_like(rows))
        self.log_diagonal.copy_(-spread.log().expand_as(self.log_diagonal))

    def _factor(self) -> Tensor:
        return self.below.tril(-1) + torch.diag_embed(self.log_diagonal.exp())


@register("mixture")
def mixture(
    spec: DataSpec, *, components: int = 50, covariance: Covariance = "full", squash: Squash = "standardize"
) -> ChainModel:
    """A mixture of ``components`` Gaussians with ``full`` or ``diagonal`` covariances, fitted by gradients."""
    if len(spec.shape) != 1:
        raise ValueError(f"mixture takes vectors, not data of shape {spec.shape}")
    return ChainModel(preprocessing(spec, squash=squash), LearnedMixture(spec.dim, components, covariance))
