"""Claims: intervals against scipy, the decision rules, and each claim on records where the answer is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from bench.claims import REGISTRY, evaluate_all
from bench.claims.diffflow import at_steps
from bench.claims.rules import Comparison, Side, inside, one_sided
from bench.claims.statistics import Interval, contrast, difference, mean, slope, stratified
from tests.bench import records_factory as factory

A, B = [1.0, 1.4, 0.8, 1.1], [2.0, 2.9, 2.2]


def test_the_difference_is_welchs() -> None:
    found, reference = difference(A, B), stats.ttest_ind(A, B, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high))


def test_the_mean_is_students() -> None:
    reference = stats.ttest_1samp(A, 0).confidence_interval(0.95)
    assert (mean(A).low, mean(A).high) == pytest.approx((reference.low, reference.high))


def test_the_slope_is_least_squares() -> None:
    x, y = [1.0, 1.0, 2.0, 3.0, 5.0], [2.0, 2.3, 2.9, 4.4, 6.1]
    reference = stats.linregress(x, y)
    half = stats.t.ppf(0.975, 3) * reference.stderr
    found = slope(x, y)
    assert (found.low, found.high) == pytest.approx((reference.slope - half, reference.slope + half))


def test_the_stratified_interval_covers() -> None:
    rng, hits = np.random.default_rng(0), 0
    for _ in range(400):
        pairs = [(list(rng.normal(1, 1, 4)), list(rng.normal(0, 2, 3))) for _ in range(3)]
        found = stratified(pairs)
        hits += found.low <= 1.0 <= found.high
    assert 0.92 <= hits / 400 <= 0.99


def test_no_spread_is_an_interval_of_no_width() -> None:
    assert contrast([(1.0, [3.0, 3.0]), (-1.0, [1.0, 1.0])]) == Interval(2.0, 2.0, 2.0)


def test_one_sided_and_two_sided_decisions() -> None:
    assert one_sided(Interval(1, 0.5, 1.5), 0) == "supported"
    assert one_sided(Interval(1, -0.5, 1.5), 0) == "inconclusive"
    assert one_sided(Interval(-1, -1.5, -0.5), 0) == "refuted"
    assert inside(Interval(0, -0.1, 0.1), -0.2, 0.2) == "supported"
    assert inside(Interval(0.2, 0.1, 0.3), -0.2, 0.2) == "inconclusive"
    assert inside(Interval(1, 0.5, 1.5), -0.2, 0.2) == "refuted"


def compare(a: dict[str, tuple], b: dict[str, tuple], metric: str = "kl_to_truth", **options):
    """A comparison of rows a and b over the data sets given, with their values per seed."""
    records = [r for row, of in (("a", a), ("b", b)) for d, v in of.items() for r in factory.seeds({metric: v}, row, d)]
    test = Comparison(
        Side("A", ("a",)), Side("B", ("b",)), metric, "KL", "nats", tuple(dict.fromkeys([*a, *b])), **options
    )
    return test, test(records), records


LOW, HIGH = (1.0, 1.1, 0.9), (2.0, 2.1, 1.9)


def test_a_comparison_decides_by_its_expected_sign() -> None:
    assert compare({"x": LOW}, {"x": HIGH})[1].verdict == "supported"
    assert compare({"x": HIGH}, {"x": LOW})[1].verdict == "refuted"
    assert compare({"x": HIGH}, {"x": LOW}, expected="higher")[1].verdict == "supported"
    finding = compare({"x": LOW}, {"x": HIGH})[1]
    assert finding.effect.estimate == pytest.approx(-1.0) and finding.seeds == 3


def test_a_margin_must_be_cleared() -> None:
    assert compare({"x": LOW}, {"x": HIGH}, margin=-0.5)[1].verdict == "supported"
    assert compare({"x": LOW}, {"x": HIGH}, margin=-2.0)[1].verdict == "refuted"
    assert (
        compare({"x": (20.0, 21.0, 19.0)}, {"x": LOW}, expected="higher", ratio=True, margin=10)[1].verdict
        == "supported"
    )
    assert compare({"x": (5.0, 5.1, 4.9)}, {"x": LOW}, expected="higher", ratio=True, margin=10)[1].verdict == "refuted"


def test_a_comparison_at_equal_size_is_void_where_the_winner_is_larger() -> None:
    test, _, records = compare({"x": LOW}, {"x": HIGH}, no_larger=True)
    for size, verdict in ((100, "supported"), (101, "inconclusive")):
        for record in records:
            record["cost"]["parameters"] = size if record["run"]["row"] == "a" else 100
        assert test(records).verdict == verdict


def test_fewer_than_three_seeds_decide_nothing() -> None:
    finding = compare({"x": (1.0, 1.0)}, {"x": HIGH})[1]
    assert finding.verdict == "inconclusive" and "fewer than three" in finding.detail


def test_a_data_set_that_says_otherwise_is_not_averaged_away() -> None:
    finding = compare({"x": LOW, "y": HIGH}, {"x": (9.0, 9.1, 8.9), "y": LOW})[1]
    assert finding.verdict == "inconclusive" and "y says otherwise" in finding.detail


def test_missing_data_sets_are_named_and_missing_rows_are_not_run() -> None:
    assert "no cells on y" in compare({"x": LOW, "y": LOW}, {"x": HIGH})[1].detail
    test, _, _ = compare({"x": LOW}, {"x": HIGH})
    assert test([]).verdict == "not run"


def test_a_failed_gate_voids_a_likelihood_but_not_what_samples_show() -> None:
    for metric, verdict in (("kl_to_truth", "inconclusive"), ("mass_outside", "supported")):
        test, _, records = compare({"x": LOW}, {"x": HIGH}, metric)
        records[0]["gates"] = {"integrates to one": {"passed": False, "detail": "0.9"}}
        finding = test(records)
        assert finding.verdict == verdict


def test_every_claim_is_not_run_without_records_and_decided_with_a_run() -> None:
    assert {r.finding.verdict for r in evaluate_all([])} == {"not run"}
    results = evaluate_all(factory.run())
    assert [r.claim.id for r in results] == list(REGISTRY)
    assert "not run" not in {r.finding.verdict for r in results}
    verdicts = {r.claim.id: r.finding.verdict for r in results}
    assert verdicts["survae-symmetric"] == "supported" and verdicts["diffflow-slowest"] == "refuted"
    assert verdicts["one-pass-sampling"] == "refuted" and verdicts["snf-linear-cost"] == "supported"


def test_the_json_is_stable_and_holds_no_nan() -> None:
    content = [r.to_json() for r in evaluate_all(factory.run())]
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    keys = {
        "id",
        "theme",
        "sentence",
        "section",
        "experiment",
        "statistic",
        "rule",
        "verdict",
        "effect",
        "interval",
        "unit",
        "seeds",
        "detail",
    }
    assert all(set(c) == keys for c in content)


def test_order_of_records_does_not_matter() -> None:
    run = factory.run()
    assert [r.to_json() for r in evaluate_all(run)] == [r.to_json() for r in evaluate_all(run[::-1])]


def test_steps_are_interpolated_and_never_extrapolated() -> None:
    record = factory.record(series={"mass_outside_by_steps": ([2, 8, 32], [0.4, 0.2, 0.1])})
    assert at_steps(record, 4) == pytest.approx(0.3) and at_steps(record, 8) == pytest.approx(0.2)
    assert at_steps(record, 64) is None and at_steps(factory.record(), 4) is None


def test_a_row_without_a_likelihood_is_not_the_slowest_to_converge() -> None:
    own = factory.seeds({}, "diffflow", "rings", {"seconds_to_within": (5.0, 5.1, 4.9)}, likelihood="lower_bound")
    flow = factory.seeds({}, "realnvp", "rings", {"seconds_to_within": (1.0, 1.1, 0.9)})
    gan = factory.seeds({}, "gan", "rings", {"seconds_to_within": (9.0, 9.1, 8.9)}, likelihood="none")
    assert REGISTRY["diffflow-slowest"].decide([*own, *flow, *gan]).verdict == "supported"


def test_bridges_and_kinds_follow_their_records() -> None:
    def verdict(name: str, records: list[dict]) -> str:
        return REGISTRY[name].decide(records).verdict

    bridged = factory.seeds({"mass_outside": (0.05, 0.06, 0.055)}, "realnvp", "eight-gaussians")
    assert verdict("nf-bridges", bridged) == "supported"
    clean = factory.seeds({"mass_outside": (0.002, 0.003, 0.002)}, "realnvp", "eight-gaussians")
    assert verdict("nf-bridges", clean) == "refuted"
    assert verdict("likelihood-kinds", clean) == "supported"
    wrong = factory.seeds({"mass_outside": (0.1,) * 3}, "vae", "rings", group="VAE", likelihood="exact")
    assert verdict("likelihood-kinds", clean + wrong) == "refuted"
