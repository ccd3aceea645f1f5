"""Sentences of the survey's section 7 that any run can check: likelihood kinds, passes, training speed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.claims.base import Claim, Evidence, Finding
from bench.claims.rules import Comparison, Side, claim, dots
from bench.claims.statistics import Interval
from bench.records import by_cell, values

THEME = "Section 7: likelihood, sampling and training across families"
BOUNDS = ("lower_bound", "importance_bound")
TOYS = ("checkerboard", "eight-gaussians", "two-moons")


def _continuous(record: dict) -> bool:
    """Dequantization makes any model's score a bound, so kinds are compared on continuous data."""
    return record["likelihood"] is not None and record["data"]["levels"] is None


def _exact_by_group(record: dict) -> tuple[str, ...] | None:
    """The kinds the survey predicts for a record, None where it says nothing."""
    run = record["run"]
    if run["row"] in ("abs-flow", "signed-abs-flow"):
        return ("exact",)
    if run["row"] == "snf-none":
        return None
    kinds = {
        "normalizing flow": ("exact",),
        "VAE": BOUNDS,
        "stochastic normalizing flow": (*BOUNDS, "none"),
        "DiffFlow": (*BOUNDS, "ode"),
        "score-based": ("ode",),
    }
    return kinds.get(run["group"])


def decide_kinds(records: Sequence[dict]) -> Finding:
    return _census(
        [r for r in records if _continuous(r) and _exact_by_group(r)],
        lambda r: r["likelihood"]["kind"] in _exact_by_group(r),
        lambda r: f"{r['run']['row']} is {r['likelihood']['kind']}",
        Evidence(""),
    )


def decide_one_pass(records: Sequence[dict]) -> Finding:
    cells = by_cell(
        r for r in records if r["run"]["group"] in ("VAE", "normalizing flow") and values([r], "sampling_passes")
    )
    shown: dict[str, list[dict]] = {}
    for (_, row), cell in cells.items():
        shown.setdefault(row, cell)
    return _census(
        [r for cell in cells.values() for r in cell],
        lambda r: r["cost"]["sampling_passes"] <= 1,
        lambda r: f"{r['run']['row']} on {r['run']['dataset']}: {r['cost']['sampling_passes']:g} passes",
        Evidence(
            "network passes per sample",
            tuple(dots(c, "sampling_passes", "one cell per row") for c in shown.values()),
            reference=1,
        ),
    )


def _census(
    records: Sequence[dict], holds: Callable[[dict], bool], describe: Callable[[dict], str], evidence: Evidence
) -> Finding:
    """A sentence about every record: supported if all agree, refuted by a single one; nothing is sampled."""
    if not records:
        return Finding("not run", detail="no records to look at")
    broken = [r for r in records if not holds(r)]
    # One example a row: the other data sets of a row break the sentence for the same reason.
    exceptions = list({r["run"]["row"]: describe(r) for r in broken}.values())
    share = 1 - len(broken) / len(records)
    seeds = len({r["run"]["seed"] for r in records})
    detail = f"{len(records)} records" + (f"; exceptions: {', '.join(exceptions)}" if exceptions else ", no exception")
    return Finding(
        "refuted" if exceptions else "supported",
        Interval(share, share, share),
        "share of records",
        seeds,
        detail,
        evidence,
    )


CENSUS_RULE = "supported if it holds for every record, refuted if for any it does not; no interval, nothing is sampled"

CLAIMS = (
    Claim(
        "likelihood-kinds",
        THEME,
        "Normalizing flows and SurVAE flows made of inference surjections have exact likelihoods, score models through "
        "the probability-flow ODE; VAEs, SNFs and DiffFlow do not.",
        "the survey, section 7, likelihood tractability",
        "every cell on continuous data, by the kind of likelihood derived from the model's layers",
        "share of records whose kind is the one the survey names",
        CENSUS_RULE,
        decide_kinds,
    ),
    Claim(
        "one-pass-sampling",
        THEME,
        "VAEs and normalizing flows sample in a single pass.",
        "the survey, section 7, sampling efficiency",
        "every cell of both families; passes counted by hooks during sampling",
        "share of records with at most one pass of any network",
        CENSUS_RULE,
        decide_one_pass,
    ),
    claim(
        "diffusion-many-passes",
        THEME,
        "Diffusion models need many passes where a flow needs one.",
        "the survey, section 7, sampling efficiency",
        Comparison(
            Side("diffusion", ("ddpm-simple", "ddpm")), Side("normalizing flow", ("realnvp",)), "sampling_passes",
            "network passes per sample", "×", (*TOYS, "rings", "two-spirals"), "higher", margin=10, ratio=True,
        ),
    ),
    claim(
        "vae-trains-fast",
        THEME,
        "VAEs train faster than normalizing flows.",
        "the survey, section 7, training speed",
        Comparison(
            Side("VAE", ("vae",)), Side("normalizing flow", ("realnvp",)), "seconds_to_within",
            "seconds to within .1 nat of its end", "×", TOYS, ratio=True,
        ),
    ),
    claim(
        "snf-trains-easier",
        THEME,
        "SNFs are easier to train than normalizing flows: they converge in fewer steps.",
        "the survey, section 7, training speed",
        Comparison(
            Side("SNF", ("snf-metropolis", "snf-langevin")),
            Side("flow without stochastic blocks", ("snf-none", "realnvp")),
            "steps_to_within", "steps to within .1 nat of its end", "×", ("double-well", "gaussian-mixture"),
            ratio=True,
        ),
    ),
)  # fmt: skip
