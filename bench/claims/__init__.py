"""The survey's claims: what each says, how it is tested, and the rule fixed before anyone looked at a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.claims import diffflow, images, modes, snf, survey, symmetry
from bench.claims.base import Claim, Finding, Result
from bench.records import identity

CLAIMS = (
    *images.CLAIMS,
    *snf.ABLATION_CLAIMS,
    *diffflow.CLAIMS,
    *modes.CLAIMS,
    *symmetry.CLAIMS,
    *snf.EFFICIENCY_CLAIMS,
    *survey.CLAIMS,
)
REGISTRY: Mapping[str, Claim] = {claim.id: claim for claim in CLAIMS}

__all__ = ["CLAIMS", "REGISTRY", "Claim", "Finding", "Result", "evaluate_all"]


def evaluate_all(records: Sequence[dict]) -> list[Result]:
    """Every claim of ``REGISTRY``, in its order; a claim whose records are missing is ``not run``."""
    found = sorted(records, key=identity)  # sums of floats must not depend on the order of files
    return [Result(claim, claim.decide(found)) for claim in REGISTRY.values()]
