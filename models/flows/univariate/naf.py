"""The transformers of neural autoregressive flows (Huang et al. 2018, arXiv 1804.00779): nets of positive weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from models.flows.univariate.base import Univariate
from models.flows.univariate.newton import MapWithSlope

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

ONE = math.log(math.expm1(1))  # softplus(ONE) = 1: zeros give the identity


class LogMatmul(torch.autograd.Function):
    """log(W exp(v)) for each v (d, n) of several: W (q, d) positive -> (q, n) each, without overflow.

    By hand: one product and one exponential for all, kept for the way back.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, weight: Tensor, *exponents: Tensor) -> tuple[Tensor, ...]:
        shares = torch.stack(exponents, 1)
        top = shares.amax(0)
        shares = shares.sub_(top).exp_().flatten(1)
        sums = weight @ shares
        ctx.save_for_backward(weight, shares, sums)
        return sums.log().view(len(weight), *top.shape).add_(top).unbind(1)

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

    def at(self, params: Tensor) -> MapWithSlope:
        # Units come before elements: then every sum over units adds whole rows.
        signal = params.reshape(-1, self.n_params).T.contiguous()
        weights = self.expand.weight.view(self.vectors, self.dimension, -1)
        biases = self.expand.bias.view(self.vectors, self.dimension, 1)
        vectors = iter([weight @ signal + bias for weight, bias in zip(weights, biases, strict=True)])
        steps: list[Step] = []
        for u, w in zip(self.mix_in, self.mix_out, strict=True):
            if u is not None:
                steps.append(_average(u.exp(), next(vectors)))
            a = self.SLOPE + F.softplus(next(vectors) + ONE)
            steps += [_affine(a, next(vectors)), _logit_of_mixture(w.exp(), next(vectors))]

        def f(x: Tensor) -> tuple[Tensor, Tensor]:
            h = x.reshape(1, -1)
            log_slope = torch.zeros_like(h)
            for step in steps:
                h, log_slope = step(h, log_slope)
            return h.view(x.shape), log_slope.view(x.shape)

        return f


class DeepSigmoid(DeepDenseSigmoid):
    """DSF (section 3.1, eq. 8): ``layers`` maps h -> logit(w' σ(a h + b)) of one number, in turn."""

    def __init__(self, dimension: int = 16, layers: int = 1, *, signal: int = 16) -> None:
        super().__init__(dimension, layers, signal=signal)

    def _between(self, layers: int) -> list[int]:
        return [1] * (layers - 1)


def _logits(*shape: int) -> nn.Parameter:
    return nn.Parameter(1e-3 * (2 * torch.rand(*shape) - 1))


def _average(matrix: Tensor, logits: Tensor) -> Step:
    """h, log h' -> U h, log U h', rows of U proportional to those of ``matrix`` times exp(logits)."""
    share = torch.exp(logits - logits.amax(0).detach())
    total = matrix @ share

    def step(h: Tensor, log_slope: Tensor) -> tuple[Tensor, Tensor]:
        top = log_slope.amax(0).detach()
        columns = torch.stack([share * h, share * torch.exp(log_slope - top)], 1)
        value, slope = (matrix @ columns.flatten(1)).view(len(matrix), *columns.shape[1:]).unbind(1)
        return value / total, torch.log(slope / total) + top

    return step


def _affine(a: Tensor, b: Tensor) -> Step:
    """h, log h' -> a ⊙ h + b, log (a ⊙ h')."""
    log_a = a.log()
    return lambda h, log_slope: (torch.addcmul(b, a, h), log_slope + log_a)


def _logit_of_mixture(matrix: Tensor, logits: Tensor) -> Step:
    """pre, log pre' -> z = logit(W σ(pre)) and log z', W as above: z = log W σ(pre) - log W σ(-pre), its derivative by
    pre_j is w_j σ(pre_j) σ(-pre_j) (1 / W σ(pre) + 1 / W σ(-pre)), and the normalisers of W cancel.
    """

    def step(pre: Tensor, log_slope: Tensor) -> tuple[Tensor, Tensor]:
        log_on = F.logsigmoid(pre)
        on = logits + log_on
        off = on - pre
        on, off, both = LogMatmul.apply(matrix, on, off, off + log_on + log_slope)
        return on - off, both - on + F.softplus(on - off)

    return step
