"""Runs of Snakemake as a user starts them, in folders of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.paths import ROOT

PARTS = ("models", "bench", "config", "recipes", "workflows", "data", "Snakefile", "pyproject.toml", "CONTRIBUTING.md")
BANNER = "Using workflow specific profile"  # Snakemake's own first line on stderr


@dataclass(frozen=True)
class Workspace:
    """A folder to run in, and the tree whose Snakefile and code are run."""

    folder: Path
    tree: Path = ROOT

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", *arguments]

    def snakemake(self, *arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
        return self.run(self.snakemake_command(*arguments, **settings))

    def snakemake_command(self, *arguments: str, **settings: object) -> list[str]:
        config = ["--config", *(f"{key}={value}" for key, value in settings.items())] if settings else []
        where = ["-s", str(self.tree / "Snakefile"), "--directory", str(self.folder), "--cores", "2"]
        return self.command("snakemake", *where, *arguments, *config)

    def bench(self, *arguments: str, **keywords: object) -> subprocess.CompletedProcess[str]:
        return self.run(self.command("bench", *arguments), **keywords)

    def run(self, command: Sequence[str], **keywords: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, text=True, capture_output=True, **keywords
        )

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.tree), "OMP_NUM_THREADS": "1"}

    def files(self) -> list[str]:
        """Every file below the folder, but for Snakemake's own and logs."""
        found = (path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file())
        return sorted(str(path) for path in found if not {".snakemake", "logs"} & set(path.parts))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def _made_here(folder: str, names: list[str]) -> list[str]:
    """What git does not keep."""
    return [name for name in names if name == "__pycache__" or (folder == str(ROOT / "data") and "." not in name)]


@pytest.fixture
def copied(tmp_path: Path) -> Workspace:
    """A copy of the tree that a test may change, and a folder to run in."""
    tree, folder = tmp_path / "tree", tmp_path / "run"
    tree.mkdir()
    folder.mkdir()
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, tree / part, ignore=_made_here)
        else:
            shutil.copy(source, tree / part)
    (tree / "profiles").symlink_to("workflows/profiles")
    return Workspace(folder, tree)


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """A folder with an (empty) file at the place of each raw file: enough to plan with."""
    from bench.datasets.raw.pins import PIN_FOLDER, read_pin

    folder = tmp_path / "mirror"
    for pin in PIN_FOLDER.glob("*.dvc"):
        path = folder / read_pin(pin.stem).path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that a user's mistake is answered with."""
    assert done.returncode == 2, f"exit code {done.returncode}\n{done.stderr}"
    lines = [line for line in done.stderr.splitlines() if line and not line.startswith(BANNER)]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("relaxbench: ")
    return lines[0]
