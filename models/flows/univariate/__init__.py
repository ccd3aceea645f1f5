"""Monotone scalar maps z = f(x; params): one half of every autoregressive and coupling flow.

The other half, where the parameters come from, is in ``models/flows/conditioner.py``.
"""

from __future__ import annotations

from models.flows.univariate.affine import AdditiveMap, AffineMap, Scale
from models.flows.univariate.base import Univariate
from models.flows.univariate.naf import DeepDenseSigmoid, DeepSigmoid
from models.flows.univariate.sos import SumOfSquares
from models.flows.univariate.splines import SPLINES, CubicSpline, QuadraticSpline, RationalQuadraticSpline, Spline
from models.flows.univariate.umnn import MonotonicNetwork

__all__ = [
    "SPLINES",
    "AdditiveMap",
    "AffineMap",
    "CubicSpline",
    "DeepDenseSigmoid",
    "DeepSigmoid",
    "MonotonicNetwork",
    "QuadraticSpline",
    "RationalQuadraticSpline",
    "Scale",
    "Spline",
    "SumOfSquares",
    "Univariate",
]
