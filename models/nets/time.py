"""Time-conditioned networks. All are *fields*: modules called as ``field(t, x, context=None)``, output shaped like x.

``t`` is a scalar tensor (an ODE solver's time) or has shape (batch,) (one time per example).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"silu": F.silu, "tanh": torch.tanh, "softplus": F.softplus}


def stratified_times(n: int, like: Tensor) -> Tensor:
    """n times, each uniform on [0, 1) and together evenly spread: frac(u + i/n) with one u ~ U[0, 1).

    Lowers the variance of an average over time at no cost (Kingma et al. 2021, arXiv 2107.00630, appendix I.1).
    """
    grid = torch.arange(n, dtype=like.dtype, device=like.device) / n
    return (grid + torch.rand((), dtype=like.dtype, device=like.device)) % 1


class TimeFeatures(nn.Module):
    """t -> (sin ω_k t, cos ω_k t), ω_k geometric in [1, fastest] radians per unit time: (..., ) -> (batch or 1, size).

    The positional encoding of Vaswani et al. (2017, arXiv 1706.03762, section 3.5) for real times.
    """

    def __init__(self, size: int = 32, fastest: float = 10.0) -> None:
        super().__init__()
        frequencies = torch.logspace(0, math.log10(fastest), size // 2)
        self.size = 2 * (size // 2)
        self.register_buffer("frequencies", frequencies.to(torch.get_default_dtype()), persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        angles = t.reshape(-1, 1) * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], 1)


class FourierFeatures(nn.Module):
    """x -> (x, sin B x, cos B x) with fixed random frequencies B ~ N(0, scale²), in radians per unit of x.

    Without them an MLP learns sharp edges in few dimensions very slowly (Tancik et al. 2020, arXiv 2006.10739).
    """

    def __init__(self, d: int, count: int, scale: float = 5.0) -> None:
        super().__init__()
        self.size = d + 2 * count
        self.register_buffer("frequencies", scale * torch.randn(d, count))

    def forward(self, x: Tensor) -> Tensor:
        angles = x @ self.frequencies
        return torch.cat([x, angles.sin(), angles.cos()], 1)


class TimeMLP(nn.Module):
    """An MLP over flattened x whose every hidden layer is shifted by features of time, h <- act(W h + b + U e(t)),
    plus a gain of time alone on x: what a noise or velocity mostly is, and what a narrow MLP finds hard in many
    dimensions.

    Both outputs start at zero, so an untrained field is zero. ``d`` is the number of elements of one x,
    ``d_context`` that of a conditioning vector, ``frequencies`` the number of Fourier features of x.
    """

    def __init__(
        self,
        d: int,
        hidden: Sequence[int] = (128, 128, 128),
        activation: str = "silu",
        d_context: int = 0,
        frequencies: int = 0,
    ) -> None:
        super().__init__()
        self.activation = _activation(activation)
        self.features = TimeFeatures()
        self.input = FourierFeatures(d, frequencies) if frequencies else nn.Identity()
        sizes = [(self.input.size if frequencies else d) + d_context, *hidden]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True))
        self.shifts = nn.ModuleList(nn.Linear(self.features.size, b, bias=False) for b in hidden)
        self.output = _zeroed(nn.Linear(sizes[-1], d))
        self.gain = _zeroed(nn.Linear(self.features.size, 1))

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        h = self.input(x.flatten(1))
        h = h if context is None else torch.cat([h, context.flatten(1)], 1)
        features = self.features(t)
        for layer, shift in zip(self.layers, self.shifts, strict=True):
            h = self.activation(layer(h) + shift(features))
        return (self.output(h) + self.gain(features) * x.flatten(1)).reshape(x.shape)


class ConcatSquashMLP(nn.Module):
    """FFJORD's field: h <- act((W h + b) σ(g t + c) + v t) per layer, no activation after the last; t is a scalar.

    Grathwohl et al. 2019 (arXiv 1810.01367), the "concatsquash" layer of the authors' experiments.
    """

    def __init__(self, d: int, hidden: Sequence[int] = (64, 64, 64), activation: str = "tanh") -> None:
        super().__init__()
        self.activation = _activation(activation)
        sizes = [d, *hidden, d]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True))
        self.gates = nn.ModuleList(nn.Linear(1, b) for b in sizes[1:])
        self.shifts = nn.ModuleList(nn.Linear(1, b, bias=False) for b in sizes[1:])

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        h, time = x.flatten(1), t.reshape(1)
        for i, (layer, gate, shift) in enumerate(zip(self.layers, self.gates, self.shifts, strict=True)):
            # The gate goes into the weights, which are smaller than a batch of activations.
            scale = torch.sigmoid(gate(time))
            h = F.linear(h, scale[:, None] * layer.weight, scale * layer.bias + shift(time))
            h = self.activation(h) if i + 1 < len(self.layers) else h
        return h.reshape(x.shape)


def _activation(name: str) -> Callable[[Tensor], Tensor]:
    if name not in ACTIVATIONS:
        raise ValueError(f"activation is {name!r}; it takes {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def _zeroed(layer: nn.Module) -> nn.Module:
    """The layer with parameters at zero: its network starts as the zero function."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
