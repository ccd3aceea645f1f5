"""Sum-of-squares polynomials (Jaini et al. 2019, arXiv 1905.02325)."""

from __future__ import annotations

import torch
from torch import Tensor

from models.flows.univariate.base import Univariate
from models.flows.univariate.newton import MapWithSlope

KNOTS = 33  # where the map is tabulated before it is inverted


class SumOfSquares(Univariate):
    """z = c + ∫₀ˣ m + Σ_k (Σ_l a_kl uˡ)² du, k = 1..``polynomials``, l = 0..``degree`` (section 3, eq. 9).
    Params: a_kl by k, less 1/√K for l = 0, so that zeros give about the identity; then c.

    The integral is closed: ∫₀¹ tⁱ⁺ʲ dt = 1 / (i+j+1) makes it x Σ_k b_k' H b_k with b_kl = a_kl xˡ and H Hilbert's
    matrix, once more a sum of squares after H's Cholesky factor, so nothing cancels. Beyond ±``bound`` the map goes
    on along its tangent, for polynomials of degree 9 leave the floating-point numbers after a few layers; with the
    least slope m = ``minimum`` it takes every value. The paper has neither.
    """

    def __init__(self, polynomials: int = 5, degree: int = 4, *, bound: float = 5.0, minimum: float = 1e-3) -> None:
        super().__init__()
        if polynomials < 1 or degree < 1:
            raise ValueError(f"polynomials is {polynomials} and degree is {degree}; both are at least 1")
        if bound <= 0 or minimum <= 0:
            raise ValueError(f"bound is {bound} and minimum is {minimum}; both are positive")
        self.polynomials, self.bound, self.minimum = polynomials, bound, minimum
        self.n_params = polynomials * (degree + 1) + 1
        power = torch.arange(degree + 1, dtype=torch.float64)
        roots = torch.linalg.cholesky(1 / (power[:, None] + power + 1)).T
        # The sums that are squared: those of the mean of the slope from 0 to x, and in the last row that at x.
        sums = torch.cat([roots, torch.ones_like(roots[:1])])
        identity = (power == 0)[:, None] / polynomials**0.5
        knots = torch.linspace(-bound, bound, KNOTS, dtype=torch.float64)
        # x times the mean slope, and the slope, are linear in the products Σ_k a_ki a_kj: cheap at many x.
        both = power[:, None] + power
        squares = knots[:, None, None] ** both
        tables = [knots[:, None, None] * squares / (both + 1), squares]
        buffers = {
            "sums": sums,
            "identity": identity,
            "knots": knots,
            "at_knots": torch.cat([table.flatten(1) for table in tables]),
            "least": minimum * torch.cat([knots, torch.ones_like(knots)])[:, None],
        }
        for name, value in buffers.items():
            self.register_buffer(name, value.to(torch.get_default_dtype()), persistent=False)

    def _coefficients(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """a (polynomials, powers, elements) and c (elements): a short last dimension would be slow."""
        rows = params.reshape(-1, self.n_params).T.contiguous()
        return rows[:-1].view(self.polynomials, len(self.identity), rows.shape[1]) + self.identity, rows[-1]

    def at(self, params: Tensor) -> MapWithSlope:
        a, shift = self._coefficients(params)

        def f(x: Tensor) -> tuple[Tensor, Tensor]:
            flat = x.reshape(-1)
            inside = flat.clamp(-self.bound, self.bound)
            squares = (self.sums @ (a * self._powers(inside))).square().sum(0)
            mean, slope = self.minimum + squares[:-1].sum(0), self.minimum + squares[-1]
            z = shift + inside * mean + (flat - inside) * slope
            return z.view(x.shape), slope.log().view(x.shape)

        return f

    def start(self, z: Tensor, params: Tensor) -> Tensor:
        """The cubic Hermite interpolant of the inverse at ``KNOTS`` points, and beyond them its tangents."""
        a, shift = self._coefficients(params)
        products = (a[:, :, None] * a[:, None]).sum(0).flatten(0, 1)
        values, slopes = torch.addmm(self.least, self.at_knots, products).chunk(2)
        centred = z - shift
        inside = torch.minimum(torch.maximum(centred, values[0]), values[-1])
        left = (inside >= values[1:-1]).sum(0)
        ends = torch.stack([left, left + 1])
        (x0, x1), (z0, z1), slopes = self.knots[ends], values.gather(0, ends), slopes.gather(0, ends)
        width, height = x1 - x0, z1 - z0
        t = (inside - z0) / height
        excess0, excess1 = height / width / slopes - 1  # of the inverse's slope over the bin's mean, at its two ends
        theta = torch.addcmul(t, t * (1 - t), torch.lerp(excess0, -excess1, t)).clamp(0, 1)
        x = x0 + width * theta + (centred - inside) / torch.lerp(*slopes, t)
        # The products may cancel, and a knot seem no higher than the one before.
        return x.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)

    def _powers(self, x: Tensor) -> Tensor:
        """1, x, x², ... (degree + 1, n)."""
        return torch.stack([x**l for l in range(len(self.identity))])
