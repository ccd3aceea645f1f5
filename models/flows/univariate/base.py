"""What a monotone scalar map is."""

from __future__ import annotations

from torch import Tensor, nn

from models.flows.univariate.bracketing import invert_increasing


class Univariate(nn.Module):
    """An increasing map of the real line, elementwise: x (...), params (..., n_params).

    Both directions return the other end and log dz/dx at the pair, elementwise, shape (...).
    """

    n_params: int

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """x -> (z, log dz/dx)."""
        raise NotImplementedError

    def inverse(self, z: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """z -> (x, log dz/dx at that x). Here by bracketing; a map with a closed inverse overrides it.

        ArithmeticError for a z that the map does not take.
        """
        x = invert_increasing(lambda guess: self(guess, params)[0], z)
        return x, self(x, params)[1]
