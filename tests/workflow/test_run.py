"""Real runs of the smallest tier: complete, repeated, killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from bench import records, workflow
from tests.workflow.conftest import Workspace

pytestmark = pytest.mark.slow
CELL = "results/smoke/cells/checkerboard/realnvp/seed0.json"
LONGER = "results/quick/cells/checkerboard/realnvp/seed0.json"


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Workspace:
    """One complete, uninterrupted run."""
    run = Workspace(tmp_path_factory.mktemp("run"))
    done = run.snakemake(tier="smoke")
    assert done.returncode == 0, done.stdout + done.stderr
    return run


def lasting(path: Path) -> dict:
    """A record without what may differ between two runs of the same cell."""
    return {key: value for key, value in json.loads(path.read_text()).items() if key not in records.VOLATILE}


def test_every_cell_has_its_records_and_every_table_is_there(finished):
    planned = workflow.plan({"tier": "smoke"})
    for name in planned.records():
        record = records.read(finished.folder / name)
        assert record["status"] == "ok", record["reason"]
    tables = finished.folder / "results" / "smoke" / "tables"
    assert {path.name for path in tables.iterdir()} == {f"{t}.{f}" for t in workflow.TABLES for f in ("md", "csv")}
    assert "</html>" in (finished.folder / "results" / "smoke" / "report" / "index.html").read_text()


def test_nothing_half_written_and_no_checkpoint_stays(finished):
    assert not [name for name in finished.files() if name.endswith((".part", ".ckpt", ".tmp"))]


def test_a_second_run_does_nothing(finished):
    done = finished.snakemake(tier="smoke")
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout + done.stderr


def test_other_rendering_retrains_nothing(finished):
    """The rest of the graph is there to be asked for alone."""
    done = finished.snakemake("-n", "--forcerun", "tables", tier="smoke")
    assert done.returncode == 0
    assert "train" not in (done.stdout + done.stderr).split("Job stats:")[1].split("Reasons:")[0]


def wait_for(condition, seconds: float = 120) -> None:
    """Until it is true, or the time is over."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> dict:
    """The record of a cell that trains for some seconds, left in peace."""
    run = Workspace(tmp_path_factory.mktemp("uninterrupted"))
    assert run.snakemake(LONGER, tier="quick", seeds=1).returncode == 0
    return lasting(run.folder / LONGER)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=lambda how: how.name)
def test_a_killed_run_is_completed_by_the_next(uninterrupted, workspace, how):
    """Killed in the middle of training, Snakemake and its job alike; the next run needs no option to go on."""
    command = workspace.snakemake_command(LONGER, tier="quick", seeds=1)
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    # A background job of a shell ignores Ctrl-C, and its children with it; a user's terminal does not.
    heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    process = subprocess.Popen(command, cwd=workspace.folder, env=workspace.environment, **silent, **heard)
    checkpoint = (workspace.folder / LONGER).with_suffix(".ckpt")
    wait_for(checkpoint.exists)
    os.killpg(process.pid, how)
    assert process.wait(60) != 0
    assert checkpoint.exists() and not (workspace.folder / LONGER).exists(), "killed too late to show anything"
    done = workspace.snakemake(LONGER, tier="quick", seeds=1)
    assert done.returncode == 0, done.stdout + done.stderr
    assert lasting(workspace.folder / LONGER) == uninterrupted
    assert not checkpoint.exists()


def test_two_folders_one_result(finished, workspace):
    """The same cell by the command line alone, in another folder, ends in the same record."""
    assert workspace.bench("train", "realnvp", "checkerboard", "--tier", "smoke").returncode == 0
    assert lasting(workspace.folder / CELL) == lasting(finished.folder / CELL)
