"""Freezing: records byte for byte, tables from them alone, nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import drift, freeze
from bench.errors import UserError
from bench.paths import PAPER_TABLES
from tests.bench import records_factory as factory


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "results" / "quick"
    factory.write(factory.run()[:60], folder / "cells")
    (folder / "cells" / "checkerboard" / "realnvp" / "seed0.npz").write_bytes(b"arrays")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_records_are_copied_byte_for_byte_without_arrays(run: Path, tmp_path: Path) -> None:
    freeze.freeze(run, "quick", tmp_path / "paper")
    frozen = content(tmp_path / "paper" / "records" / "quick")
    assert frozen == {k: v for k, v in content(run / "cells").items() if k.endswith(".json")}
    assert {p.name for p in (tmp_path / "paper" / "quick").iterdir()} == {
        f"{name}.{fmt}" for name in ("tabular", "images", "toys", "axes", "claims") for fmt in ("md", "csv")
    }


def test_freezing_twice_or_elsewhere_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    freeze.freeze(run, "quick", tmp_path / "a")
    freeze.freeze(run, "quick", tmp_path / "deep" / "er" / "b")
    first = content(tmp_path / "a")
    freeze.freeze(run, "quick", tmp_path / "a")
    assert first == content(tmp_path / "a") == content(tmp_path / "deep" / "er" / "b")


def test_a_cell_that_the_new_run_lacks_is_no_longer_frozen(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "paper"
    freeze.freeze(run, "quick", target)
    for path in (run / "cells" / "checkerboard" / "realnvp").iterdir():
        path.unlink()
    freeze.freeze(run, "quick", target)
    assert not (target / "records" / "quick" / "checkerboard" / "realnvp").exists()
    assert drift.rendered("quick", target) == []


def test_added_cells_replace_their_own_and_leave_the_others(run: Path, tmp_path: Path) -> None:
    target, cells = tmp_path / "paper", run / "cells"
    freeze.freeze(run, "quick", target)
    before = content(target / "records" / "quick")
    (again, *others) = sorted((cells / "checkerboard").iterdir())
    for path in [p for folder in others for p in folder.iterdir()]:
        path.unlink()
    for path in sorted(again.glob("*.json"))[1:]:
        path.unlink()  # a cell is replaced whole: its seeds belong together
    lines = freeze.freeze(run, "quick", target, add=True)
    after = content(target / "records" / "quick")
    gone = {name for name in before if name.startswith(f"checkerboard/{again.name}/")} - after.keys()
    assert gone and before.keys() - after.keys() == gone
    assert f"{len(before) - len(gone) - len(content(cells))} more stay" in lines[0]
    assert drift.rendered("quick", target) == []


@pytest.mark.parametrize("tier", [folder.name for folder in (PAPER_TABLES / "records").iterdir()])
def test_the_committed_tables_are_those_of_the_committed_records(tier: str) -> None:
    assert drift.rendered(tier) == []


def test_nothing_to_freeze_and_a_foreign_tier_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there are no records"):
        freeze.freeze(tmp_path / "nowhere", "quick", tmp_path / "paper")
    with pytest.raises(UserError, match="holds records of tier quick"):
        freeze.freeze(run, "paper", tmp_path / "paper")
    assert not (tmp_path / "paper").exists()


def test_uncommitted_code_is_said(tmp_path: Path) -> None:
    record = factory.record()
    record["code"]["dirty"] = True
    factory.write([record], tmp_path / "cells")
    assert any("uncommitted" in line for line in freeze.freeze(tmp_path, "quick", tmp_path / "paper"))
