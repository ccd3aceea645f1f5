"""Tables: every format, the marks on their cells, who is bold, and the verdict beside a published figure."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from bench import tables
from bench.errors import UserError
from bench.tables.layout import Cell, Section, Table, to_md, to_tex
from bench.tables.ranking import PAIRED, UNPAIRED, blocks, paired_variance, standings
from bench.tables.summary import COLUMNS, comparability, failures, order, summarise, with_spread
from bench.tables.verdict import compare
from tests.bench import records_factory as factory


@pytest.fixture(scope="module")
def run() -> list[dict]:
    return factory.run()


def rows(text: str) -> list[dict]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("name", tables.NAMES)
@pytest.mark.parametrize("fmt", tables.FORMATS)
def test_every_table_renders_in_every_format_from_a_run_and_from_nothing(name: str, fmt: str, run: list[dict]) -> None:
    assert tables.render(name, run, "quick", fmt, recipes={}) == tables.render(
        name, run[::-1], "quick", fmt, recipes={}
    )
    assert tables.render(name, [], "quick", fmt, recipes={})


@pytest.mark.parametrize("name", [n for n in tables.NAMES if n != "claims"])
def test_csv_columns_are_stable(name: str, run: list[dict]) -> None:
    for records in (run, []):
        header = tables.render(name, records, "quick", "csv", recipes={}).splitlines()[0]
        assert header == ",".join(COLUMNS)


def test_a_class_says_how_far_each_seed_came() -> None:
    stopped = factory.seeds({"log_likelihood": (1.0, 2.0)}, "maf", "bsds300")
    for record, steps in zip(stopped, (900, 800), strict=True):
        record["comparability"]["budget"] = f"stopped after {steps} of 1,000 steps"
    for records in (stopped, stopped[::-1]):
        assert (
            dict(comparability(records))["budget"]
            == "stopped after 900 of 1,000 steps / stopped after 800 of 1,000 steps"
        )
    assert dict(comparability(stopped[:1]))["budget"] == "stopped after 900 of 1,000 steps"


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'toys'"):
        tables.render("toy", [], "quick")
    with pytest.raises(UserError, match="table format 'markdown'"):
        tables.render("toys", [], "quick", "markdown")


def test_the_mean_and_its_spread_are_those_of_the_seeds_that_ended_well() -> None:
    records = factory.seeds({"kl_to_truth": (1.0, 2.0, 6.0)}, "realnvp", "rings")
    records.append(factory.record("realnvp", "rings", 3, status="diverged", reason="not finite at step 3"))
    found = summarise(records, "kl_to_truth")
    assert found.mean == pytest.approx(3.0) and found.sd == pytest.approx(7**0.5) and found.n == 3
    assert with_spread(found, 2) == "3.00 ± 2.65 (3)"
    text = tables.render("toys", records, "quick", "md", recipes={})
    assert "3 of 4" in text and "diverged in 1 of 4 seeds: not finite at step 3" in text


def test_one_seed_has_no_spread_and_a_null_is_no_value() -> None:
    assert with_spread(summarise([factory.record(metrics={"kl_to_truth": -0.5})], "kl_to_truth"), 1) == "−0.5 (1)"
    assert summarise([factory.record(metrics={"kl_to_truth": None})], "kl_to_truth") is None


def test_bounds_carry_their_sign() -> None:
    bound = factory.seeds({"kl_to_truth": (1.0,) * 3}, "vae", "rings", likelihood="lower_bound", group="VAE")
    assert "≤ 1.000" in tables.render("toys", bound, "quick", recipes={})
    tabular = factory.seeds(
        {"log_likelihood": (1.0,) * 3}, "vae", "power", likelihood="lower_bound", group="VAE", kind="tabular"
    )
    assert "≥ 1.000" in tables.render("tabular", tabular, "quick", recipes={})


def arms(**values: tuple[float, ...]) -> dict[str, list[dict]]:
    return {row.replace("_", "-"): factory.seeds({"kl_to_truth": v}, row, "rings") for row, v in values.items()}


def bold(cells: dict[str, list[dict]], metric: str, samples_only: bool = False) -> set[str]:
    return {row for row, place in standings(cells, metric, samples_only).items() if place.bold}


def test_bold_is_the_best_and_what_the_seeds_do_not_tell_from_it() -> None:
    cells = arms(a=(1.0, 1.1, 0.9), b=(1.05, 1.15, 0.95), c=(2.0, 2.1, 1.9), d=(3.0, 3.1, 2.9))
    assert bold(cells, "kl_to_truth") == {"a", "b"}


def test_nothing_is_bold_where_most_are_tied() -> None:
    assert bold(arms(a=(1.0,) * 3, b=(1.0,) * 3, c=(2.0,) * 3), "kl_to_truth") == set()


def test_fewer_than_three_seeds_are_not_ranked() -> None:
    assert bold(arms(a=(1.0, 1.1), b=(2.0, 2.1, 2.2)), "kl_to_truth") == set()


def test_a_failed_gate_is_not_ranked_and_says_why() -> None:
    cells = arms(a=(1.0,) * 3, b=(2.0,) * 3, c=(3.0,) * 3)
    cells["a"][1]["gates"] = {"integrates to one": {"passed": False, "detail": "integral 0.9"}}
    assert bold(cells, "kl_to_truth") == {"b"}
    assert failures(cells["a"]) == ["gate `integrates to one` failed in 1 of 3 seeds: integral 0.9"]


def test_likelihood_kinds_are_never_ranked_against_each_other_but_samples_are() -> None:
    cells = arms(a=(2.0,) * 3, b=(3.0,) * 3)
    for row, value in (("c", 0.5), ("d", 1.0)):
        cells[row] = factory.seeds({"kl_to_truth": (value,) * 3}, row, "rings", likelihood="lower_bound")
    assert bold(cells, "kl_to_truth") == {"a", "c"}
    assert bold(cells, "kl_to_truth", samples_only=True) == {"c"}


# --- paired differences ----------------------------------------------------------------------------------------------


def scores(mean: float, rows: np.ndarray, spread: float = 0.01) -> np.ndarray:
    """Three seeds' scores of every test row: what the rows have in common, and ``mean`` give or take ``spread``."""
    centred = rows - rows.mean()
    return mean + centred + spread * np.array([[-1.0], [0.0], [1.0]])


def noise(seed: int, n: int = 400, sd: float = 1.0) -> np.ndarray:
    return sd * np.random.default_rng(seed).standard_normal(n)


def field(**of: np.ndarray) -> dict[str, list[dict]]:
    """Those rows, and two far below them, so that a tie of two is not most of the class."""
    rest = {name: scores(-50.0 - i, noise(9)) for i, name in enumerate("yz")}
    return {row: factory.scored(found, row) for row, found in {**of, **rest}.items()}


def unpaired(cells: dict[str, list[dict]]) -> dict[str, list[dict]]:
    return {row: [r | {"series": {}} for r in found] for row, found in cells.items()}


def test_rows_that_seeds_tell_apart_are_tied_where_the_test_rows_do_not() -> None:
    cells = field(a=scores(0.0, noise(0)), b=scores(-0.1, noise(1)))  # SE .07 of the paired difference, .008 of seeds
    assert bold(unpaired(cells), "log_likelihood") == {"a"}
    assert bold(cells, "log_likelihood") == {"a", "b"}


def test_rows_that_differ_alike_everywhere_are_told_apart_though_each_score_is_uncertain() -> None:
    hard_and_easy = noise(0, sd=10.0)  # .5 of standard error in either mean, none in their difference
    cells = field(a=scores(0.0, hard_and_easy), b=scores(-0.1, hard_and_easy + noise(1, sd=0.1)))
    assert bold(cells, "log_likelihood") == {"a"}
    cells["b"] = factory.scored(scores(-0.1, noise(2, sd=10.0)), "b")
    assert bold(cells, "log_likelihood") == {"a", "b"}


@pytest.mark.parametrize("metric", ["log_likelihood", "kl_to_truth", "bits_per_dim"])
def test_the_standard_error_is_that_of_paired_examples_and_of_seeds(metric: str) -> None:
    a, b = np.random.default_rng(0).standard_normal((2, 3, 40)) + [[[0.0]], [[5.0]]]
    cells = {row: factory.scored(found, row, metric, kind="image") for row, found in (("a", a), ("b", b))}
    variance = (a.mean(0) - b.mean(0)).var(ddof=1) / 40 + sum(x.mean(1).var(ddof=1) / 3 for x in (a, b))
    worse = "a" if metric == "log_likelihood" else "b"
    found = standings(cells, metric)
    assert found[worse].behind == pytest.approx(abs(a.mean() - b.mean())) and found[worse].kind == PAIRED
    assert found[worse].error == pytest.approx(variance**0.5)
    best = found["b" if worse == "a" else "a"]
    assert (best.behind, best.error, best.kind) == (0.0, None, None)


def test_blocks_of_unequal_size_weigh_by_their_rows() -> None:
    """As least squares with weights n_k fits a constant to the differences."""
    cells = [factory.scored(scores(0.0, noise(seed, 250)), "row", blocks=100) for seed in (0, 1)]
    a, b = (blocks(cell, "log_likelihood") for cell in cells)
    sizes = np.diff([0, *a.ends])
    assert set(sizes) == {2, 3}
    constant = np.polyfit(np.zeros(100), np.subtract(a.means, b.means), 0, w=np.sqrt(sizes), cov=True)
    assert paired_variance(a, b) == pytest.approx(constant[1].item())


def _without_blocks(record: dict) -> None:
    record["series"] = {}


def _not_finite(record: dict) -> None:
    record["series"]["log_likelihood_by_block"]["y"][3] = None


def _other_content(record: dict) -> None:
    record["data"] = record["data"] | {"md5": "e" * 32}


def _other_blocks(record: dict) -> None:
    record["series"] = factory.by_block(np.zeros((2, 200)))


@pytest.mark.parametrize("change", [_without_blocks, _not_finite, _other_content, _other_blocks])
@pytest.mark.parametrize("seeds", [[1], [0, 1, 2]])
def test_what_does_not_pair_is_left_to_the_seeds(change: Callable[[dict], None], seeds: list[int]) -> None:
    cells = field(a=scores(0.0, noise(0)), b=scores(-0.1, noise(1)))
    for seed in seeds:
        change(cells["b"][seed])
    place = standings(cells, "log_likelihood")["b"]
    assert place.kind == UNPAIRED and place.error == pytest.approx((2 * 0.01**2 / 3) ** 0.5)
    assert bold(cells, "log_likelihood") == {"a"}


def test_another_number_of_test_rows_never_pairs() -> None:
    a, b = (factory.scored(scores(0.0, noise(seed)), "row") for seed in (0, 1))
    for record in b:
        record["comparability"]["test_rows"] = 10_000
    assert paired_variance(blocks(a, "log_likelihood"), blocks(b, "log_likelihood")) is None


def test_metrics_of_samples_and_second_estimates_are_left_to_the_seeds() -> None:
    for metric in ("total_variation", "log_likelihood_importance_bound"):
        cells = field(a=scores(0.0, noise(0)), b=scores(-0.1, noise(1)))
        for found in cells.values():
            for record in found:
                record["metrics"][metric] = factory.metric(metric, record["metrics"]["log_likelihood"]["value"])
        assert {place.kind for place in standings(cells, metric).values()} == {None, UNPAIRED}


def test_the_long_form_says_how_far_behind_the_best_and_by_what_error() -> None:
    cells = {"a": scores(0.0, noise(0)), "b": scores(-0.1, noise(1))}
    records = [r for row, x in cells.items() for r in factory.scored(x, row, kind="tabular", dataset="power")]
    records += factory.seeds({"log_likelihood": (0.0, 0.0)}, "c", "power", kind="tabular")
    found = {r["row"]: r for r in rows(tables.render("tabular", records, "quick", "csv", recipes={}))}
    shown = {row: [r[f"behind_best{part}"] for part in ("", "_error", "_error_kind")] for row, r in found.items()}
    assert shown["a"] == ["0", "", ""] and shown["c"] == ["", "", ""]
    place = standings({row: [r for r in records if r["run"]["row"] == row] for row in "ab"}, "log_likelihood")["b"]
    assert shown["b"] == ["0.1", f"{place.error:.6g}", PAIRED]


def test_rows_are_ordered_by_family_then_name_with_numbers_by_value() -> None:
    named = [[factory.record(row)] for row in ("snf-20", "snf-5", "maf")] + [[factory.record("vae", group="VAE")]]
    assert [cell[0]["run"]["row"] for cell in sorted(named, key=order)] == ["maf", "snf-5", "snf-20", "vae"]


PUBLISHED = {"value": 0.66, "error": 0.02, "kind": "2 sd / sqrt(N) of one fit", "unit": "nats", "source": "a paper"}


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (0.66, "reproduced"),
        (0.684, "reproduced"),
        (0.636, "reproduced"),
        (0.69, "close"),
        (0.78, "close"),
        (0.9, "not reproduced"),
        (0.2, "not reproduced"),
    ],
)
def test_the_verdict_rule(value: float, verdict: str) -> None:
    ours = summarise([record | {"metrics": {"log_likelihood": _exact(value)}} for record in _three()], "log_likelihood")
    assert compare(ours, PUBLISHED, "paper", (), True).verdict == verdict
    assert compare(ours, PUBLISHED, "paper", ("rebuilt",), True).verdict == "reduced"
    assert compare(ours, PUBLISHED, "quick", (), True).verdict == "reduced"


def _exact(value: float) -> dict:
    return factory.metric("log_likelihood", value) | {"uncertainty": None}


def _three() -> list[dict]:
    return [factory.record(dataset="power", seed=s, kind="tabular", tier="paper") for s in range(3)]


def test_the_tolerance_holds_both_standard_errors_and_the_rounding() -> None:
    records = factory.seeds({"log_likelihood": (0.5, 0.6, 0.7)}, "maf", "power", kind="tabular", tier="paper")
    found = compare(summarise(records, "log_likelihood"), PUBLISHED, "paper", (), True)
    assert found.tolerance == pytest.approx(2 * (0.01**2 + 0.1**2 / 3) ** 0.5 + 0.005)
    spread = compare(summarise(records, "log_likelihood"), PUBLISHED | {"kind": "sd over runs"}, "paper", (), True)
    assert spread.tolerance == pytest.approx(2 * (0.02**2 + 0.1**2 / 3) ** 0.5 + 0.005)


def test_published_figures_stand_beside_ours_or_not_run() -> None:
    recipes = {
        "maf": factory.recipe(
            "maf", published={"power": PUBLISHED, "gas": PUBLISHED, "cifar10": PUBLISHED | {"unit": "bits/dim"}}
        ),
        "realnvp": factory.recipe("realnvp", published={"power": PUBLISHED}),
    }
    records = factory.seeds({"log_likelihood": (0.66, 0.67, 0.65)}, "maf", "power", kind="tabular", tier="paper")
    records.append(factory.record("realnvp", "power", kind="tabular", tier="paper", status="diverged", reason="step 9"))
    found = rows(tables.render("tabular", records, "paper", "csv", recipes))
    verdicts = {(r["row"], r["dataset"]): r["verdict"] for r in found if r["published"]}
    assert verdicts == {
        ("maf", "power"): "reproduced",
        ("maf", "gas"): "not run",
        ("realnvp", "power"): "not reproduced",
    }
    images = rows(tables.render("images", records, "paper", "csv", recipes))
    assert [(r["dataset"], r["verdict"]) for r in images] == [("cifar10", "not run")]
    assert "± is 2 sd / sqrt(N) of one fit" in tables.render("tabular", records, "paper", "md", recipes)


def test_the_score_without_an_atom_stands_beside_the_published_one() -> None:
    part = "miniboone-without-column-4"
    recipes = {
        row: factory.recipe(row, published={"miniboone": PUBLISHED, "power": PUBLISHED}) for row in ("maf", "made")
    }
    records = [
        *factory.seeds({"log_likelihood": (-9.0, -9.2, -9.4)}, "maf", "miniboone", kind="tabular", tier="paper"),
        *factory.seeds({"log_likelihood": (-11.0, -11.2, -11.4)}, "maf", part, kind="tabular", tier="paper"),
    ]
    page = tables.render("tabular", records, "paper", "md", recipes).split("## Against the published figures")[1]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("|")]
    shown = {(line[0], line[2]): line[-1] for line in lines[2:]}
    assert lines[0][-1] == "ours without its atom"
    assert shown["MAF", "miniboone"].startswith("−11.20 ± 0.20 (3)") and part in page
    assert (shown["MADE", "miniboone"], shown["MADE", "power"]) == ("—", "")


def test_axes_take_the_representative_named_beforehand_and_show_the_gap(run: list[dict]) -> None:
    found = rows(tables.render("axes", run, "quick", "csv", recipes={}))
    flows = {r["row"] for r in found if r["dataset"] == "checkerboard" and r["group"] == "normalizing flow"}
    assert flows == {"rq-nsf-ar"}
    gaps = [
        r
        for r in found
        if r["metric"] == "gap_to_importance_bound" and r["dataset"] == "checkerboard" and r["row"] == "vae"
    ]
    assert float(gaps[0]["mean"]) == pytest.approx(0.05, abs=1e-5)


def test_markup_cannot_break_a_table() -> None:
    table = Table("t", "T", "c", (Section("s", ("h",), ((Cell("a|b_<x>&", True, ("1",)),),)),), ("h",), ())
    assert "| **a\\|b_<x>&**<sup>1</sup> |" in to_md(table)
    assert r"\textbf{a$|$b\_$<$x$>$\&}\textsuperscript{1}" in to_tex(table)


def test_rendering_needs_neither_torch_nor_matplotlib() -> None:
    modules = "sys, bench.tables, bench.claims, bench.freeze, bench.drift"
    code = f"import {modules}; print({{'torch', 'matplotlib'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
