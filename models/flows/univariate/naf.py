"""The transformers of neural autoregressive flows (Huang et al. 2018, arXiv 1804.00779): nets of positive weights."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from models.flows.univariate.base import Univariate

ONE = math.log(math.expm1(1))  # softplus(ONE) = 1: zeros give the identity


class LogMatmul(torch.autograd.Function):
    """log(W exp(v)) for each v (d, n) of several: W (q, d) positive -> (q, n) each, without overflow.

    By hand: one product and one exponential for all, kept for the way back.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, weight: Tensor, *exponents: Tensor) -> tuple[Tensor, ...]:
        top = torch.stack([v.amax(0) for v in exponents])
        shares = weight.new_empty(weight.shape[1], *top.shape)
        for i, v in enumerate(exponents):
            torch.sub(v, top[i], out=shares[:, i])
        shares = shares.exp_().flatten(1)
        sums = weight @ shares
        ctx.save_for_backward(weight, shares, sums)
        return sums.log().view(-1, *top.shape).add_(top).unbind(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, ...]:
        weight, shares, sums = ctx.saved_tensors
        ratio = torch.stack(gradients, 1).flatten(1).div_(sums)
        by_exponents = (weight.T @ ratio).mul_(shares).view(len(shares), len(gradients), -1)
        return ratio @ shares.T, *by_exponents.unbind(1)


class DeepDenseSigmoid(Univariate):
    """DDSF (section 3.2, eq. 11-12): ``layers`` times h -> logit(W σ(a ⊙ U h + b)), from one number through
    ``dimension`` numbers back to one. The rows of U and W are softmaxes and a > 0, so that it increases.

    The conditioner gives ``signal`` numbers per element, and a linear layer shared by all elements makes of them a,
    b and one vector of logits each for U and W, to which shared matrices of logits are added, as in the authors'
    code. So W σ is a product with the shared matrix exp(w) between elementwise factors, never a matrix per element.
    Values and slopes are carried as logarithms: unlike σ⁻¹ of a number, which the authors keep away from 0 and 1,
    this is exact however far out, and takes every value.
    """

    SLOPE = 1e-6  # least a, the authors' too

    def __init__(self, dimension: int = 16, layers: int = 2, *, signal: int = 16) -> None:
        super().__init__()
        if dimension < 1 or layers < 1 or signal < 1:
            raise ValueError(f"dimension is {dimension}, layers {layers}, signal {signal}; each is at least 1")
        self.dimension, self.n_params = dimension, signal
        between = self._between(layers)
        self.mix_in = nn.ParameterList(_logits(dimension, d) if d > 1 else None for d in [1, *between])
        self.mix_out = nn.ParameterList(_logits(d, dimension) for d in [*between, 1])
        self.vectors = sum(3 + (d > 1) for d in [1, *between])
        self.expand = nn.Linear(signal, self.vectors * dimension)

    def _between(self, layers: int) -> list[int]:
        """How many numbers pass from each layer to the next."""
        return [self.dimension] * (layers - 1)

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        # Units come before elements: then every sum over units adds whole rows.
        h, signal = x.reshape(1, -1), params.reshape(-1, self.n_params).T.contiguous()
        weights = self.expand.weight.view(self.vectors, self.dimension, -1)
        biases = self.expand.bias.view(self.vectors, self.dimension, 1)
        vectors = iter([weight @ signal + bias for weight, bias in zip(weights, biases, strict=True)])
        log_slope = torch.zeros_like(h)
        for u, w in zip(self.mix_in, self.mix_out, strict=True):
            if u is not None:
                h, log_slope = _average(u.exp(), next(vectors), h, log_slope)
            a = self.SLOPE + F.softplus(next(vectors) + ONE)
            pre = torch.addcmul(next(vectors), a, h)
            h, log_slope = _logit_of_mixture(w.exp(), next(vectors), pre, log_slope + a.log())
        return h.view(x.shape), log_slope.view(x.shape)


class DeepSigmoid(DeepDenseSigmoid):
    """DSF (section 3.1, eq. 8): ``layers`` maps h -> logit(w' σ(a h + b)) of one number, in turn."""

    def __init__(self, dimension: int = 16, layers: int = 1, *, signal: int = 16) -> None:
        super().__init__(dimension, layers, signal=signal)

    def _between(self, layers: int) -> list[int]:
        return [1] * (layers - 1)


def _logits(*shape: int) -> nn.Parameter:
    return nn.Parameter(1e-3 * (2 * torch.rand(*shape) - 1))


def _average(matrix: Tensor, logits: Tensor, h: Tensor, log_slope: Tensor) -> tuple[Tensor, Tensor]:
    """U h and log U h', rows of U proportional to those of ``matrix`` times exp(logits)."""
    share, top = torch.exp(logits - logits.amax(0).detach()), log_slope.amax(0).detach()
    columns = torch.stack([share, share * h, share * torch.exp(log_slope - top)], 1)
    total, value, slope = (matrix @ columns.flatten(1)).view(-1, *columns.shape[1:]).unbind(1)
    return value / total, torch.log(slope / total) + top


def _logit_of_mixture(matrix: Tensor, logits: Tensor, pre: Tensor, log_slope: Tensor) -> tuple[Tensor, Tensor]:
    """z = logit(W σ(pre)) and log z', W as above: z = log W σ(pre) - log W σ(-pre), its derivative by pre_j is
    w_j σ(pre_j) σ(-pre_j) (1 / W σ(pre) + 1 / W σ(-pre)), and the normalisers of W cancel.
    """
    log_on = F.logsigmoid(pre)
    on, log_off = logits + log_on, log_on - pre
    on, off, both = LogMatmul.apply(matrix, on, on - pre, on + log_off + log_slope)
    return on - off, both - on + F.softplus(on - off)
