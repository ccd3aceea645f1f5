"""Agreement of a univariate map with nflows; whole rows are compared in ``tests/bench/test_speed.py``."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from nflows.transforms.splines import unconstrained_rational_quadratic_spline

from models.flows.univariate import RationalQuadraticSpline

pytestmark = pytest.mark.usefixtures("float64")
close = partial(torch.testing.assert_close, atol=1e-8, rtol=1e-8)


def test_spline_is_nflows() -> None:
    bins, bound = 7, 2.5
    x, params = 2 * torch.randn(400), 2 * torch.randn(400, 3 * bins - 1)
    spline = RationalQuadraticSpline(bins, bound)
    for inverse, mine in ((False, spline.forward), (True, spline.inverse)):
        expected, log_det = unconstrained_rational_quadratic_spline(
            x, *params.split([bins, bins, bins - 1], 1), inverse=inverse, tail_bound=bound
        )
        value, log_slope = mine(x, params)
        close(value, expected)
        close(log_slope, -log_det if inverse else log_det)
