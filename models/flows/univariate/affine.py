"""Affine maps."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from models.flows.univariate.base import Univariate

Scale = Literal["exp", "tanh", "sigmoid"]


class AffineMap(Univariate):
    """z = s x + t with params (a, t) and the scale s(a) > 0 one of

    * ``exp``: s = e^a, unbounded (Real NVP, arXiv 1605.08803, eq. 5; MAF, arXiv 1705.07057);
    * ``tanh``: log s = b tanh(a / b), so that |log s| < b = ``bound``;
    * ``sigmoid``: s = σ(a + 2) + 10⁻³, contracting only (Glow's code, and the affine re-runs in neural spline flows).
    """

    n_params = 2

    def __init__(self, scale: Scale = "exp", bound: float = 2.0) -> None:
        super().__init__()
        if scale not in ("exp", "tanh", "sigmoid"):
            raise ValueError(f"scale is {scale!r}; it takes exp, tanh or sigmoid")
        self.scale, self.bound = scale, bound

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift = self._log_scale(params[..., 0]), params[..., 1]
        return x * torch.exp(log_scale) + shift, log_scale

    def inverse(self, z: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift = self._log_scale(params[..., 0]), params[..., 1]
        return (z - shift) * torch.exp(-log_scale), log_scale

    def _log_scale(self, a: Tensor) -> Tensor:
        if self.scale == "exp":
            return a
        if self.scale == "tanh":
            return self.bound * torch.tanh(a / self.bound)
        return torch.log(torch.sigmoid(a + 2) + 1e-3)


class AdditiveMap(Univariate):
    """z = x + t with params (t,), the volume-preserving map of NICE (Dinh et al. 2015, arXiv 1410.8516)."""

    n_params = 1

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        return x + params[..., 0], torch.zeros_like(x)

    def inverse(self, z: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        return z - params[..., 0], torch.zeros_like(z)
