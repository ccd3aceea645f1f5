"""(e) A surjection that knows the symmetry of the data, at equal parameter count."""

from __future__ import annotations

from bench.claims.rules import Comparison, Side, claim

SYMMETRIC = ("corners", "eight-gaussians", "four-circles")
ABS = Side("flow with an absolute-value surjection", ("abs-flow",))
SIGNED = Side("flow with a learned-sign absolute value", ("signed-abs-flow",))
PLAIN = Side("the same flow without it", ("survae-baseline",))
THEME = "(e) SurVAE flows on data with known symmetry"


def _kl(side: Side, datasets: tuple[str, ...]) -> Comparison:
    return Comparison(side, PLAIN, "kl_to_truth", "KL to the truth", "nats", datasets, no_larger=True)


CLAIMS = (
    claim(
        "survae-symmetric",
        THEME,
        "Where the data's symmetry is known, a SurVAE flow that builds it in fits better at equal size.",
        "the survey, section 7, expressivity",
        _kl(ABS, SYMMETRIC),
    ),
    claim(
        "survae-antisymmetric",
        THEME,
        "The same holds for an anti-symmetric density, with a learned sign.",
        "the survey, section 7, expressivity",
        _kl(SIGNED, ("checkerboard",)),
    ),
    claim(
        "survae-sharper",
        THEME,
        "SurVAE flows are sharper where symmetries are known, and without any noise.",
        "the survey, section 7, expressivity and open questions",
        Comparison(
            ABS, PLAIN, "mass_outside", "mass outside the support", "share of samples", SYMMETRIC, no_larger=True
        ),
    ),
)
