"""Who is best of a comparability class, and whom the test rows and the seeds do not tell from it."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bench.records import values
from bench.tables.summary import UNRANKED, Standing, Summary, comparability, failures, summarise

MIN_SEEDS = 3
SERIES = "log_likelihood_by_block"
PAIRED, UNPAIRED = "paired test rows and seeds", "seeds alone"
RANKING = (
    "Bold: best of its comparability class (superscript letter), and those not told apart from it; none where these "
    "are more than half of the class. Told apart: |difference of means| > 2 SE with SE² = s²/B + sd_a²/n_a + "
    "sd_b²/n_b: s² is the variance, over B ≤ 100 blocks of consecutive test rows, of the paired difference of the two "
    "log-likelihoods averaged over seeds; sd is over n seeds. Without s²/B where nothing pairs: metrics of samples, "
    "estimates beside the headline likelihood, records without block means, other test rows. Ranked only with three or "
    "more seeds and no failed gate."
)


@dataclass(frozen=True)
class Blocks:
    """``means`` (B,) of a table row's log-likelihood by block of test rows, averaged over its seeds, the metric's unit.

    ``data`` (md5, number of test rows) and ``ends``, the rows up to the end of each block, say which test rows.
    """

    data: tuple[str, int]
    ends: tuple[int, ...]
    means: tuple[float, ...]


@dataclass(frozen=True)
class Member:
    """One row of a table in its comparability class."""

    row: str
    summary: Summary
    blocks: Blocks | None


def standings(cells: Mapping[str, Sequence[dict]], metric: str, samples_only: bool = False) -> dict[str, Standing]:
    """Row -> its place in its comparability class: see ``RANKING``."""
    classes: dict[tuple, list[Member]] = {}
    for row, records in cells.items():
        found = summarise(records, metric)
        uniform = len({comparability([r], samples_only) for r in records}) == 1
        if found and found.n >= MIN_SEEDS and found.better and uniform and not failures(records):
            member = Member(row, found, blocks(records, metric))
            classes.setdefault(comparability(records, samples_only), []).append(member)
    places = dict.fromkeys(cells, UNRANKED)
    for members in classes.values():
        places |= _places(members)
    return places


def _places(members: Sequence[Member]) -> dict[str, Standing]:
    sign = 1 if members[0].summary.better == "higher" else -1
    top = max(members, key=lambda m: sign * m.summary.mean)
    found = {m.row: Standing(0.0) if m is top else _behind(m, top) for m in members}
    tied = [row for row, place in found.items() if place.behind <= 2 * (place.error or 0.0)]
    leaders = tied if 2 * len(tied) <= len(members) else []
    return {row: replace(place, bold=row in leaders) for row, place in found.items()}


def _behind(row: Member, top: Member) -> Standing:
    """|difference of means| with its standard error: which test rows were drawn, and which seeds, are independent.

    What a seed does to single blocks counts in both terms, so the error is rather too wide than too narrow.
    """
    seeds = sum(s.sd**2 / s.n for s in (row.summary, top.summary))
    rows = paired_variance(row.blocks, top.blocks)
    error, kind = (math.sqrt(seeds), UNPAIRED) if rows is None else (math.sqrt(rows + seeds), PAIRED)
    return Standing(abs(row.summary.mean - top.summary.mean), error, kind)


def blocks(records: Sequence[dict], metric: str) -> Blocks | None:
    """What a metric of the headline likelihood is paired by; None for other metrics, and where a seed lacks it."""
    ended = [r for r in records if values([r], metric)]  # the seeds that its mean is taken over
    series = [r["series"].get(SERIES) for r in ended]
    scale = _per_nat(records[0], metric)
    if scale is None or not all(series) or any(None in s["y"] for s in series):
        return None
    data = {(r["data"]["md5"], r["comparability"]["test_rows"]) for r in ended}
    ends = {tuple(s["x"]) for s in series}
    if len(data) != 1 or len(ends) != 1:
        return None
    by_block = zip(*(s["y"] for s in series), strict=True)
    return Blocks(data.pop(), ends.pop(), tuple(scale * statistics.fmean(seeds) for seeds in by_block))


def _per_nat(record: dict, metric: str) -> float | None:
    """|d metric / d log-likelihood|; the truth's log p in KL(truth || model) is the same for all, and cancels."""
    bits = 1 / (math.prod(record["data"]["shape"]) * math.log(2))
    return {"log_likelihood": 1.0, "kl_to_truth": 1.0, "bits_per_dim": bits}.get(metric)


def paired_variance(a: Blocks | None, b: Blocks | None) -> float | None:
    """Variance of the mean difference over the N test rows, the metric's unit squared; None where nothing pairs.

    Block k of n_k rows has the mean difference d_k, of variance σ²/n_k; the mean over rows is m = Σ n_k d_k / N, and
    its variance σ²/N is estimated by Σ n_k (d_k - m)² / (N (B - 1)). This is s²/B where blocks are of one size; their
    sizes differ by one row at most.
    """
    if a is None or b is None or (a.data, a.ends) != (b.data, b.ends) or len(a.ends) < 2:
        return None
    sizes = [end - start for start, end in itertools.pairwise((0, *a.ends))]
    differences = [x - y for x, y in zip(a.means, b.means, strict=True)]
    mean = statistics.fmean(differences, sizes)
    spread = sum(n * (d - mean) ** 2 for n, d in zip(sizes, differences, strict=True))
    return spread / (a.ends[-1] * (len(sizes) - 1))
