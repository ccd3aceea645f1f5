"""The page: self-contained, complete, and honest about what failed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench import report
from bench.errors import UserError
from tests.bench import records_factory as factory


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("run")
    kept = ("realnvp", "maf", "vae", "ffjord", "snf-none", "snf-metropolis")
    found = [
        r
        for r in factory.run()
        if r["run"]["row"] in kept and r["run"]["dataset"] in ("rings", "four-circles", "digits")
    ]
    found[0]["reason"] = "<script>alert(1)</script>"
    found[0]["status"] = "failed"
    factory.write(found, folder / "cells")
    factory.artifacts(found, folder / "cells")
    out = report.write(folder, folder / "report" / "index.html", folder / "prepared")
    return out.read_text(encoding="utf-8")


def test_the_page_loads_nothing_from_elsewhere(page: str) -> None:
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert "<script" not in page


def test_every_section_and_every_link_has_its_target(page: str) -> None:
    targets = re.findall(r'href="#([\w-]+)"', page)
    assert {"claims", "axes", "toys", "images", "tabular", "maps", "samples", "curves", "trouble", "provenance"} <= set(
        targets
    )
    assert all(f'id="{target}"' in page for target in targets)


def test_failed_gates_and_diverged_runs_are_told(page: str) -> None:
    trouble = page[page.index('id="trouble"') :]
    assert "gate `integrates to one` failed in 3 of 3 seeds" in trouble
    assert "diverged in 1 of 3 seeds: the loss was not finite at step 412" in trouble


def test_provenance_names_commit_machine_and_data(page: str) -> None:
    provenance = page[page.index('id="provenance"') :]
    assert "c" * 40 in provenance and "d" * 32 in provenance and "torch" in provenance


def test_a_run_without_records_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there are no records"):
        report.write(tmp_path, tmp_path / "index.html", tmp_path)
    assert not (tmp_path / "index.html").exists()
