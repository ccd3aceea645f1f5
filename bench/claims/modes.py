"""(d) What a plain flow does with separated modes: bridges between them, or their loss."""

from __future__ import annotations

from bench.claims.rules import Comparison, Level, Side, claim

FLOW = Side("normalizing flow", ("realnvp",))
NO_NOISE = Side("flow without stochastic blocks", ("snf-none", "realnvp"))
NOISE = Side("stochastic normalizing flow", ("snf-langevin", "snf-metropolis", "snf-underdamped"))
EXACT = Side("symmetric SurVAE flow", ("abs-flow",))
THEME = "(d) Bridges and mode collapse of a plain flow"
COUNT = "modes"

CLAIMS = (
    claim(
        "nf-bridges",
        THEME,
        "A normalizing flow smears mass between separated modes, as a homeomorphism must.",
        "the survey, section 7, expressivity",
        # By construction .1 % of the truth itself lies outside the region; ten times that is a bridge.
        Level(FLOW, "mass_outside", "mass outside the modes", "share of samples", ("eight-gaussians",), 0.01),
    ),
    claim(
        "nf-mode-collapse",
        THEME,
        "Trained on an energy, a normalizing flow loses modes.",
        "the survey, section 7, expressivity",
        Level(NO_NOISE, "modes_missed", "modes missed", COUNT, ("gaussian-mixture",), 0.5),
    ),
    claim(
        "snf-keeps-modes",
        THEME,
        "Stochastic blocks bring back modes that a flow trained on an energy loses.",
        "the survey, section 7, expressivity (SNF over NF)",
        Comparison(NOISE, NO_NOISE, "modes_missed", "modes missed", COUNT, ("gaussian-mixture",)),
    ),
)
