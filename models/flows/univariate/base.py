"""What a monotone scalar map is."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.flows.univariate.newton import MapWithSlope, implicit, solve_increasing


class Univariate(nn.Module):
    """An increasing map of the real line, elementwise: x (...), params (..., n_params).

    Both directions return the other end and log dz/dx at the pair, elementwise, shape (...). A map with a closed
    inverse writes both; one without writes ``at`` alone.
    """

    n_params: int
    share = 1.0  # of the elements: when so many are inverted, the others go on alone. The dearer ``at``, the more.

    def at(self, params: Tensor) -> MapWithSlope:
        """x -> (z, log dz/dx) at these parameters. What depends on them alone is made here, once for many x."""
        raise NotImplementedError

    def start(self, z: Tensor, params: Tensor) -> Tensor:
        """Where the search for the x of each z (n,) begins; params (n, n_params). The nearer, the fewer evaluations."""
        return z

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """x -> (z, log dz/dx)."""
        return self.at(params)(x)

    def inverse(self, z: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """z -> (x, log dz/dx at that x), differentiable once: x's derivatives are those of the implicit function.

        ArithmeticError for a z that the map does not take.
        """
        with torch.no_grad():
            rows = params.reshape(-1, params.shape[-1])
            flat = z.reshape(-1)
            found = solve_increasing(
                lambda which: self.at(rows[which]), flat, start=self.start(flat, rows), share=self.share
            )
            x, log_slope = (value.view(z.shape) for value in found)
        return implicit(lambda: self.at(params), z, x, log_slope)
