"""Data that are not numbers, disks that fill up, raw files with wrong bytes: nothing half-written stays."""

from __future__ import annotations

import os
import resource
import subprocess
from functools import partial

import pytest

from tests.workflow.conftest import complaint

NOT_A_NUMBER = """
import dataclasses
import numpy as np
from bench.datasets.info import Splits, Variant
from bench.datasets.loaders import analytic

def _build(request):
    rows = np.zeros((10, 2), np.float32)
    broken = rows.copy()
    broken[3, 1] = np.nan
    return Splits(rows, broken, rows)

DATASETS = (dataclasses.replace(analytic.DATASETS[0], name="broken", variants=(Variant("embedded", _build, "none"),)),)
"""


def small_files(limit: int) -> None:
    """Every write past ``limit`` bytes of a file fails, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def test_a_nan_in_the_data(copied):
    (copied.tree / "bench" / "datasets" / "loaders" / "broken.py").write_text(NOT_A_NUMBER)
    line = complaint(copied.bench("prepare", "broken"))
    assert "nan" in line and "row 3" in line and "column 1" in line
    assert copied.files() == []


def test_a_mirror_with_the_wrong_bytes(workspace, mirror):
    line = complaint(workspace.bench("fetch", "mnist", "--mirror", str(mirror)))
    assert "md5" in line or "sha256" in line
    assert [f for f in workspace.files() if f.startswith("data") and not f.endswith(".lock")] == []


def test_a_file_that_cannot_be_written_while_preparing(workspace):
    line = complaint(workspace.bench("prepare", "digits", preexec_fn=partial(small_files, 20_000)))
    assert "digits" in line or "prepared" in line
    assert workspace.files() == []


@pytest.mark.slow
def test_a_file_that_cannot_be_written_while_training(workspace):
    assert workspace.bench("prepare", "checkerboard", "--tier", "smoke").returncode == 0
    before = workspace.files()
    train = ("train", "realnvp", "checkerboard", "--tier", "smoke")
    complaint(workspace.bench(*train, preexec_fn=partial(small_files, 3_000)))
    assert workspace.files() == before
    done = workspace.bench(*train)
    assert done.returncode == 0, done.stderr
    assert any(name.endswith("seed0.json") for name in workspace.files())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_disk_that_fills_up(workspace):
    disk = workspace.folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        line = complaint(workspace.bench("prepare", "digits", "--data", str(disk)))
        assert "space" in line.lower()
        assert workspace.files() == []
    finally:
        subprocess.run(["umount", disk], check=True)
