"""Drift: bytes of the committed tables, and scores of a fresh run, each difference in its own list."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from bench import drift, freeze
from tests.bench import records_factory as factory


def cells() -> list[dict]:
    return [
        *factory.seeds({"kl_to_truth": (1.0, 1.01, 0.99), "mass_outside": (0.1, 0.1, 0.1)}, "realnvp", "rings"),
        *factory.seeds({"kl_to_truth": (2.0, 2.5, 1.5)}, "maf", "rings"),
    ]


@pytest.fixture
def frozen(tmp_path: Path) -> Path:
    factory.write(cells(), tmp_path / "old" / "cells")
    freeze.freeze(tmp_path / "old", "quick", tmp_path / "paper")
    return tmp_path / "paper"


def fresh(tmp_path: Path, records: list[dict]) -> Path:
    factory.write(records, tmp_path / "new" / "cells")
    return tmp_path / "new"


def test_the_same_run_has_not_drifted(frozen: Path, tmp_path: Path) -> None:
    found = drift.scores("quick", fresh(tmp_path, cells()), frozen)
    assert not found.drifted and found.compared == 2 and not found.new
    assert drift.check(tmp_path / "new", "quick", frozen)[1] is False


def test_times_are_not_compared(frozen: Path, tmp_path: Path) -> None:
    records = cells()
    for r in records:
        r["cost"]["train_seconds"] = 1e6
        r["environment"] = {"device": "another"}
    assert not drift.scores("quick", fresh(tmp_path, records), frozen).drifted


def test_a_changed_score_is_told_from_noise(frozen: Path, tmp_path: Path) -> None:
    records = cells()
    for r in records:
        r["metrics"]["kl_to_truth"]["value"] += 0.3  # far beyond the spread of one row, within that of the other
    found = drift.scores("quick", fresh(tmp_path, records), frozen)
    assert len(found.changed) == 1 and found.changed[0].startswith("realnvp on rings: kl_to_truth 1 frozen, 1.3 now")
    assert found.drifted


def test_the_tolerance_is_floor_or_four_standard_errors() -> None:
    assert drift.tolerance("kl_to_truth", [1.0, 1.0], [1.0, 1.0]) == drift.FLOORS["kl_to_truth"]
    assert drift.tolerance("kl_to_truth", [1.0, 3.0], [5.0]) == pytest.approx(4 * 2**0.5 * 1.5**0.5)
    assert drift.tolerance("something new", [1.0], [1.0]) == drift.OTHER_FLOOR


def test_missing_and_new_are_listed_apart(frozen: Path, tmp_path: Path) -> None:
    records = [r for r in cells() if r["run"]["row"] == "realnvp"] + factory.seeds(
        {"kl_to_truth": (1.0,)}, "vae", "rings"
    )
    for r in records:
        r["metrics"].pop("mass_outside", None)
    found = drift.scores("quick", fresh(tmp_path, records), frozen)
    assert found.missing == ("maf on rings", "realnvp on rings: mass_outside") and found.new == ("vae on rings",)
    assert found.drifted and not found.changed


def test_a_new_divergence_gate_or_setting_is_a_change(frozen: Path, tmp_path: Path) -> None:
    records = copy.deepcopy(cells())
    records[0] |= {"status": "diverged", "reason": "step 3", "metrics": {}}
    records[3]["gates"] = {"integrates to one": {"passed": False, "detail": ""}}
    records[4]["settings_sha256"] = "1" * 64
    found = drift.scores("quick", fresh(tmp_path, records), frozen).changed
    assert [line.split(",")[0] for line in found] == [
        "maf on rings: settings",
        "maf on rings: failed gates",
        "realnvp on rings: status",
    ]


def test_cells_whose_data_are_not_here_are_no_drift(tmp_path: Path) -> None:
    old = [*cells(), *factory.seeds({"bits_per_dim": (1.0,)}, "glow", "mnist", kind="image")]
    factory.write(old, tmp_path / "old" / "cells")
    freeze.freeze(tmp_path / "old", "quick", tmp_path / "paper")
    found = drift.scores("quick", fresh(tmp_path, cells()), tmp_path / "paper")
    assert found.elsewhere == ("glow on mnist",) and not found.drifted


def test_an_edited_table_is_named_with_its_line(frozen: Path, tmp_path: Path) -> None:
    path = frozen / "quick" / "toys.csv"
    path.write_text(path.read_text().replace("realnvp", "realNVP", 1))
    (frozen / "quick" / "images.md").unlink()
    (frozen / "quick" / "stray.md").write_text("x")
    found = drift.rendered("quick", frozen)
    assert [line.split(":")[0] for line in found] == ["images.md", "stray.md", "toys.csv"]
    assert "line " in found[2] and drift.check(fresh(tmp_path, cells()), "quick", frozen)[1] is True


def test_a_tier_never_frozen_has_nothing_to_drift_from(tmp_path: Path) -> None:
    lines, drifted = drift.check(tmp_path, "quick", tmp_path / "paper")
    assert not drifted and "never frozen" in lines[0]


def test_one_broken_seed_does_not_excuse_itself() -> None:
    """Its own spread would, if the fresh run's spread widened the tolerance."""
    frozen, fresh = [0.10, 0.11, 0.09], [0.10, 0.11, 100.0]
    assert abs(sum(fresh) - sum(frozen)) / 3 > drift.tolerance("kl_to_truth", frozen, fresh)


def test_a_run_of_the_first_seed_alone_is_held_to_that_seed(frozen: Path, tmp_path: Path) -> None:
    first = [r for r in cells() if r["run"]["seed"] == 0]
    assert not drift.scores("quick", fresh(tmp_path, first), frozen).drifted
    first[0] |= {"status": "diverged", "reason": "step 3", "metrics": {}}
    found = drift.scores("quick", fresh(tmp_path, first), frozen)
    assert found.changed[0] == "realnvp on rings: status, ok frozen, diverged now"
