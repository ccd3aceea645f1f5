"""Gaussianization flow (Meng et al. 2020, arXiv 2003.01941): make every coordinate normal, rotate, repeat."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.base import StandardNormal
from models.flows.linear import Rotation
from models.flows.univariate.newton import invert_increasing
from models.layer import ChainModel, Layer, sum_rest
from models.preprocessing import Squash, preprocessing
from models.registry import DataSpec, register


class FirstBatch(nn.Module):
    """A module whose parameters start from the first batch that it sees in training mode, as actnorm's do."""

    def __init__(self, *args: object, enabled: bool = True) -> None:
        super().__init__(*args)
        self.register_buffer("initialized", torch.tensor(not enabled))
        self._ready = not enabled  # mirrors the buffer once it is True: reading the buffer waits for the device

    def initialize(self, x: Tensor) -> None:
        """Set the parameters from x (batch, D)."""
        raise NotImplementedError

    @torch.no_grad()
    def see(self, x: Tensor) -> None:
        """To be called with every batch, first of all."""
        if self.training and not self._ready:
            if not bool(self.initialized):
                self.initialize(x)
                self.initialized.fill_(True)
            self._ready = True


def log_mills(z: Tensor) -> Tensor:
    """log Φ(z) / φ(z) for z <= 0, the Mills ratio; near 0 by the scaled complementary error function, far out by
    its asymptotic series, whose gradient does not cancel."""
    near, far = z.clamp_min(-30.0), z.clamp_max(-30.0)
    inner = torch.log(torch.special.erfcx(-near * math.sqrt(0.5))) + 0.5 * math.log(math.pi / 2)
    t = far**-2
    outer = torch.log1p(-t * (1 - t * (3 - t * (15 - 105 * t)))) - torch.log(-far)
    return torch.where(z > -30.0, inner, outer)


class _LogNormalQuantile(torch.autograd.Function):
    NEWTON = 3  # each step doubles the digits of a start that has two or more
    generate_vmap_rule = True

    @staticmethod
    def forward(log_p: Tensor) -> Tensor:
        near = torch.special.ndtri(log_p.clamp_min(-30.0).exp())
        square = -2 * log_p.clamp_max(-30.0)
        far = -torch.sqrt(square - torch.log(2 * math.pi * (square - torch.log(2 * math.pi * square))))
        z = torch.where(log_p > -30.0, near, far)
        for _ in range(_LogNormalQuantile.NEWTON):
            z = z - (torch.special.log_ndtr(z) - log_p) * torch.exp(log_mills(z))
        return z

    @staticmethod
    def setup_context(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor], z: Tensor) -> None:
        ctx.save_for_backward(z)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        return grad * torch.exp(log_mills(z))


def log_normal_quantile(log_p: Tensor) -> Tensor:
    """z <= 0 with log Φ(z) = log p <= log ½, however small p is; differentiable any number of times."""
    return _LogNormalQuantile.apply(log_p)


class KernelLayer(FirstBatch, Layer):
    """z_d = Φ⁻¹(F_d(x_d)), F_d(x) = 1/K sum_k σ((x - μ_kd) / h_kd): per coordinate the distribution function of K
    logistic kernels, then the normal's inverse.

    Of F and 1 - F the smaller is used, in logarithms, and log dz/dx = log(F'/F) + log(Φ/φ) adds two tame numbers
    where log F' - log φ would cancel huge ones: value, slope and gradients keep their digits far into the tails.

    ``start`` "data" takes K quantiles of the first batch as anchors (the authors take K rows), "normal" draws them;
    the widths start at (4 √π / (π⁴ K))^(1/5) standard deviations and stay above 1e-7, both as in the authors' code.
    """

    NARROWEST = 1e-7

    def __init__(self, dim: int, anchors: int, start: Literal["data", "normal"] = "data") -> None:
        if start not in ("data", "normal"):
            raise ValueError(f"start is {start!r}; it takes data or normal")
        if anchors < 1:
            raise ValueError(f"anchors is {anchors}; a kernel layer takes at least one")
        super().__init__(enabled=start == "data")
        self.anchors = nn.Parameter(torch.randn(anchors, dim))
        self.log_widths = nn.Parameter(torch.full((anchors, dim), self._log_bandwidth(anchors)))

    def encode(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.see(x)
        z, log_slope = self._gaussianize(x)
        return z, sum_rest(log_slope)

    def decode(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, log_slope = invert_increasing(self._gaussianize, z)
        return x, sum_rest(log_slope)

    def _gaussianize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z and log dz/dx, elementwise; inside, kernels come first: (K, batch, D)."""
        log_widths = self.log_widths.clamp_min(math.log(self.NARROWEST))[:, None]
        u = (x - self.anchors[:, None]) * torch.exp(-log_widths)
        log_below = F.logsigmoid(u)
        log_above = log_below - u
        log_f, log_rest = torch.logsumexp(log_below, 0), torch.logsumexp(log_above, 0)
        upper = log_f > log_rest
        log_tail = torch.where(upper, log_rest, log_f)
        quantile = log_normal_quantile(log_tail - math.log(len(self.anchors)))
        log_hazard = torch.logsumexp(log_below + log_above - log_tail - log_widths, 0)
        return torch.where(upper, -quantile, quantile), log_hazard + log_mills(quantile)

    def initialize(self, x: Tensor) -> None:
        count = len(self.anchors)
        levels = (torch.arange(count, dtype=x.dtype, device=x.device) + 0.5) / count
        self.anchors.copy_(torch.quantile(x, levels, dim=0))
        spread = x.std(0, unbiased=False).clamp_min(self.NARROWEST)
        self.log_widths.copy_((self._log_bandwidth(count) + spread.log()).expand(count, -1))

    @staticmethod
    def _log_bandwidth(count: int) -> float:
        return math.log(4 * math.sqrt(math.pi) / (math.pi**4 * count)) / 5


@register("gaussianization")
def gaussianization(
    spec: DataSpec,
    *,
    layers: int = 5,
    anchors: int = 100,
    reflections: int | None = None,
    start: Literal["data", "normal"] = "data",
    squash: Squash = "standardize",
) -> ChainModel:
    """Gaussianization flow (arXiv 2003.01941): ``layers`` kernel layers with rotations of ``reflections`` (D unless
    given) between. The authors' code rotates once more at the end, which a normal density does not feel.
    """
    if len(spec.shape) != 1:
        raise ValueError(f"gaussianization takes vectors, not data of shape {spec.shape}")
    if layers < 1:
        raise ValueError(f"layers is {layers}; gaussianization takes at least one")
    steps: list[Layer] = [KernelLayer(spec.dim, anchors, start)]
    for _ in range(layers - 1):
        steps += [Rotation(spec.dim, reflections or spec.dim), KernelLayer(spec.dim, anchors, start)]
    return ChainModel([*preprocessing(spec, squash=squash), *steps], StandardNormal(spec.shape))
