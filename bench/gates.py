"""Validity gates: what no honest density may do. A failed gate marks the cell, says why, and stops nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

STANDARD_ERRORS = 3.0
INTEGRAL_TOLERANCE = 0.01

Gates = dict[str, dict]


def verdict(passed: bool, detail: str) -> dict:
    return {"passed": bool(passed), "detail": detail}


def not_above_truth(log_q: Tensor, log_p: Tensor) -> dict:
    """E_p[log q - log p] = -KL <= 0: a paired mean over the same test points may not exceed three standard errors."""
    excess = log_q.double() - log_p.double()
    mean, error = excess.mean().item(), excess.std().item() / math.sqrt(len(excess))
    detail = f"mean log q - log p = {mean:.4f} ± {error:.4f} (standard error) nats over {len(excess)} test points"
    return verdict(mean <= STANDARD_ERRORS * error, detail)


def integrates_to_one(log_q: Tensor, area: float, outside: Tensor) -> tuple[float, dict]:
    """Grid integral of q over a box, plus the share of its own samples outside that box, is 1 within 1 %.

    ``outside`` (n,) bool: the samples that fell outside; its binomial error widens the tolerance.
    """
    share = outside.double().mean().item()
    error = math.sqrt(share * (1 - share) / len(outside))
    integral = (log_q.double().exp().sum() * area).item()
    total = integral + share
    allowed = INTEGRAL_TOLERANCE + STANDARD_ERRORS * error
    detail = f"integral {integral:.4f} on {len(log_q)} cells + {share:.4f} of samples outside = {total:.4f}"
    return total, verdict(abs(total - 1) <= allowed, detail)


def bounds_are_ordered(scores: Mapping[str, Tensor]) -> Gates:
    """A bound <= a tighter one <= the exact value of the same model, in the mean, within three paired standard errors.

    An ODE's value is not in the list: it is the density of another sampler, which no theorem sets above the bound.
    """
    gates: Gates = {}
    for lower, upper in (("lower_bound", "importance_bound"), ("lower_bound", "exact"), ("importance_bound", "exact")):
        if lower in scores and upper in scores:
            gap = (scores[lower] - scores[upper]).double()
            mean, error = gap.mean().item(), gap.std().item() / math.sqrt(len(gap))
            detail = f"mean {lower} - {upper} = {mean:.4f} ± {error:.4f} (standard error) nats"
            gates[f"{lower.replace('_', ' ')} below {upper.replace('_', ' ')}"] = verdict(
                mean <= STANDARD_ERRORS * error, detail
            )
    return gates


def all_finite(values: Tensor, what: str) -> dict:
    bad = int((~torch.isfinite(values)).sum())
    return verdict(bad == 0, f"{bad} of {values.numel()} {what} are not finite")
